// What: where an answer is in its form: every way in which the bytes so far can be read. A way is a
//   leaf, the state in it and a stack of what is to be done behind it; stacks are lists that share
//   their ends.
// Who owns: one FormRun per answer; refers to the form. Thread: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "grammar/form.h"

namespace tg {

// A set of numbers that is emptied in no time.
class NumberSet {
 public:
  void clear();
  bool insert(std::uint64_t number);  // false: it was there
  std::size_t size() const { return count_; }

 private:
  struct Slot {
    std::uint64_t number = 0;
    std::uint32_t round = 0;
  };
  void grow();
  std::size_t slot_of(std::uint64_t number) const;

  std::vector<Slot> slots_ = std::vector<Slot>(64);
  std::uint32_t round_ = 1;
  std::size_t count_ = 0;
};

using StackId = std::uint32_t;

class FormStacks {
 public:
  static constexpr StackId kBottom = 0;
  struct Frame {
    FormNodeId node = 0;  // where it goes on
    StackId below = kBottom;
    std::uint32_t depth = 0;  // 0: the bottom
  };

  StackId push(FormNodeId node, StackId below);
  const Frame& frame(StackId id) const { return frames_[id]; }
  std::size_t size() const { return frames_.size(); }

 private:
  std::vector<Frame> frames_ = std::vector<Frame>(1);
  std::unordered_map<std::uint64_t, StackId> ids_;
};

struct FormThread {
  FormNodeId node;  // of a leaf
  FormLeaf::State state;
  StackId stack;
  auto operator<=>(const FormThread&) const = default;
};

class FormRun {
 public:
  // More ways than any useful form has at a time.
  static constexpr std::size_t kMostThreads = 4096;
  // Nodes with their stacks that are gone through to find them.
  static constexpr std::size_t kMostEntered = 100'000;

  explicit FormRun(std::shared_ptr<const Form> form);

  // Ascending; together with complete() all that matters for what may follow.
  const std::vector<FormThread>& threads() const { return threads_; }
  // Whether the answer may end here.
  bool complete() const { return complete_; }
  const std::shared_ptr<const Form>& shared_form() const { return form_; }
  FormStacks& stacks() { return stacks_; }

  // Follows a byte: afterwards no thread and not complete() = it does not fit. kOutOfCapacity when
  // there are more ways than kMostThreads.
  Status follow(std::uint8_t byte);

  // Appends the threads that start at a node with this stack; true when the answer may end there.
  // For what is entered since the last forget_entered(), once. Stops at kMostEntered.
  bool enter(FormNodeId node, StackId stack, std::vector<FormThread>& out);
  void forget_entered() { entered_.clear(); }
  std::size_t entered() const { return entered_.size(); }
  // kOutOfCapacity when what was entered, or the threads, are too many.
  Status check_ways() const;

 private:
  void drop_old_stacks();

  struct Entry {
    FormNodeId node;
    StackId stack;
  };

  std::shared_ptr<const Form> form_;
  FormStacks stacks_;
  std::vector<FormThread> threads_;
  bool complete_ = false;
  NumberSet entered_;
  std::vector<Entry> open_;         // of enter()
  std::vector<FormThread> before_;  // of follow()
};

}  // namespace tg
