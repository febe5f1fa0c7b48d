// What: the runs of the original decode demo by name, as data: `decode-demo --case NAME`.
// Who owns: a table built at the call. Thread: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/option_values.h"

namespace tg {

// All have 32 users, a chat form, one repeat and a paged KV cache of as many pages of 64 tokens as
// the run can use (the original's has 4096 on each column of the mesh, which its runs fit in).
struct DecodeCase {
  std::string name;
  std::string what;             // a few words for --help
  bool random_weights = false;  // else those of a checkpoint
  // The first so many of the model; none: all.
  std::optional<std::int64_t> layers;
  // Iterations of the loop, those that force the prompt included.
  std::int64_t max_generated_tokens = 2000;
  SamplingSpec sampling;
  bool stress_test = false;  // the position stays where it is
  std::int64_t start_pos = 0;
  bool time_operations = false;  // a table of what each kind of operation takes
};

std::vector<DecodeCase> decode_cases();

// Also takes the original's spelling "performance-NAME". kBadArgument with all known names.
Result<DecodeCase> find_decode_case(std::string_view name);

inline constexpr const char* kDecodePrompts = "demo/questions_128.json";
inline constexpr std::int64_t kDecodeUsers = 32;
inline constexpr std::int64_t kDecodeMaxSeqLen = 131072;

}  // namespace tg
