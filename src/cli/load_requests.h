// What: the request bodies of a load run: random prompts of a length, or texts of a file, each a
//   function of the seed and the request's number only.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/load_options.h"

namespace tg {

struct LoadRequest {
  std::string body;                           // JSON
  std::optional<std::int64_t> prompt_tokens;  // nothing: only the server knows
};

enum class PromptForm : std::uint8_t {
  kIds,    // token ids, counted exactly; /v1/completions of servers that take them
  kWords,  // common English words, each about one token
  kTexts,  // those of a file
};

struct RequestPlan {
  std::string model;
  bool chat = false;  // the body of /v1/chat/completions
  PromptForm form = PromptForm::kIds;
  IdRange ids;
  std::vector<std::string> texts;  // with kTexts; from the start again when there are too few
  std::int64_t prefix_len = 0;     // in front of input_len, the same in all requests
  std::int64_t input_len = 128;
  std::int64_t output_len = 128;
  std::uint64_t seed = 0;
  bool ignore_eos = false;
  double temperature = 0.0;
  std::string extra_body;  // a JSON object whose members are added, or take the place of ours
};

// kBadArgument for an extra_body that is no JSON object.
Status check_request_plan(const RequestPlan& plan);

// Of the `index`-th request of a plan that was found good.
LoadRequest make_load_request(const RequestPlan& plan, std::size_t index);

// The texts of a JSON file: a list of texts, or of a demo's entries (cli/prompts.h). Errors begin
// with the path.
Result<std::vector<std::string>> read_load_texts(const std::string& path);

}  // namespace tg
