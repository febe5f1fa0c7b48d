// What: the body of /v1/completions as a struct, all fields and ranges checked.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "server/answer_request.h"

namespace tg {

// What an answer gets when the request does not say, as OpenAI's.
inline constexpr std::int64_t kDefaultCompletionTokens = 16;

struct CompletionRequest {
  AnswerRequest answer;  // its sampling.top_logprobs is the "logprobs" asked for
  // A text, or ids that are taken as they are.
  using Prompt = std::variant<std::string, std::vector<TokenId>>;
  std::vector<Prompt> prompts;  // one or more
  bool echo = false;
};

Result<CompletionRequest> read_completion_request(const RequestJson& body,
                                                  const SamplingParams& defaults);

// A list of ids. `field`: for errors.
Result<std::vector<TokenId>> read_token_ids(const RequestJson& list, const std::string& field);

}  // namespace tg
