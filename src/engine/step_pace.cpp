#include "engine/step_pace.h"

#include <algorithm>
#include <cmath>

namespace tg {
namespace {

constexpr double kFade = 0.95;
constexpr double kFewSteps = 4.0;
// Where steps all had as many rows, they do not say what one more costs: then reading the weights
// is taken to cost as much as so many rows (see SpeculationOptions), with the weight of steps that
// lie so far from their mean.
constexpr double kRowsOfReading = 8.0;
constexpr double kDoubt = 4.0 * 4.0;
// A step that took much longer was held up by something else: it counts as half as long again for
// the spread, and moves the line by no more than the spread allows.
constexpr double kMostError = 0.5;
constexpr double kSpreads = 2.0;

}  // namespace

void StepPace::add(std::int64_t rows, double seconds) {
  const auto x = static_cast<double>(rows);
  double y = seconds;
  if (count_ >= kFewSteps) {
    const Line expected = line();
    const double at = expected.base + expected.each * x;
    const double error = std::clamp(y - at, -kMostError * at, kMostError * at);
    error_squared_ += (1.0 - kFade) * (error * error - error_squared_);
    const double most = kSpreads * std::sqrt(error_squared_);
    y = at + std::clamp(error, -most, most);
  }
  count_ = kFade * count_ + 1.0;
  rows_ = kFade * rows_ + x;
  seconds_ = kFade * seconds_ + y;
  rows_rows_ = kFade * rows_rows_ + x * x;
  rows_seconds_ = kFade * rows_seconds_ + x * y;
}

StepPace::Line StepPace::line() const {
  const double mean_rows = rows_ / count_;
  const double mean_seconds = seconds_ / count_;
  const double variance = std::max(0.0, rows_rows_ / count_ - mean_rows * mean_rows);
  const double covariance = rows_seconds_ / count_ - mean_rows * mean_seconds;
  const double guess = mean_seconds / (mean_rows + kRowsOfReading);
  Line line;
  line.each = std::max(0.0, (covariance + kDoubt * guess) / (variance + kDoubt));
  line.base = std::max(0.0, mean_seconds - line.each * mean_rows);
  return line;
}

std::int64_t StepPace::rows_within(double goal_s) const {
  if (count_ < kFewSteps) return 0;
  const Line now = line();
  const double left = goal_s - now.base - kSpreads * std::sqrt(error_squared_);
  if (left <= 0.0) return 0;
  constexpr double kMost = 1 << 20;
  return static_cast<std::int64_t>(now.each > 0.0 ? std::min(kMost, left / now.each) : kMost);
}

}  // namespace tg
