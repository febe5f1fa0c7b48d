// What: tool calls as Llama 3.1 writes them: the whole answer is
//   {"name": "get_weather", "parameters": {"city": "Paris"}}, or several of these parted by ";".
//   Reading them out of an answer, and the schema that forces one.
// Who owns: plain values. Thread: any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/json_request.h"

namespace tg {

struct ToolCall {
  std::string name;
  std::string arguments;  // an object, as text
};

// Empty when the text is no call, or one of a tool that is not among `names`: it is an ordinary
// answer then.
std::vector<ToolCall> parse_tool_calls(std::string_view text,
                                       const std::vector<std::string>& names);

// Whether an answer that begins so may become a call, so that nothing of it should be shown yet.
bool may_be_tool_call(std::string_view beginning);

// The JSON schema of a call of one of the checked `tools`; of `only`, unless it is empty.
std::string tool_call_schema(const RequestJson& tools, std::string_view only);

}  // namespace tg
