#include "engine/request.h"

#include <utility>

namespace tg {

const char* name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  return "error";
}

bool AnswerSink::on_token(const TokenEvent& event) {
  sampled.push_back(event.sampled);
  if (event.is_stop_id) {
    stop_id = event.sampled.token;
  } else {
    ids.push_back(event.sampled.token);
  }
  return true;
}

void AnswerSink::on_prompt_scores(RequestId /*id*/, std::vector<SampledToken> scores) {
  prompt_scores = std::move(scores);
}

void AnswerSink::on_finish(const FinishEvent& event) {
  finished = true;
  reason = event.reason;
  error = event.error;
  prompt_tokens = event.prompt_tokens;
  completion_tokens = event.completion_tokens;
  preemptions = event.preemptions;
  cached_tokens = event.cached_tokens;
  speculation = event.speculation;
  timing = event.timing;
}

}  // namespace tg
