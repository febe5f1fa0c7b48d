// What: the serve command behind its options: a server that listens at once, loads the model, and
//   answers until a signal ends it.
// Who owns: the command. Thread: the main thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/model_options.h"
#include "cli/sampling_options.h"
#include "cli/serve_plan.h"
#include "cli/speculation_options.h"

namespace tg {

struct ServeOptions {
  ModelOptions model;
  SamplingOptions sampling;  // where a request says nothing
  SpeculativeOptions speculative;
  ServeContextAsk context;
  std::string host = "127.0.0.1";
  std::int64_t port = 8000;
  std::vector<std::string> api_keys;  // none: $LLAMA_TG_API_KEY, else nobody needs one
  std::string served_model_name;      // empty: the name of the folder or file
  std::int64_t max_waiting = 256;
  std::int64_t prefill_chunk = 512;
  // Of 32 streams beside prompts of 128 tokens, 99 % of gaps are as long as such a step
  // (docs/measuring.md, "Serving"); prompts take little longer.
  std::int64_t busy_prefill_chunk = 128;
  double itl_goal_ms = 0.0;  // 0: none
  bool no_prefix_cache = false;
  std::string tls_certificate;
  std::string tls_key;
  std::vector<std::string> cors_origins;
  std::int64_t max_body_mb = 32;
  double grace_s = 30.0;
  std::string access_log;  // a file, "-" for stdout; empty: none
};

Result<int> run_serve(ServeOptions& options);

}  // namespace tg
