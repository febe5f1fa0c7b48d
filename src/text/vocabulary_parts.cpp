#include "text/vocabulary_parts.h"

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace tg {

TokenTable::Token token_of_spelling(std::string_view spelled) {
  if (std::optional<std::string> bytes = bytes_of_spelling(spelled)) {
    return {*std::move(bytes), true};
  }
  return {std::string(spelled), false};
}

Result<Merge> resolve_merge(std::string_view left, std::string_view right, std::size_t rank,
                            const SpellingIds& ids) {
  std::string joined(left);
  joined += right;
  TokenId found[3] = {};
  std::size_t i = 0;
  for (const std::string_view spelled : {left, right, std::string_view(joined)}) {
    const auto id = ids.find(spelled);
    if (id == ids.end()) {
      return error(ErrorCode::kBadInput,
                   "merge {} joins {} and {}, but {} is not in the vocabulary", rank,
                   shown_text(left), shown_text(right), shown_text(spelled));
    }
    found[i++] = id->second;
  }
  return Merge{found[0], found[1], found[2], static_cast<std::uint32_t>(rank)};
}

Result<std::pair<std::string_view, std::string_view>> cut_merge(std::string_view text,
                                                                std::size_t rank) {
  const std::size_t space = text.find(' ');
  if (space == 0 || space == std::string_view::npos || space + 1 == text.size() ||
      text.find(' ', space + 1) != std::string_view::npos) {
    return error(ErrorCode::kBadInput, "merge {} is {}, not two tokens with a space between", rank,
                 shown_text(text));
  }
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

}  // namespace tg
