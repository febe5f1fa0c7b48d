#include "grammar/leaf_reach.h"

#include <array>
#include <optional>
#include <utility>

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

CountedReach reach_characters(const TokenVocabulary& vocabulary, const FormLeaf& leaf,
                              FormLeaf::State state) {
  const std::vector<TokenVocabulary::Node>& nodes = vocabulary.nodes();
  const FormLeaf free = leaf.without_limits();
  CountedReach reach;
  reach.mask.assign(vocabulary.mask_words(), 0);
  std::vector<CountedReach::Counted> unsorted;
  unsorted.reserve(vocabulary.ids().size());
  std::vector<FormLeaf::State> states(vocabulary.longest() + 1);
  states[0] = leaf.without_count(state);
  for (std::uint32_t at = 1; at < nodes[0].end;) {
    const TokenVocabulary::Node& node = nodes[at];
    const FormLeaf::State before = states[node.depth - 1U];
    const FormLeaf::State after = free.next(before, node.byte);
    if (after == FormLeaf::kDead) {
      at = node.end;
      continue;
    }
    const bool closed = free.accepts(after);
    const std::uint32_t characters = free.begun(closed ? before : after);
    for (std::uint32_t i = node.ids; i < nodes[at + 1].ids; ++i) {
      const auto id = static_cast<std::uint32_t>(vocabulary.ids()[i]);
      unsorted.push_back({id, characters});
      if (closed) reach.closing.push_back({id, characters});
      reach.mask[id / 32] |= std::uint32_t{1} << (id % 32);
    }
    if (closed) {
      if (node.end > at + 1) reach.borders.push_back({at, characters});
      at = node.end;
      continue;
    }
    states[node.depth] = after;
    ++at;
  }
  // Sorted by counting: a comparison sort would take longer than the walk.
  std::vector<std::size_t> places(vocabulary.longest() + 2);
  for (const CountedReach::Counted& token : unsorted) ++places[token.characters];
  std::size_t place = 0;
  for (std::size_t i = places.size(); i-- > 0;) place += std::exchange(places[i], place);
  reach.tokens.resize(unsorted.size());
  for (const CountedReach::Counted& token : unsorted) {
    reach.tokens[places[token.characters]++] = token;
  }
  return reach;
}

void limit_reach(const CountedReach& all, std::uint32_t least, std::uint32_t most, MaskWords& mask,
                 std::vector<std::uint32_t>& borders) {
  mask = all.mask;
  const auto take_out = [&mask](std::uint32_t id) {
    mask[id / 32] &= ~(std::uint32_t{1} << (id % 32));
  };
  for (const CountedReach::Counted& token : all.tokens) {
    if (token.characters <= most) break;
    take_out(token.of);
  }
  for (const CountedReach::Counted& token : all.closing) {
    if (token.characters < least) take_out(token.of);
  }
  borders.clear();
  for (const CountedReach::Counted& border : all.borders) {
    if (border.characters >= least && border.characters <= most) borders.push_back(border.of);
  }
}

}  // namespace tg
