// What: two marks that go through a chat template and are gone before the merging.
//   Shield: keeps the text of special tokens in a user's message text. The template's own
//   <|eot_id|> must become the token and the user's must not, but a rendered prompt is one string.
//   So a mark goes into the user's before rendering, which keeps it from being found. Cut: parts
//   text that is to be encoded apart on both sides, as Meta's own ChatFormat does with a header's
//   newlines and the content behind them. A template may write it (llama3-meta does).
// Who owns: nothing. Thread: any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace tg {

// Noncharacters: for use inside programs and never for interchange, says the Unicode standard
// (23.7).
inline constexpr std::string_view kShieldMark = "\xEF\xB7\x90";  // U+FDD0
inline constexpr std::string_view kCutMark = "\xEF\xB7\x91";     // U+FDD1

// `text` with a shield inside every special token's text in it (not of "added but not special"
// ones: they are always parsed). Marks that the text has itself get a shield in front and come out
// again. A special token of one character cannot be shielded.
std::string shield_special(const Tokenizer& tokenizer, std::string_view text);

// Ids of a rendered prompt: special tokens are parsed but for the shielded ones, marks are taken
// out again, and text is encoded apart on both sides of a cut. Without marks it is
// Tokenizer::encode(rendered, SpecialTokens::kParse).
std::vector<TokenId> encode_shielded(const Tokenizer& tokenizer, std::string_view rendered);

// The prompt as a reader should see it.
std::string without_marks(std::string_view rendered);

}  // namespace tg
