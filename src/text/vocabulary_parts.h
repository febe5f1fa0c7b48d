// What: the steps that tokenizer.json and GGUF share: tokens and merges given as text in the
//   printable byte alphabet.
// Who owns: pure functions. Thread: any. Only for the loaders of this folder.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/byte_pair_encoder.h"
#include "text/token_table.h"

namespace tg {

// One more than the highest id that is accepted, 4 times the largest vocabulary in use: the table
// has a row of some 50 bytes for every id below the highest, so one huge id would cost memory.
inline constexpr std::int64_t kMostTokens = std::int64_t{1} << 20;

// The token that the vocabulary spells `spelled`. A spelling with a character outside of the
// alphabet stands for its own UTF-8 bytes, and text never becomes it by merging (Hugging Face's
// byte-level decoder does the same).
TokenTable::Token token_of_spelling(std::string_view spelled);

// Ids by spelling, for resolving merges.
using SpellingIds = std::unordered_map<std::string_view, TokenId>;

// The merge of rank `rank`. kBadInput when either side or what they make is not in the vocabulary.
Result<Merge> resolve_merge(std::string_view left, std::string_view right, std::size_t rank,
                            const SpellingIds& ids);

// "left right" cut at its space. kBadInput when there is not exactly one space, or a side is empty.
Result<std::pair<std::string_view, std::string_view>> cut_merge(std::string_view text,
                                                                std::size_t rank);

}  // namespace tg
