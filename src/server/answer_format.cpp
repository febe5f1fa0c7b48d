#include "server/answer_format.h"

#include <fmt/format.h>

#include <utility>

#include "server/json_text.h"
#include "text/utf8.h"

namespace tg {
namespace {

std::string head_text(const AnswerHead& head, const char* object) {
  std::string out = R"({"id":)";
  append_json_string(out, head.id);
  out += R"(,"object":")";
  out += object;
  out += R"(","created":)" + std::to_string(head.created) + R"(,"model":)";
  append_json_string(out, head.model);
  out += R"(,"choices":[)";
  return out;
}

std::string usage_text(const Usage& usage) {
  return fmt::format(R"("usage":{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
                     R"("prompt_tokens_details":{{"cached_tokens":{}}}}})",
                     usage.prompt_tokens, usage.completion_tokens,
                     usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens);
}

}  // namespace

AnswerFormat::AnswerFormat(AnswerHead head, const char* object, const char* chunk_object)
    : head_(std::move(head)),
      object_(object),
      chunk_object_(chunk_object),
      event_begin_("data: " + head_text(head_, chunk_object_)) {}

void AnswerFormat::begin_event(std::string& out, std::int64_t choice) const {
  out += event_begin_;
  out += R"({"index":)";
  out += std::to_string(choice);
}

void AnswerFormat::end_event(std::string& out) const {
  out += head_.include_usage ? "}],\"usage\":null}\n\n" : "}]}\n\n";
}

std::string AnswerFormat::closing(const Usage& usage) const {
  std::string out;
  if (head_.include_usage) out += event_begin_ + "]," + usage_text(usage) + "}\n\n";
  return out + "data: [DONE]\n\n";
}

std::string AnswerFormat::whole(std::vector<WholeAnswer> answers, const Usage& usage) {
  std::string out = head_text(head_, object_);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (i > 0) out += ',';
    out += R"({"index":)" + std::to_string(i);
    append_whole_choice(out, std::move(answers[i]));
    out += '}';
  }
  return out + "]," + usage_text(usage) + "}";
}

std::string_view finish_reason_text(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

std::string token_text(const Tokenizer& tokenizer, TokenId id) {
  const std::string_view bytes = tokenizer.token_bytes(id);
  if (valid_utf8_prefix(bytes) == bytes.size()) return std::string(bytes);
  std::string text = "bytes:";
  for (const char byte : bytes) {
    text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  }
  return text;
}

}  // namespace tg
