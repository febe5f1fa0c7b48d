// What: one user's way through a run as commands print, measure and store it.
// Who owns: plain value. Thread: any.
#pragma once

#include <string>
#include <vector>

#include "engine/request.h"

namespace tg {

struct UserAnswer {
  std::string prompt;  // as the user gave it; empty when ids were given
  std::vector<TokenId> prompt_ids;
  std::vector<TokenId> output_ids;  // without the stop id
  std::string text;
  std::string finish_reason;           // "stop", "length", "cancelled", "error"
  std::string error;                   // for "error": what happened
  SamplingParams sampling;             // the seed included, drawn or given
  double ttft_s = 0.0;                 // from submission to the first token
  std::vector<double> token_times_s;   // one per sampled token, since submission
  std::vector<SampledToken> logprobs;  // when the sampling asked for them
  SpeculationCounts speculation;
};

// The settings of a run and its whole duration.
struct RunSummary {
  std::string command;  // "text-demo", "generate"
  std::string model;
  std::string kernels;
  std::string compute_dtype;
  std::string kv_dtype;
  std::string weights;  // number formats: "int8", "int4 + int8", ...
  int threads = 0;
  std::string mesh = "1x1";
  int ranks = 1;
  std::int64_t users = 0;
  std::int64_t max_seq_len = 0;
  std::int64_t max_generated_tokens = 0;
  std::int64_t page_block_size = 0;
  std::int64_t page_max_num_blocks = 0;
  bool instruct = false;
  bool stop_at_eos = false;
  std::string speculative = "none";
  double load_s = 0.0;
  double run_s = 0.0;  // from the first submission to the last token
};

}  // namespace tg
