#include "grammar/leaf_reach.h"

#include <array>

namespace tg {
namespace {

// Kinds of bytes of which each one leaves the automaton in the state it is in.
class LoopKinds {
 public:
  explicit LoopKinds(const ByteAutomaton& automaton) : automaton_(automaton) {
    std::uint64_t used = 0;
    for (unsigned byte = 0; byte < 256; ++byte) {
      kinds_[byte] = std::uint64_t{1} << byte_kind(static_cast<std::uint8_t>(byte));
      used |= kinds_[byte];
    }
    used_ = used;
  }

  std::uint64_t of(ByteAutomaton::State state) {
    if (state == known_) return loops_;
    std::uint64_t leave = 0;
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (automaton_.next(state, static_cast<std::uint8_t>(byte)) != state) leave |= kinds_[byte];
    }
    known_ = state;
    loops_ = used_ & ~leave;
    return loops_;
  }

 private:
  const ByteAutomaton& automaton_;
  std::array<std::uint64_t, 256> kinds_{};
  std::uint64_t used_ = 0;
  ByteAutomaton::State known_ = ByteAutomaton::kDead;
  std::uint64_t loops_ = 0;
};

}  // namespace

void add_to_mask(std::span<const TokenId> ids, MaskWords& mask) {
  for (const TokenId id : ids) {
    const auto bit = static_cast<std::uint32_t>(id);
    mask[bit / 32] |= std::uint32_t{1} << (bit % 32);
  }
}

std::uint64_t reach_leaf(const TokenVocabulary& vocabulary, const FormLeaf& leaf,
                         FormLeaf::State state, std::uint32_t from, MaskWords& mask,
                         std::vector<std::uint32_t>* borders) {
  const std::vector<TokenVocabulary::Node>& nodes = vocabulary.nodes();
  const std::span<const TokenId> ids = vocabulary.ids();
  const std::uint32_t end = nodes[from].end;
  const std::size_t base = nodes[from].depth;
  // By depth below `from`: the state there.
  std::array<FormLeaf::State, 256> few;
  std::vector<FormLeaf::State> many;
  FormLeaf::State* states = few.data();
  if (vocabulary.longest() - base >= few.size()) {
    many.resize(vocabulary.longest() - base + 1);
    states = many.data();
  }
  states[0] = state;
  // Worth its 256 look-ups where a loop can save more than that.
  const bool try_loops = !leaf.counted() && end - from > 4096;
  std::uint64_t loops = 0;
  FormLeaf::State loops_of = FormLeaf::kDead;
  LoopKinds kinds(leaf.automaton());
  std::uint64_t looked_at = 0;
  for (std::uint32_t at = from + 1; at < end;) {
    const TokenVocabulary::Node& node = nodes[at];
    ++looked_at;
    const std::size_t depth = node.depth - base;
    const FormLeaf::State after = leaf.next(states[depth - 1], node.byte);
    if (after == FormLeaf::kDead) {
      at = node.end;
      continue;
    }
    const bool below = node.end > at + 1;
    if (below && borders != nullptr && leaf.accepts(after)) borders->push_back(at);
    if (below && try_loops && node.end - at > 8 && (borders == nullptr || !leaf.accepts(after))) {
      if (after != loops_of) {
        loops = kinds.of(after);
        loops_of = after;
      }
      if ((node.kinds_below & ~loops) == 0) {  // the whole subtree stays in this state
        add_to_mask(ids.subspan(node.ids, nodes[node.end].ids - node.ids), mask);
        at = node.end;
        continue;
      }
    }
    add_to_mask(ids.subspan(node.ids, nodes[at + 1].ids - node.ids), mask);
    states[depth] = after;
    ++at;
  }
  return looked_at;
}

}  // namespace tg
