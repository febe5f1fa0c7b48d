#include "text/pre_tokenizer.h"

#include <utility>

namespace tg {

Status PreTokenizer::add(std::string_view regex) {
  constexpr std::size_t kMost = 16;
  if (patterns_.size() == kMost) {
    return error(ErrorCode::kUnsupported, "more than {} split patterns", kMost);
  }
  TG_ASSIGN(SplitPattern pattern, SplitPattern::compile(regex));
  patterns_.push_back(std::move(pattern));
  return {};
}

void PreTokenizer::split(std::string_view text, SplitWork& work,
                         std::vector<std::string_view>& pieces) const {
  pieces.clear();
  if (text.empty()) return;
  pieces.push_back(text);
  std::vector<std::string_view> finer;
  for (const SplitPattern& pattern : patterns_) {
    finer.clear();
    for (const std::string_view piece : pieces) pattern.split(piece, work, finer);
    pieces.swap(finer);
  }
}

}  // namespace tg
