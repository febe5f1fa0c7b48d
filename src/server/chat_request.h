// What: the body of /v1/chat/completions as a struct, all fields and ranges checked, messages in
//   the form that chat templates take (contents as one text, arguments of tool calls as objects).
// Who owns: plain values. Thread: any.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/answer_request.h"

namespace tg {

struct ToolChoice {
  enum class Kind : std::uint8_t {
    kNone,      // no calls; the template does not hear of the tools
    kAuto,      // the model decides
    kRequired,  // some tool
    kNamed,     // the one of `name`
  };
  Kind kind = Kind::kNone;
  std::string name = {};
};

// The part that shapes the prompt; /tokenize has the same.
struct ChatMessages {
  RequestJson messages = RequestJson::array();
  RequestJson tools;                                       // null: none
  RequestJson documents;                                   // null: none
  RequestJson template_variables = RequestJson::object();  // "chat_template_kwargs"
  bool add_generation_prompt = true;
};

struct ChatRequest {
  AnswerRequest answer;  // its sampling.top_logprobs is "top_logprobs", where "logprobs" is true
  ChatMessages chat;
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;  // else an answer is one call at most
};

Result<ChatRequest> read_chat_request(const RequestJson& body, const SamplingParams& defaults);
Result<ChatMessages> read_chat_messages(const RequestJson& body);

// The name of a checked tool definition.
const std::string& tool_name(const RequestJson& tool);

}  // namespace tg
