#include "server/served_model.h"

#include <ctime>
#include <utility>

#include "text/chat_template.h"
#include "text/shielded_text.h"

namespace tg {
namespace {

// All texts of the value: a tool's description can hold an <|eot_id|> as well as a message can.
void shield_texts(const Tokenizer& tokenizer, RequestJson& value) {
  if (value.is_string()) {
    value = shield_special(tokenizer, value.get_ref<const std::string&>());
  } else if (value.is_structured()) {
    for (RequestJson& item : value) shield_texts(tokenizer, item);
  }
}

RequestJson shielded(const Tokenizer& tokenizer, RequestJson value) {
  shield_texts(tokenizer, value);
  return value;
}

// Whether there was a message without a content, as calls of tools mostly are: an empty one now.
bool fill_contents(RequestJson& messages) {
  bool filled = false;
  for (RequestJson& message : messages) {
    RequestJson& content = message["content"];
    if (!content.is_null()) continue;
    content = "";
    filled = true;
  }
  return filled;
}

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  ::localtime_r(&now, &parts);
  return parts;
}

}  // namespace

Result<std::vector<TokenId>> encode_messages(const ServedModel& model, const ChatMessages& chat) {
  if (model.chat_template == nullptr) {
    return field_error("messages", "this model has no chat template: {}; use /v1/completions",
                       model.chat_template_name);
  }
  const Tokenizer& tokenizer = *model.tokenizer;
  ChatInput input;
  input.messages = shielded(tokenizer, chat.messages);
  input.tools = shielded(tokenizer, chat.tools);
  input.documents = shielded(tokenizer, chat.documents);
  input.extra = shielded(tokenizer, chat.template_variables);
  input.add_generation_prompt = chat.add_generation_prompt;
  input.bos_token = model.bos_text;
  input.eos_token = model.eos_text;
  input.now = local_time();  // some templates (Granite, SmolLM3, gpt-oss) fail without a clock
  Result<std::string> text = model.chat_template->render(input);
  // Many templates add texts together and know nothing of calls.
  if (!text && fill_contents(input.messages)) text = model.chat_template->render(input);
  if (!text) return field_error("messages", "the chat template: {}", text.error().text());
  return encode_shielded(tokenizer, *text);
}

std::string_view template_source(const ServedModel& model) {
  if (model.chat_template == nullptr) return {};
  return model.chat_template->source();
}

}  // namespace tg
