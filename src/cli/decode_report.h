// What: what the decode demo says of its speed: tokens/s per user of the iterations, their spread,
//   the check against a target, growth of memory. Pure functions of numbers.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/decode_loop.h"
#include "model/op_times.h"

namespace tg {

// Tokens/s per user that are expected ("t/s/u").
struct TsuTarget {
  double low = 0.0;
  double high = 0.0;
};

// "LOW:HIGH", two numbers with 0 <= LOW <= HIGH. kBadArgument.
Result<TsuTarget> parse_tsu_target(const std::string& text);

// The times of any number of iterations in memory of one size, all of it touched at the start: the
// first ones, and of all every stride-th, where the stride doubles when there are too many.
class TimeSample {
 public:
  static constexpr std::size_t kFirst = 200;
  static constexpr std::size_t kMost = 32768;

  TimeSample() : first_(kFirst, 0.0), sample_(kMost, 0.0) {}
  void add(double seconds);
  std::int64_t count() const { return count_; }
  std::span<const double> first() const;
  std::span<const double> sample() const { return std::span(sample_).first(kept_); }

 private:
  std::vector<double> first_;
  std::vector<double> sample_;
  std::size_t kept_ = 0;
  std::int64_t stride_ = 1;
  std::int64_t count_ = 0;
};

struct DecodeReport {
  TimeSample prefill;  // seconds of the iterations that forced prompts
  TimeSample decode;   // of the others
  std::int64_t users = 1;
  double first_step_s = 0.0;
  double load_s = 0.0;
  std::uint64_t hash = 0;
  std::optional<TsuTarget> target;  // none in a stress run
};

struct TsuCheck {
  std::int64_t looked_at = 0;
  std::int64_t outside = 0;
  bool failed = false;
};

// The original's rule: of the first 200 decode iterations (TimeSample::first) more than a tenth is
// outside.
TsuCheck check_tsu(std::span<const double> first_s, const TsuTarget& target);

// Lines.
std::string iteration_text(const DecodeIteration& iteration, std::int64_t decode_index);
std::string report_text(const DecodeReport& report);
// What an iteration took, on average over so many.
std::string op_times_text(const OpTimes& times, std::int64_t iterations);

// The original's CI prints the first 200 iterations and then every thousandth.
bool is_shown(std::int64_t iteration);

// How the private memory of a run moved: anonymous pages in memory and swapped out.
struct MemoryGrowth {
  std::int64_t first = 0;  // bytes, once everything was touched
  std::int64_t last = 0;
  std::int64_t most = 0;
  std::int64_t first_iteration = 0;
  std::int64_t last_iteration = 0;

  std::int64_t growth() const { return last - first; }
};

// More is a leak.
inline constexpr std::int64_t kMostGrowth = std::int64_t{8} << 20;

std::string growth_text(const MemoryGrowth& memory);

}  // namespace tg
