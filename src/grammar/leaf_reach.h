// What: how far a leaf of a form can be followed into the tokens that begin with some bytes: which
//   of them it takes whole, and behind which bytes of longer ones the leaf may end, so that the
//   rest is for whatever follows in the form.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/token_id.h"
#include "grammar/form_leaf.h"
#include "grammar/token_vocabulary.h"

namespace tg {

using MaskWords = std::vector<std::uint32_t>;  // bit i of word i / 32: id i may come

void add_to_mask(std::span<const TokenId> ids, MaskWords& mask);

// Walks the subtree below `from` from state `state`. Sets the bits of tokens that are taken whole
// and, unless `borders` is nullptr, appends the nodes below which the form may go on. Returns how
// many nodes it looked at.
std::uint64_t reach_leaf(const TokenVocabulary& vocabulary, const FormLeaf& leaf,
                         FormLeaf::State state, std::uint32_t from, MaskWords& mask,
                         std::vector<std::uint32_t>* borders);

// The same for a counted string inside of its quotes, with the characters that each token has: made
// once, it serves all counts and limits.
struct CountedReach {
  struct Counted {
    std::uint32_t of;  // an id, or a node
    std::uint32_t characters;
  };
  MaskWords mask;
  std::vector<Counted> tokens;   // of the mask; those of the most characters, begun or whole, first
  std::vector<Counted> closing;  // of the mask, with the second quote at their end
  std::vector<Counted> borders;  // nodes behind the second quote
};
CountedReach reach_characters(const TokenVocabulary& vocabulary, const FormLeaf& leaf,
                              FormLeaf::State state);

// What is left of it with at least and at most so many more characters.
void limit_reach(const CountedReach& all, std::uint32_t least, std::uint32_t most, MaskWords& mask,
                 std::vector<std::uint32_t>& borders);

}  // namespace tg
