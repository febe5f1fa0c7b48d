// What: what the API knows of the model: names, tokenizer, chat template, stop ids, limits; and
//   prompts made of it.
// Who owns: the Api; immutable. Thread: any.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/chat_request.h"
#include "text/tokenizer.h"

namespace tg {

class ChatTemplate;  // not the header: it takes seconds to compile

struct ServedModel {
  std::string id;
  std::string root;          // where the checkpoint lies
  std::int64_t created = 0;  // seconds since 1970
  std::int64_t max_context = 0;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;  // nullptr: no chats
  std::string chat_template_name;                     // or why there is none
  std::string bos_text;
  std::string eos_text;
  std::vector<TokenId> stop_ids;
};

// The prompt of a conversation: special tokens in what the user wrote stay text.
Result<std::vector<TokenId>> encode_messages(const ServedModel& model, const ChatMessages& chat);
// Of the chat template; empty: there is none.
std::string_view template_source(const ServedModel& model);

}  // namespace tg
