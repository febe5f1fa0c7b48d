// What: where in a growing text its last few tokens (n of them) stood before: a hash table from
// each
//   run of n tokens to its latest place, and from each place to the one before it. Adding a token
//   and looking one up take the same short time however long the text is.
// Who owns: the proposer, per user. Thread: its.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/token_id.h"

namespace tg {

class NgramIndex {
 public:
  explicit NgramIndex(std::size_t n) : n_(n) {}

  // Takes in the runs of `text` that end before its last token (its own last run would be the first
  // thing to be found otherwise). `text` begins with what earlier calls were given.
  void extend(std::span<const TokenId> text);

  // The latest place at which the last n tokens of `text` ended before, as an index of the token;
  // kNone without one. extend(text) came before.
  static constexpr std::int32_t kNone = -1;
  std::int32_t latest(std::span<const TokenId> text) const;
  // The place before that, of the same tokens.
  std::int32_t before(std::int32_t place) const {
    return previous_[static_cast<std::size_t>(place)];
  }

 private:
  // The slot of the run that ends with token `end`, or the free one where it belongs.
  std::size_t slot_of(std::span<const TokenId> text, std::size_t end) const;
  void grow(std::span<const TokenId> text);

  std::size_t n_;
  std::size_t indexed_ = 0;             // tokens of the text at which a run was taken in
  std::size_t used_ = 0;                // slots
  std::vector<std::int32_t> latest_;    // [power of two], by hash; kNone: free
  std::vector<std::int32_t> previous_;  // [indexed_]
};

}  // namespace tg
