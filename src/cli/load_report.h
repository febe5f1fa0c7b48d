// What: what bench-serve says at its end: a table for people, and JSON with the names that
//   `vllm bench serve` writes.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cli/load_answer.h"
#include "cli/load_statistics.h"

namespace tg {

struct LoadAbout {
  std::string date;  // 20250131-235959
  std::string url;   // base and endpoint
  bool chat = false;
  std::string model;
  std::int64_t num_prompts = 0;  // asked for
  double request_rate = 0.0;     // may be infinite
  double burstiness = 1.0;
  std::int64_t max_concurrency = 0;  // 0: none
  std::int64_t most_concurrent = 0;  // that there were
  std::vector<double> percents;
  GoodputLimits limits;
};

// Latencies of which there is none are null; so is the time of a failed answer in the lists.
std::string load_json(const LoadAbout& about, const LoadSummary& summary,
                      std::span<const LoadAnswer> answers);

// Several lines.
std::string load_table(const LoadAbout& about, const LoadSummary& summary,
                       std::span<const LoadAnswer> answers);

}  // namespace tg
