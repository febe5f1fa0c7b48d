#include "server/tool_calls.h"

#include <algorithm>
#include <utility>

#include "server/chat_request.h"

namespace tg {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

// The length of the JSON object that the text begins with; 0 when it does not end.
std::size_t object_length(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (--depth == 0) return i + 1;
    }
  }
  return 0;
}

// A name and arguments out of one object; an empty name when it is no call.
ToolCall call_of_object(std::string_view text, const std::vector<std::string>& names) {
  const Result<RequestJson> object = parse_inner_json(text);
  if (!object || !object->is_object()) return {};
  const RequestFields fields(*object);
  const RequestJson* name = fields.find("name");
  const RequestJson* arguments = fields.find("parameters");
  if (arguments == nullptr) arguments = fields.find("arguments");
  if (name == nullptr || !name->is_string() || arguments == nullptr || !arguments->is_object()) {
    return {};
  }
  const auto& called = name->get_ref<const std::string&>();
  if (std::find(names.begin(), names.end(), called) == names.end()) return {};
  return {called, arguments->dump()};
}

// A schema that moves to another place of a document takes its references along.
void move_references(RequestJson& schema, const std::string& place) {
  if (schema.is_array()) {
    for (RequestJson& item : schema) move_references(item, place);
  }
  if (!schema.is_object()) return;
  for (auto& [key, value] : schema.get_ref<RequestJson::object_t&>()) {
    if (key == "$ref" && value.is_string() && value.get_ref<std::string&>().starts_with('#')) {
      value = place + value.get_ref<std::string&>().substr(1);
    } else {
      move_references(value, place);
    }
  }
}

}  // namespace

std::vector<ToolCall> parse_tool_calls(std::string_view text,
                                       const std::vector<std::string>& names) {
  std::vector<ToolCall> calls;
  for (;;) {
    text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
    if (text.empty()) return calls;
    if (!calls.empty() && text.front() == ';') {
      text.remove_prefix(1);
      continue;
    }
    const std::size_t length = text.front() == '{' ? object_length(text) : 0;
    if (length == 0) return {};
    ToolCall call = call_of_object(text.substr(0, length), names);
    if (call.name.empty()) return {};
    calls.push_back(std::move(call));
    text.remove_prefix(length);
  }
}

bool may_be_tool_call(std::string_view beginning) {
  const std::size_t first = beginning.find_first_not_of(kBlanks);
  return first == std::string_view::npos || beginning[first] == '{';
}

std::string tool_call_schema(const RequestJson& tools, std::string_view only) {
  RequestJson parameters_of = RequestJson::object();
  RequestJson calls = RequestJson::array();
  for (const RequestJson& tool : tools) {
    const std::string& name = tool_name(tool);
    if (!only.empty() && name != only) continue;
    const std::string key = "tool_" + std::to_string(calls.size());
    RequestJson parameters = {{"type", "object"}};
    if (const RequestJson* given = RequestFields(tool["function"]).find("parameters")) {
      parameters = *given;
    }
    move_references(parameters, "#/$defs/" + key);
    parameters_of[key] = std::move(parameters);
    calls.push_back({{"type", "object"},
                     {"properties",
                      {{"name", {{"const", name}}}, {"parameters", {{"$ref", "#/$defs/" + key}}}}},
                     {"required", {"name", "parameters"}},
                     {"additionalProperties", false}});
  }
  RequestJson schema = {{"anyOf", std::move(calls)}, {"$defs", std::move(parameters_of)}};
  return schema.dump();
}

}  // namespace tg
