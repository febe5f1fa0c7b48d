// What: the numbers of a batch: time to first token, time per token, throughput; a pure function of
//   the users' token times.
// Who owns: plain values. Thread: any.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/answer.h"

namespace tg {

// The value below which so many percent of an ascending sample lie, by linear interpolation
// between neighbours (numpy's default). The sample must not be empty.
double percentile_of(std::span<const double> ascending, double percent);

// Of a sample; zeros for an empty one.
struct Percentiles {
  double min = 0.0;
  double mean = 0.0;
  double p5 = 0.0;
  double p50 = 0.0;
  double p95 = 0.0;
  double p99 = 0.0;
  double max = 0.0;
};
Percentiles percentiles(std::vector<double> sample);

struct Performance {
  std::int64_t users = 0;
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;  // sampled, the stop id included
  std::vector<double> ttft_s;      // [users]
  Percentiles ttft;
  Percentiles token_interval;  // between neighbouring tokens of a user, over all users
  // Mean interval in front of each user's n-th decoded token, if anybody got that far, unless it
  // came in one step with the token before it.
  struct AtToken {
    std::int64_t token = 0;
    std::int64_t users = 0;
    double interval_s = 0.0;
  };
  std::vector<AtToken> at_tokens;     // of 1, 128, 1024, 4096
  double decode_tokens_per_s = 0.0;   // of all users, while anybody decodes
  double prefill_tokens_per_s = 0.0;  // prompt tokens over the time to the last first token
  SpeculationCounts speculation;      // of all users
};

// "12 of 20 guessed tokens accepted (60.0 %), 2.50 tokens per guessing step of a user"; empty when
// nothing was guessed.
std::string speculation_text(const SpeculationCounts& counts);

Performance measure(std::span<const UserAnswer> users);

// The block that ends a demo run, several lines.
std::string performance_text(const Performance& performance, double load_s);

}  // namespace tg
