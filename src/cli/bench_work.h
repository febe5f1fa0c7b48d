// What: one measurement of the engine, as the bench command is asked for it in a word: N users
//   decoding at a context, or a prompt; and its times.
// Who owns: plain values; the runner is borrowed. Thread: the main thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/model_runner.h"

namespace tg {

struct BenchWork {
  enum class Kind : std::uint8_t { kDecode, kPrefill, kRead };
  Kind kind = Kind::kDecode;
  std::int64_t users = 1;
  std::int64_t tokens = 0;  // decode: context of each user at the first step; prefill: the prompt
  std::int64_t steps = 1;   // decode: those that are timed
  double seconds = 0.0;     // read
};

// Steps of a decode measurement before the timed ones.
inline constexpr std::int64_t kBenchWarmUp = 3;

// "decode:USERS:CONTEXT:STEPS", "prefill:TOKENS" or "read:SECONDS".
Result<BenchWork> parse_bench_work(const std::string& text);

// Positions of each user, and pages of `block` positions for all of them.
std::int64_t positions_of(const BenchWork& work);
std::int64_t pages_of(const BenchWork& work, std::int64_t block);

struct BenchTimes {
  std::int64_t tokens = 0;       // decoded, or of the prompt
  std::vector<double> step_s;    // whole engine steps, sampler and scheduler included
  std::vector<double> runner_s;  // of these, inside the model's step
  double total_s() const;
  double tokens_per_s() const { return static_cast<double>(tokens) / total_s(); }
};

// Runs decode or prefill with greedy sampling through an engine of its own. Errors are the
// engine's: a work that does not fit the runner's context or pages.
Result<BenchTimes> run_bench_work(ModelRunner& runner, const BenchWork& work);

}  // namespace tg
