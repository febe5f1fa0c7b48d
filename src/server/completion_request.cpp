#include "server/completion_request.h"

#include <limits>
#include <utility>

namespace tg {
namespace {

Status add_prompt(const RequestJson& value, CompletionRequest& request) {
  if (value.is_string()) {
    request.prompts.emplace_back(value.get<std::string>());
    return {};
  }
  if (!value.is_array()) {
    return field_error("prompt", "prompt has {}, not a string or a list of token ids",
                       shown_value(value));
  }
  TG_ASSIGN(std::vector<TokenId> ids, read_token_ids(value, "prompt"));
  request.prompts.emplace_back(std::move(ids));
  return {};
}

Status read_prompts(const RequestFields& fields, CompletionRequest& request) {
  const RequestJson* prompt = fields.find("prompt");
  if (prompt == nullptr) return field_error("prompt", "prompt is missing");
  if (prompt->is_string()) return add_prompt(*prompt, request);
  if (!prompt->is_array() || prompt->empty()) {
    return fields.wrong("prompt", *prompt,
                        "a string, a list of strings, of token ids, or of such lists");
  }
  if (prompt->front().is_number()) return add_prompt(*prompt, request);
  const bool texts = prompt->front().is_string();
  for (const RequestJson& one : *prompt) {
    if (one.is_string() != texts) {
      return field_error("prompt", "prompt mixes strings with token ids");
    }
    TG_RETURN_IF_ERROR(add_prompt(one, request));
  }
  return {};
}

// What this server does not do, where leaving it out would change the answer.
Status refuse_unsupported(const RequestFields& fields, const AnswerRequest& answer) {
  TG_ASSIGN(const auto best_of, fields.whole("best_of", 1, kMostChoices));
  if (best_of && *best_of > answer.choices) {
    return field_error("best_of", "best_of {} is more than n {}, which is not supported", *best_of,
                       answer.choices);
  }
  TG_ASSIGN(const auto suffix, fields.text("suffix"));
  if (suffix && !suffix->empty()) return field_error("suffix", "suffix is not supported");
  TG_ASSIGN(const bool beams, fields.flag("use_beam_search", false));
  if (beams) return field_error("use_beam_search", "use_beam_search is not supported");
  return {};
}

}  // namespace

Result<std::vector<TokenId>> read_token_ids(const RequestJson& list, const std::string& field) {
  if (list.empty()) return field_error(field, "{} has a list without token ids", field);
  std::vector<TokenId> ids;
  ids.reserve(list.size());
  for (const RequestJson& value : list) {
    const std::optional<std::int64_t> id = whole_number(value);
    if (!id || *id < 0 || *id > std::numeric_limits<TokenId>::max()) {
      return field_error(field, "{} has {} at place {}, not a token id", field, shown_value(value),
                         ids.size());
    }
    ids.push_back(static_cast<TokenId>(*id));
  }
  return ids;
}

Result<CompletionRequest> read_completion_request(const RequestJson& body,
                                                  const SamplingParams& defaults) {
  const RequestFields fields(body);
  CompletionRequest request;
  TG_ASSIGN(request.echo, fields.flag("echo", false));
  // Only with the prompt in it an answer without a token is one.
  TG_ASSIGN(request.answer, read_answer_request(body, defaults, request.echo ? 0 : 1));
  // Some clients send false and true, as in the chat form.
  const RequestJson* logprobs = fields.find("logprobs");
  if (logprobs != nullptr && logprobs->is_boolean()) {
    request.answer.sampling.top_logprobs = logprobs->get<bool>() ? 0 : -1;
  } else {
    TG_ASSIGN(const auto count, fields.whole("logprobs", 0, kMostTopLogprobs));
    request.answer.sampling.top_logprobs = static_cast<std::int32_t>(count.value_or(-1));
  }
  TG_RETURN_IF_ERROR(refuse_unsupported(fields, request.answer));
  TG_RETURN_IF_ERROR(read_prompts(fields, request));
  return request;
}

}  // namespace tg
