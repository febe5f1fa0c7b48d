// The automaton of the texts that two automata accept.
#include <unordered_map>
#include <utility>

#include "grammar/byte_automaton.h"

namespace tg {
namespace {

constexpr std::uint64_t kWorkOfCell = 8;  // looking up the pair, and keeping it

// The pairs from which a pair of accepting states can be reached.
std::vector<bool> useful_pairs(const std::vector<std::vector<std::uint32_t>>& users,
                               const std::vector<std::uint32_t>& accepting) {
  std::vector<bool> useful(users.size(), false);
  std::vector<std::uint32_t> open = accepting;
  while (!open.empty()) {
    const std::uint32_t pair = open.back();
    open.pop_back();
    if (useful[pair]) continue;
    useful[pair] = true;
    open.insert(open.end(), users[pair].begin(), users[pair].end());
  }
  return useful;
}

}  // namespace

Result<std::optional<ByteAutomaton>> ByteAutomaton::intersection(const ByteAutomaton& a,
                                                                 const ByteAutomaton& b,
                                                                 AutomatonBudget& budget) {
  // Bytes that neither tells apart; one of each class stands for it.
  Table out;
  std::vector<std::uint8_t> examples;
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (byte == 0 || a.table_.class_of[byte] != a.table_.class_of[byte - 1] ||
        b.table_.class_of[byte] != b.table_.class_of[byte - 1]) {
      examples.push_back(static_cast<std::uint8_t>(byte));
    }
    out.class_of[byte] = static_cast<std::uint8_t>(examples.size() - 1);
  }
  out.classes = examples.size();

  std::unordered_map<std::uint64_t, State> numbers;
  std::vector<std::pair<State, State>> pairs;
  const auto number_of = [&](State left, State right) {
    const std::uint64_t key = (std::uint64_t{left} << 32) | right;
    const auto [found, is_new] = numbers.try_emplace(key, static_cast<State>(pairs.size()));
    if (is_new) pairs.emplace_back(left, right);
    return found->second;
  };
  number_of(a.start(), b.start());
  std::vector<std::vector<std::uint32_t>> users(1);
  std::vector<std::uint32_t> accepting;
  std::vector<State> table;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto [left, right] = pairs[i];
    if (a.accepts(left) && b.accepts(right)) accepting.push_back(static_cast<State>(i));
    for (const std::uint8_t byte : examples) {
      const State left_after = a.next(left, byte);
      const State right_after = b.next(right, byte);
      State after = kDead;
      if (left_after != kDead && right_after != kDead) {
        after = number_of(left_after, right_after);
        users.resize(pairs.size());
        users[after].push_back(static_cast<std::uint32_t>(i));
      }
      table.push_back(after);
    }
    TG_RETURN_IF_ERROR(budget.spend(kWorkOfCell * out.classes, out.classes));
  }
  const std::vector<bool> useful = useful_pairs(users, accepting);
  if (!useful[0]) return std::nullopt;

  // Only those, numbered anew in the same order; the start stays the first.
  std::vector<State> renamed(pairs.size(), kDead);
  State count = 0;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    if (useful[i]) renamed[i] = count++;
  }
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    if (!useful[i]) continue;
    const auto [left, right] = pairs[i];
    std::uint8_t flags = kStuck;
    for (std::size_t c = 0; c < out.classes; ++c) {
      const State target = table[i * out.classes + c];
      const State after = target == kDead ? kDead : renamed[target];
      if (after != kDead) flags &= static_cast<std::uint8_t>(~kStuck);
      out.next.push_back(after);
    }
    if (a.accepts(left) && b.accepts(right)) flags |= kAccepts;
    out.flags.push_back(flags);
  }
  return ByteAutomaton(std::move(out));
}

}  // namespace tg
