// What: keeps the text of special tokens in a user's message text, through a chat template. The
//   template's own <|eot_id|> must become the token and the user's must not, but a rendered prompt
//   is one string. So a mark goes into the user's before rendering, which keeps them from being
//   found, and out again in front of the merging.
// Who owns: nothing. Thread: any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace tg {

// `text` with a mark (the noncharacter U+FDD0) inside every special token's text in it; marks that
// were there are doubled. A special token of one character cannot be shielded.
std::string shield_special(const Tokenizer& tokenizer, std::string_view text);

// Ids of a rendered prompt: special tokens are parsed but for the shielded ones, and marks are
// taken out again. Without marks: Tokenizer::encode(rendered, SpecialTokens::kParse).
std::vector<TokenId> encode_shielded(const Tokenizer& tokenizer, std::string_view rendered);

}  // namespace tg
