// What: what each kind of operation of a step takes, by marks in the code: a mark is the time since
//   the one before.
// Who owns: who measures; the forward pass and the runner mark it while it is lent to them.
// Thread: the one that runs the step.
#pragma once

#include <chrono>
#include <string_view>
#include <vector>

namespace tg {

class OpTimes {
 public:
  struct Op {
    std::string_view of;    // "QKV"; both are literals
    std::string_view what;  // "product", "all-reduce"
    double seconds = 0.0;
    long count = 0;
  };

  void start() { last_ = Clock::now(); }

  void mark(std::string_view of, std::string_view what) {
    const Clock::time_point now = Clock::now();
    Op& op = find(of, what);
    op.seconds += std::chrono::duration<double>(now - last_).count();
    ++op.count;
    last_ = now;
  }

  // In the order of their first marks.
  const std::vector<Op>& ops() const { return ops_; }

 private:
  using Clock = std::chrono::steady_clock;

  // A step has some twenty kinds; a list is as fast as anything.
  Op& find(std::string_view of, std::string_view what) {
    for (Op& op : ops_) {
      if (op.of == of && op.what == what) return op;
    }
    return ops_.emplace_back(Op{of, what, 0.0, 0});
  }

  Clock::time_point last_ = Clock::now();
  std::vector<Op> ops_;
};

}  // namespace tg
