// What: the runs of the original text demo by name, as data: `text-demo --case NAME`.
// Who owns: a table built at the call. Thread: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/option_values.h"

namespace tg {

// All are in the chat form, with a paged KV cache of 2048 pages of 64 tokens and all layers.
struct DemoCase {
  std::string name;
  std::string what;     // a few words for --help
  std::string prompts;  // path from the project's root
  std::int64_t batch_size = 1;
  std::int64_t max_generated_tokens = 128;
  std::int64_t repeat_batches = 1;
  std::int64_t max_seq_len = 131072;  // at most; a model with a shorter context runs with its own
  PageParams page_params;
  SamplingSpec sampling;
  std::string later;  // not empty: "not in this version yet: ..."
};

// Those that run first.
std::vector<DemoCase> demo_cases();

// Also takes the original's spelling "performance-NAME". kBadArgument with all known names, or,
// for a case that does not run yet, kUnsupported with its sentence.
Result<DemoCase> find_demo_case(std::string_view name);

}  // namespace tg
