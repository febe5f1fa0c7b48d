#include "grammar/leaf_reach.h"

#include <array>
#include <optional>

namespace tg {
namespace {

constexpr std::uint64_t kUsedKinds = [] {
  std::uint64_t used = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    used |= std::uint64_t{1} << byte_kind(static_cast<std::uint8_t>(byte));
  }
  return used;
}();

// Kinds of bytes of which each one leaves the automaton in the state it is in. A walk meets few
// states often: one that loops, and those inside of its characters.
class LoopKinds {
 public:
  explicit LoopKinds(const ByteAutomaton& automaton) : automaton_(automaton) {}

  std::uint64_t of(ByteAutomaton::State state) {
    Known& known = known_[state % known_.size()];
    if (known.state == state) return known.loops;
    std::uint64_t leave = 0;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const auto b = static_cast<std::uint8_t>(byte);
      if (automaton_.next(state, b) != state) leave |= std::uint64_t{1} << byte_kind(b);
    }
    known = {state, kUsedKinds & ~leave};
    return known.loops;
  }

 private:
  struct Known {
    ByteAutomaton::State state = ByteAutomaton::kDead;
    std::uint64_t loops = 0;
  };
  const ByteAutomaton& automaton_;
  std::array<Known, 64> known_{};
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
  // Worth its look-ups where a loop can save more than that.
  std::optional<LoopKinds> loops;
  if (!leaf.counted() && end - from > 4096) loops.emplace(leaf.automaton());
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
    if (loops && node.end - at > 8 && (borders == nullptr || !leaf.accepts(after)) &&
        (node.kinds_below & ~loops->of(after)) == 0) {  // the whole subtree stays in this state
      add_to_mask(ids.subspan(node.ids, nodes[node.end].ids - node.ids), mask);
      at = node.end;
      continue;
    }
    add_to_mask(ids.subspan(node.ids, nodes[at + 1].ids - node.ids), mask);
    states[depth] = after;
    ++at;
  }
  return looked_at;
}

}  // namespace tg
