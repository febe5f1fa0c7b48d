// What: the numbers of a load run, out of its answers: latencies and their percentiles, throughput,
//   goodput, with the meanings that `vllm bench serve` gives them.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cli/load_answer.h"

namespace tg {

struct Latency {
  double mean = 0.0;
  double median = 0.0;
  double std = 0.0;                 // of the sample itself: divided by n
  std::vector<double> percentiles;  // in the order asked for
};
// Nothing of an empty sample: a mean of no values is not 0.
std::optional<Latency> latency_of(std::vector<double> sample, std::span<const double> percents);

// Upper limits of a good answer, in milliseconds. One without a value (a single token has no
// TPOT) is not held against it.
struct GoodputLimits {
  std::optional<double> ttft_ms;
  std::optional<double> tpot_ms;
  std::optional<double> e2el_ms;

  bool any() const { return ttft_ms || tpot_ms || e2el_ms; }
  bool met_by(const LoadAnswer& answer) const;
};

// Failed and interrupted answers are counted and enter nothing else.
struct LoadSummary {
  std::int64_t completed = 0;
  std::int64_t failed = 0;
  std::int64_t interrupted = 0;
  std::int64_t without_usage = 0;  // completed, their output tokens counted as chunks
  std::int64_t total_input_tokens = 0;
  std::int64_t total_output_tokens = 0;
  double duration_s = 0.0;  // from the begin to the last answer's end
  double request_throughput = 0.0;
  std::optional<double> request_goodput;  // good answers per second, when there are limits
  double output_throughput = 0.0;
  double total_token_throughput = 0.0;
  std::optional<Latency> ttft_ms;
  std::optional<Latency> tpot_ms;
  std::optional<Latency> itl_ms;
  std::optional<Latency> e2el_ms;
};

LoadSummary summarize_load(std::span<const LoadAnswer> answers, std::span<const double> percents,
                           const GoodputLimits& limits);

}  // namespace tg
