// What: a regular expression as a deterministic automaton over the bytes of UTF-8. It is made whole
//   when the grammar is made, so an expression that would explode is refused then, and following
//   bytes later is one look-up each. From every state some text leads to acceptance.
// Who owns: the grammar; immutable. Thread: any.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "grammar/regex_tree.h"

namespace tg {

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

  // kBadInput when the tree matches no text at all; kOutOfCapacity with the number of states.
  static Result<ByteAutomaton> compile(const Regex& tree);
  // The texts of both; nullopt when there are none.
  static Result<std::optional<ByteAutomaton>> intersection(const ByteAutomaton& a,
                                                           const ByteAutomaton& b);

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
