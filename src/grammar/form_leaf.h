// What: a terminal of a form: a regular language that is followed byte by byte without a stack. One
//   is an automaton; a JSON string with a minimum or maximum length is an automaton of one
//   character with a count beside it, or "maxLength": 5000 would need 5000 copies of it.
// Who owns: the form; immutable. Thread: any.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>

#include "grammar/byte_automaton.h"

namespace tg {

class FormLeaf {
 public:
  using State = std::uint32_t;
  static constexpr State kDead = ByteAutomaton::kDead;
  static constexpr std::uint32_t kMostCharacters = 10'000'000;  // of a counted string

  explicit FormLeaf(ByteAutomaton automaton)
      : automaton_(std::make_shared<const ByteAutomaton>(std::move(automaton))) {}
  // A string in quotes of `least` to `most` characters (at most kMostCharacters; kNoLimit of
  // RegexTree: any number). `character` never goes on behind acceptance.
  FormLeaf(std::shared_ptr<const ByteAutomaton> character, std::uint32_t least, std::uint32_t most)
      : automaton_(std::move(character)),
        counted_(true),
        bits_(static_cast<unsigned>(std::bit_width(automaton_->states() - 1))),
        least_(least),
        most_(most) {}

  State start() const { return counted_ ? kOpen : automaton_->start(); }
  State next(State state, std::uint8_t byte) const {
    return counted_ ? next_counted(state, byte) : automaton_->next(state, byte);
  }
  bool accepts(State state) const {
    return counted_ ? state == kClosed : automaton_->accepts(state);
  }
  bool stuck(State state) const { return counted_ ? state == kClosed : automaton_->stuck(state); }

  bool counted() const { return counted_; }
  const ByteAutomaton& automaton() const { return *automaton_; }

  // Of a counted string whose first quote was read: what any other one would do from here but for
  // its limits, and the limits themselves.
  bool inside_quotes(State state) const { return counted_ && state >= kFirst; }
  FormLeaf without_limits() const { return {automaton_, 0, kMostCharacters}; }
  State without_count(State state) const { return state_of(0, inner_of(state)); }
  // Characters that were begun.
  std::uint32_t begun(State state) const {
    return count_of(state) + (inner_of(state) == automaton_->start() ? 0 : 1);
  }
  std::uint32_t least_left(State state) const {
    return least_ > count_of(state) ? least_ - count_of(state) : 0;
  }
  std::uint32_t most_left(State state) const {
    return most_ == RegexTree::kNoLimit ? most_ : most_ - count_of(state);
  }

  // A state that texts of up to `bytes` bytes cannot tell from this one: what is far from both
  // limits is all the same, and so are the masks.
  State like(State state, std::size_t bytes) const {
    if (!counted_ || state < kFirst) return state;
    const std::uint32_t count = count_of(state);
    if (count + bytes < least_) return state_of(0, inner_of(state));
    const bool far_from_most = most_ == RegexTree::kNoLimit || count + bytes < most_;
    return count >= least_ && far_from_most ? state_of(least_, inner_of(state)) : state;
  }

 private:
  static constexpr State kOpen = 0;    // before the first quote
  static constexpr State kClosed = 1;  // behind the second
  static constexpr State kFirst = 2;   // then a count, and in the low bits the state in a character

  std::uint32_t count_of(State state) const { return (state - kFirst) >> bits_; }
  std::uint32_t inner_of(State state) const { return (state - kFirst) & ((1U << bits_) - 1); }
  State state_of(std::uint32_t count, std::uint32_t inner) const {
    return kFirst + (count << bits_) + inner;
  }

  State next_counted(State state, std::uint8_t byte) const {
    if (state < kFirst) return state == kOpen && byte == '"' ? state_of(0, 0) : kDead;
    const std::uint32_t count = count_of(state);
    const std::uint32_t inner = inner_of(state);
    if (inner == automaton_->start()) {
      if (byte == '"') return count >= least_ ? kClosed : kDead;
      if (count == most_) return kDead;
    }
    const State after = automaton_->next(inner, byte);
    if (after == kDead) return kDead;
    if (!automaton_->accepts(after)) return state_of(count, after);
    // Without a maximum nothing needs to be counted beyond the minimum.
    const std::uint32_t more =
        most_ == RegexTree::kNoLimit ? std::min(count + 1, least_) : count + 1;
    return state_of(more, automaton_->start());
  }

  std::shared_ptr<const ByteAutomaton> automaton_;
  bool counted_ = false;
  unsigned bits_ = 0;  // that hold a state of a character
  std::uint32_t least_ = 0;
  std::uint32_t most_ = 0;
};

}  // namespace tg
