// The automata of lists of texts: tries, so that ten thousand names take no longer than reading
// them.
#include <algorithm>
#include <utility>

#include "grammar/byte_automaton.h"

namespace tg {
namespace {

constexpr std::uint64_t kWorkOfNode = 8;

struct TrieNode {
  std::uint32_t parent = 0;
  std::uint8_t byte = 0;  // that leads here
  bool ends = false;      // a text
};

// Parents before their children; the root is 0. Sorts the texts.
Result<std::vector<TrieNode>> trie_of(std::vector<std::string>& texts, AutomatonBudget& budget) {
  std::sort(texts.begin(), texts.end());
  std::vector<TrieNode> nodes(1);
  std::vector<std::uint32_t> path{0};  // to where the last text ended
  std::string_view before;
  for (const std::string& text : texts) {
    const auto common = std::mismatch(text.begin(), text.end(), before.begin(), before.end());
    const auto shared = static_cast<std::size_t>(common.first - text.begin());
    TG_RETURN_IF_ERROR(budget.spend(kWorkOfNode * (text.size() - shared + 1), 0));
    path.resize(shared + 1);
    for (std::size_t i = shared; i < text.size(); ++i) {
      nodes.push_back({path.back(), static_cast<std::uint8_t>(text[i]), false});
      path.push_back(static_cast<std::uint32_t>(nodes.size() - 1));
    }
    nodes[path.back()].ends = true;
    before = text;
  }
  return nodes;
}

// A class for each byte of the trie, and for each of `others` the bytes of it that are not there.
void make_classes(const std::vector<TrieNode>& nodes, const std::array<std::uint8_t, 256>& others,
                  ByteAutomaton::Table& table) {
  std::array<bool, 256> used{};
  for (std::size_t i = 1; i < nodes.size(); ++i) used[nodes[i].byte] = true;
  std::array<int, 256> class_of_other{};
  class_of_other.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) {
    int& shared = class_of_other[others[byte]];
    const bool is_new = used[byte] || shared < 0;
    const int number = is_new ? static_cast<int>(table.classes++) : shared;
    if (!used[byte]) shared = number;
    table.class_of[byte] = static_cast<std::uint8_t>(number);
  }
}

}  // namespace

Result<ByteAutomaton> ByteAutomaton::one_of(std::vector<std::string> texts,
                                            AutomatonBudget& budget) {
  TG_ASSIGN(const std::vector<TrieNode> nodes, trie_of(texts, budget));
  Table table;
  make_classes(nodes, {}, table);
  TG_RETURN_IF_ERROR(budget.spend(0, nodes.size() * table.classes));
  table.next.assign(nodes.size() * table.classes, kDead);
  table.flags.assign(nodes.size(), kStuck);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].ends) table.flags[i] |= kAccepts;
    if (i == 0) continue;
    table.next[nodes[i].parent * table.classes + table.class_of[nodes[i].byte]] =
        static_cast<State>(i);
    table.flags[nodes[i].parent] &= static_cast<std::uint8_t>(~kStuck);
  }
  return ByteAutomaton(std::move(table));
}

// A state for each node of the trie, which knows where `all` is there, and those of `all` behind
// them: whatever is no text of the trie goes on in these.
Result<ByteAutomaton> ByteAutomaton::none_of(std::vector<std::string> texts,
                                             const ByteAutomaton& all, AutomatonBudget& budget) {
  TG_ASSIGN(const std::vector<TrieNode> nodes, trie_of(texts, budget));
  Table table;
  make_classes(nodes, all.table_.class_of, table);
  const std::size_t states = nodes.size() + all.states();
  TG_RETURN_IF_ERROR(budget.spend(0, states * table.classes));
  table.next.reserve(states * table.classes);
  std::vector<std::uint8_t> examples(table.classes);  // a byte of each class
  for (unsigned byte = 0; byte < 256; ++byte) {
    examples[table.class_of[byte]] = static_cast<std::uint8_t>(byte);
  }
  const auto behind = static_cast<State>(nodes.size());
  const auto add_state = [&](State in_all) {
    for (const std::uint8_t byte : examples) {
      const State after = all.next(in_all, byte);
      table.next.push_back(after == kDead ? kDead : behind + after);
    }
    table.flags.push_back(all.table_.flags[in_all]);
  };
  std::vector<State> in_all(nodes.size(), all.start());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (i > 0) {
      State& after = in_all[i];
      after = in_all[nodes[i].parent] == kDead ? kDead
                                               : all.next(in_all[nodes[i].parent], nodes[i].byte);
      const bool out = after == kDead || nodes[i].ends;
      table.next[nodes[i].parent * table.classes + table.class_of[nodes[i].byte]] =
          out ? kDead : static_cast<State>(i);
    }
    // What is not of `all` is never reached.
    add_state(in_all[i] == kDead ? all.start() : in_all[i]);
  }
  for (State state = 0; state < all.states(); ++state) add_state(state);
  return ByteAutomaton(std::move(table));
}

}  // namespace tg
