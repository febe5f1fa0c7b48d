// What: a regular expression as a deterministic automaton over the bytes of UTF-8. It is made whole
//   when the grammar is made, so an expression that would explode is refused then, and following
//   bytes later is one look-up each. From every state some text leads to acceptance.
// Who owns: the grammar; immutable. Thread: any.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "grammar/regex_tree.h"

namespace tg {

// What all automata of one form may take together: more than any useful form needs, and made within
// about half a second.
struct AutomatonBudget {
  static constexpr std::uint64_t kMostWork = 40'000'000;     // states and edges looked at
  static constexpr std::uint64_t kMostTableCells = 8 << 20;  // 32 MiB

  std::uint64_t work = 0;
  std::uint64_t table_cells = 0;

  // kOutOfCapacity with the limits when that was too much.
  Status spend(std::uint64_t more_work, std::uint64_t more_cells);
};

class ByteAutomaton {
 public:
  using State = std::uint32_t;
  static constexpr State kDead = 0xFFFFFFFF;
  static constexpr std::uint8_t kAccepts = 1;
  static constexpr std::uint8_t kStuck = 2;  // no byte leads on

  struct Table {
    std::array<std::uint8_t, 256> class_of{};  // bytes that no state tells apart
    std::size_t classes = 0;
    std::vector<State> next;  // [states, classes]
    std::vector<std::uint8_t> flags;
  };

  // From every state some text has to lead to acceptance.
  explicit ByteAutomaton(Table table) : table_(std::move(table)) {}

  // All of them: kOutOfCapacity beyond the budget.
  //
  // kBadInput when the tree matches no text at all.
  static Result<ByteAutomaton> compile(const Regex& tree, AutomatonBudget& budget);
  // The texts of both; nullopt when there are none.
  static Result<std::optional<ByteAutomaton>> intersection(const ByteAutomaton& a,
                                                           const ByteAutomaton& b,
                                                           AutomatonBudget& budget);
  // One of these texts; there has to be one.
  static Result<ByteAutomaton> one_of(std::vector<std::string> texts, AutomatonBudget& budget);
  // The texts of `all` but these. A text of `all` must not go on where another one ends, as one in
  // quotes does not.
  static Result<ByteAutomaton> none_of(std::vector<std::string> texts, const ByteAutomaton& all,
                                       AutomatonBudget& budget);

  State start() const { return 0; }
  State next(State state, std::uint8_t byte) const {
    return table_.next[state * table_.classes + table_.class_of[byte]];
  }
  bool accepts(State state) const { return (table_.flags[state] & kAccepts) != 0; }
  bool stuck(State state) const { return (table_.flags[state] & kStuck) != 0; }
  std::size_t states() const { return table_.flags.size(); }

 private:
  Table table_;
};

}  // namespace tg
