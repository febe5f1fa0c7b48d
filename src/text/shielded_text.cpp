#include "text/shielded_text.h"

#include <algorithm>

#include "text/utf8.h"

namespace tg {
namespace {

// For use inside programs and never for interchange, says the Unicode standard (23.7).
constexpr std::string_view kMark = "\xEF\xB7\x90";

std::string with_marks_doubled(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t mark = std::min(text.find(kMark, at), text.size());
    out += text.substr(at, mark - at);
    if (mark == text.size()) break;
    out += kMark;
    out += kMark;
    at = mark + kMark.size();
  }
  return out;
}

// A single mark goes, a double one becomes single.
std::string without_shields(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t mark = std::min(text.find(kMark, at), text.size());
    out += text.substr(at, mark - at);
    if (mark == text.size()) break;
    at = mark + kMark.size();
    if (!text.substr(at).starts_with(kMark)) continue;
    out += kMark;
    at += kMark.size();
  }
  return out;
}

}  // namespace

std::string shield_special(const Tokenizer& tokenizer, std::string_view text) {
  const std::string source = with_marks_doubled(text);
  std::string out;
  std::size_t copied = 0;
  std::size_t from = 0;
  while (const auto found = tokenizer.find_special_in(source, from)) {
    // Behind the first character; the next search starts there, for tokens that overlap.
    const std::size_t first = utf8_step(std::string_view(source).substr(found->begin)).length;
    from = found->begin + first;
    out.append(source, copied, from - copied);
    copied = from;
    if (first < found->length) out += kMark;
  }
  out.append(source, copied);
  return out;
}

std::vector<TokenId> encode_shielded(const Tokenizer& tokenizer, std::string_view rendered) {
  std::vector<TokenId> ids;
  for (std::size_t at = 0; at < rendered.size();) {
    const auto found = tokenizer.find_special_in(rendered, at);
    const std::size_t end = found ? found->begin : rendered.size();
    const std::vector<TokenId> text =
        tokenizer.encode(without_shields(rendered.substr(at, end - at)), SpecialTokens::kAsText);
    ids.insert(ids.end(), text.begin(), text.end());
    if (!found) break;
    ids.push_back(found->id);
    at = found->begin + found->length;
  }
  return ids;
}

}  // namespace tg
