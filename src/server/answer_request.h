// What: what a request of either endpoint asks of its answers: sampling, length, stops, form, how
//   they are delivered. Read from the body with every range checked; nothing of a model is needed.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/sampling_params.h"
#include "server/json_request.h"

namespace tg {

// Which texts an answer may be. At most one of these is asked for.
struct AnswerForm {
  enum class Kind : std::uint8_t { kAny, kJsonObject, kJsonSchema, kRegex, kChoice };
  Kind kind = Kind::kAny;
  std::string source;                // the schema's text, or the expression
  std::vector<std::string> choices;  // kChoice
  std::string field;                 // of the request, for errors
};

struct AnswerRequest {
  std::string model;  // empty: whichever is served
  SamplingParams sampling;
  std::optional<std::uint64_t> seed;  // of the first choice; the next ones count up
  std::int64_t choices = 1;           // "n"
  std::optional<std::int64_t> max_tokens;
  std::int64_t min_tokens = 0;
  bool ignore_eos = false;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_token_ids;
  bool keeps_stop_text = false;  // "include_stop_str_in_output"
  bool skip_special = true;      // "skip_special_tokens"
  std::int32_t priority = 0;     // lower comes first
  AnswerForm form;
  bool stream = false;
  bool include_usage = false;
};

// As vLLM does by default; a client asks for 1 to 5.
inline constexpr std::int64_t kMostTopLogprobs = 20;
inline constexpr std::int64_t kMostChoices = 128;

// An answer of a form ends where the form does: what would keep it from that is refused.
Status check_form(const AnswerRequest& request);

// `defaults`: the server's own, for what the body does not say. "max_tokens" may be `least_tokens`
// or more.
Result<AnswerRequest> read_answer_request(const RequestJson& body, const SamplingParams& defaults,
                                          std::int64_t least_tokens);

}  // namespace tg
