// What: byte-pair encoding of one piece of text: the bytes become tokens, and as long as some
//   neighbouring pair has a merge, the pair of best (lowest) rank is merged, the leftmost of equals
//   first. (Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword
//   units", 2016, on bytes as in GPT-2.) O(n log n) for n bytes, whatever they are.
// Who owns: the tokenizer; fixed after construction. Thread: const from any, each with a Scratch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token_id.h"
#include "text/token_table.h"

namespace tg {

struct Merge {
  TokenId left;
  TokenId right;
  TokenId merged;
  std::uint32_t rank;
};

class BytePairEncoder {
 public:
  // What one call of append() works in; reusing it saves allocations.
  struct Scratch {
    struct Symbol {
      TokenId id;              // -1: merged into the symbol before it
      std::uint32_t previous;  // index; meaningless for the first symbol
      std::uint32_t next;      // index; number of symbols for the last one
    };
    // A pair that can be merged, as it was when it was found: stale when either side has changed.
    struct Candidate {
      std::uint64_t order;  // rank, then position: the smallest is merged first
      TokenId left;
      TokenId right;
      TokenId merged;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  BytePairEncoder() = default;
  // Of two merges of one pair the one with the lower rank counts. whole_pieces_first: a piece that
  // is a token as a whole becomes it without any merge ("ignore_merges"; tiktoken does so too).
  // A vocabulary may lack bytes that its training text did not have (SmolLM2's lacks 21, most of
  // them never part of UTF-8): such a byte becomes `unknown`, or nothing when there is none, as in
  // Hugging Face's encoder. kBadInput when the vocabulary has no byte at all.
  static Result<BytePairEncoder> build(const TokenTable& tokens, const std::vector<Merge>& merges,
                                       bool whole_pieces_first, std::optional<TokenId> unknown);

  // Appends the tokens of `piece` to out. `tokens` is the table that build() saw.
  void append(std::string_view piece, const TokenTable& tokens, Scratch& scratch,
              std::vector<TokenId>& out) const;

 private:
  struct Slot {
    std::uint64_t pair;
    std::uint32_t rank;
    TokenId merged;
  };

  const Slot* find(TokenId left, TokenId right) const;
  void add(const Merge& merge);
  void append_merged(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;
  void push_candidate(Scratch& scratch, std::uint32_t left_index) const;

  std::array<TokenId, 256> byte_tokens_{};  // -1: none
  std::vector<Slot> slots_;  // open addressing over a power of two, at most half full
  bool whole_pieces_first_ = false;
};

}  // namespace tg
