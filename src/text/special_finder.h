// What: finds the tokens that are cut out of a text before it is split and merged: special tokens
//   and added ones. At each place the longest one wins, and the leftmost place comes first.
// Who owns: the tokenizer. Thread: const from any.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/token_id.h"

namespace tg {

class SpecialFinder {
 public:
  struct Entry {
    std::string text;  // not empty
    TokenId id;
  };
  struct Found {
    std::size_t begin;
    std::size_t length;
    TokenId id;
  };

  SpecialFinder() = default;
  // Two entries of one text: which id is found is not said; callers refuse that before.
  explicit SpecialFinder(std::vector<Entry> entries);

  // The first place at or after `from`. Time: O(text * longest entry) at worst, about one load per
  // byte on usual text.
  std::optional<Found> find(std::string_view text, std::size_t from) const;

  // The id of the token with exactly this text.
  std::optional<TokenId> id_of(std::string_view text) const;

 private:
  std::vector<Entry> entries_;      // sorted by text
  std::array<bool, 256> starts_{};  // by first byte: some entry starts with it
};

}  // namespace tg
