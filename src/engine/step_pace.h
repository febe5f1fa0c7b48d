// What: how long steps take, learned from those so far, and how many rows one may have that shall
//   end within a goal. Seconds = base + each * rows, by least squares in which a step counts a
//   twentieth less with every later one, as contexts grow and others use the machine too.
// Who owns: the engine. Thread: the engine's.
#pragma once

#include <cstdint>

namespace tg {

class StepPace {
 public:
  // A step of so many rows that took so long.
  void add(std::int64_t rows, double seconds);

  // Rows of which a step ends within `goal_s` nearly always: twice the spread of the steps around
  // the line is left free. 0: not even one, or nothing is known yet.
  std::int64_t rows_within(double goal_s) const;

 private:
  struct Line {
    double base = 0.0;
    double each = 0.0;
  };
  Line line() const;

  // Faded sums over the steps: 1, rows, seconds, rows^2, rows * seconds.
  double count_ = 0.0;
  double rows_ = 0.0;
  double seconds_ = 0.0;
  double rows_rows_ = 0.0;
  double rows_seconds_ = 0.0;
  double error_squared_ = 0.0;  // faded mean, of each step against the line before it
};

}  // namespace tg
