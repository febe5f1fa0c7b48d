#include "server/chat_request.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "server/tool_calls.h"

namespace tg {
namespace {

constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};

// A text, or a list of parts of which all are texts: these are joined by newlines, as vLLM does.
Result<std::string> read_content(const RequestJson& content, const std::string& place) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) {
    return field_error(place, "{} is {}, not a string or a list of parts", place,
                       shown_value(content));
  }
  std::string joined;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const std::string part_place = fmt::format("{}[{}]", place, i);
    const RequestJson& part = content[i];
    if (i > 0) joined += '\n';
    if (part.is_string()) {
      joined += part.get_ref<const std::string&>();
      continue;
    }
    if (!part.is_object()) {
      return field_error(part_place, "{} is {}, not a part", part_place, shown_value(part));
    }
    const RequestFields fields(part, part_place);
    TG_ASSIGN(const auto type, fields.text("type"));
    if (type && *type != "text") {
      return field_error(part_place, "{} has the type {}; this model reads text only", part_place,
                         shown_value(RequestJson(*type)));
    }
    TG_ASSIGN(const auto text, fields.text("text"));
    if (!text) return field_error(part_place, "{} has no \"text\"", part_place);
    joined += *text;
  }
  return joined;
}

// "type" of tools, their calls and their choice: functions are all that models know here.
Status check_function_type(const RequestFields& fields) {
  TG_ASSIGN(const auto type, fields.text("type"));
  if (!type || *type == "function") return {};
  const std::string place = fields.path("type");
  return field_error(place, "{} is {}, not function", place, shown_value(RequestJson(*type)));
}

// One call of an earlier answer, its arguments as an object.
Result<RequestJson> read_tool_call(const RequestJson& call, const std::string& place) {
  if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) {
    return field_error(place, "{} is no tool call: it has no \"function\"", place);
  }
  const RequestFields fields(call, place);
  TG_RETURN_IF_ERROR(check_function_type(fields));
  TG_ASSIGN(const auto id, fields.text("id"));
  const RequestFields function(call["function"], place + ".function");
  TG_ASSIGN(const auto name, function.text("name"));
  if (!name) return field_error(place, "{}.function.name is missing", place);
  RequestJson arguments = RequestJson::object();
  if (const RequestJson* given = function.find("arguments")) {
    arguments = *given;
    const std::string arguments_place = function.path("arguments");
    if (given->is_string() && given->get_ref<const std::string&>().empty()) {
      arguments = RequestJson::object();
    } else if (given->is_string()) {
      auto parsed = parse_inner_json(given->get_ref<const std::string&>());
      if (!parsed) {
        return field_error(arguments_place, "{} is {}", arguments_place, parsed.error().message);
      }
      arguments = std::move(*parsed);
    }
    if (!arguments.is_object()) {
      return field_error(arguments_place, "{} is {}, not an object", arguments_place,
                         shown_value(arguments));
    }
  }
  RequestJson read = {{"type", "function"},
                      {"function", {{"name", *name}, {"arguments", std::move(arguments)}}}};
  if (id) read["id"] = *id;
  return read;
}

Status read_tool_calls(const RequestFields& fields, RequestJson& message) {
  const RequestJson* calls = fields.find("tool_calls");
  if (calls == nullptr || (calls->is_array() && calls->empty())) return {};
  const std::string place = fields.path("tool_calls");
  if (!calls->is_array()) return fields.wrong("tool_calls", *calls, "a list");
  RequestJson read = RequestJson::array();
  for (std::size_t i = 0; i < calls->size(); ++i) {
    TG_ASSIGN(RequestJson call, read_tool_call((*calls)[i], fmt::format("{}[{}]", place, i)));
    read.push_back(std::move(call));
  }
  message["tool_calls"] = std::move(read);
  return {};
}

Result<RequestJson> read_message(const RequestJson& given, const std::string& place) {
  if (!given.is_object()) {
    return field_error(place, "{} is {}, not an object", place, shown_value(given));
  }
  const RequestFields fields(given, place);
  TG_ASSIGN(const auto role, fields.text("role"));
  const std::string role_place = fields.path("role");
  if (!role) return field_error(role_place, "{} is missing", role_place);
  if (std::find(kRoles.begin(), kRoles.end(), *role) == kRoles.end()) {
    return field_error(role_place, "{} is {}, not system, developer, user, assistant or tool",
                       role_place, shown_value(RequestJson(*role)));
  }
  // The newer name of the same; templates only know the older one.
  RequestJson message = {{"role", *role == "developer" ? "system" : *role}};
  if (*role == "assistant") TG_RETURN_IF_ERROR(read_tool_calls(fields, message));
  const std::string content_place = fields.path("content");
  if (const RequestJson* content = fields.find("content")) {
    TG_ASSIGN(message["content"], read_content(*content, content_place));
  } else if (message.contains("tool_calls")) {
    message["content"] = nullptr;  // some templates (DeepSeek's) know a call by it
  } else {
    return field_error(content_place, "{} is missing", content_place);
  }
  for (const char* key : {"name", "tool_call_id"}) {
    TG_ASSIGN(auto text, fields.text(key));
    if (text) message[key] = std::move(*text);
  }
  return message;
}

Result<RequestJson> read_tools(const RequestFields& fields) {
  const RequestJson* tools = fields.find("tools");
  if (tools == nullptr || (tools->is_array() && tools->empty())) return RequestJson();
  if (!tools->is_array()) return fields.wrong("tools", *tools, "a list");
  for (std::size_t i = 0; i < tools->size(); ++i) {
    const std::string place = fmt::format("tools[{}]", i);
    const RequestJson& tool = (*tools)[i];
    if (!tool.is_object() || !tool.contains("function") || !tool["function"].is_object()) {
      return field_error(place, "{} is no object with a \"function\"", place);
    }
    TG_RETURN_IF_ERROR(check_function_type(RequestFields(tool, place)));
    const RequestFields function(tool["function"], place + ".function");
    TG_ASSIGN(const auto name, function.text("name"));
    if (!name || name->empty()) {
      return field_error(place, "{}.function.name is missing", place);
    }
    TG_ASSIGN(const auto description, function.text("description"));
    const RequestJson* parameters = function.find("parameters");
    if (parameters != nullptr && !parameters->is_object()) {
      return function.wrong("parameters", *parameters, "a JSON schema");
    }
  }
  return *tools;
}

Result<ToolChoice> read_tool_choice(const RequestFields& fields, const RequestJson& tools) {
  const RequestJson* choice = fields.find("tool_choice");
  ToolChoice read;
  if (choice == nullptr || *choice == "auto") {
    read.kind = tools.is_null() ? ToolChoice::Kind::kNone : ToolChoice::Kind::kAuto;
    return read;
  }
  if (*choice == "none") return read;
  if (tools.is_null()) return field_error("tool_choice", "tool_choice needs tools");
  if (*choice == "required") {
    read.kind = ToolChoice::Kind::kRequired;
    return read;
  }
  if (!choice->is_object() || !choice->contains("function") || !(*choice)["function"].is_object()) {
    return fields.wrong("tool_choice", *choice,
                        "none, auto, required or {\"type\": \"function\", \"function\": ...}");
  }
  TG_RETURN_IF_ERROR(check_function_type(RequestFields(*choice, "tool_choice")));
  TG_ASSIGN(const auto name,
            RequestFields((*choice)["function"], "tool_choice.function").text("name"));
  read.kind = ToolChoice::Kind::kNamed;
  read.name = name.value_or("");
  for (const RequestJson& tool : tools) {
    if (tool_name(tool) == read.name) return read;
  }
  return field_error("tool_choice", "tool_choice names {}, which is not among the {} tools",
                     shown_value(RequestJson(read.name)), tools.size());
}

Status read_chat_logprobs(const RequestFields& fields, SamplingParams& sampling) {
  TG_ASSIGN(const bool wanted, fields.flag("logprobs", false));
  TG_ASSIGN(const auto top, fields.whole("top_logprobs", 0, kMostTopLogprobs));
  if (top && *top > 0 && !wanted) {
    return field_error("top_logprobs", "top_logprobs needs \"logprobs\": true");
  }
  sampling.top_logprobs = wanted ? static_cast<std::int32_t>(top.value_or(0)) : -1;
  return {};
}

}  // namespace

const std::string& tool_name(const RequestJson& tool) {
  return tool["function"]["name"].get_ref<const std::string&>();
}

Result<ChatMessages> read_chat_messages(const RequestJson& body) {
  const RequestFields fields(body);
  ChatMessages chat;
  const RequestJson* messages = fields.find("messages");
  if (messages == nullptr) return field_error("messages", "messages is missing");
  if (!messages->is_array() || messages->empty()) {
    return fields.wrong("messages", *messages, "a list of one message or more");
  }
  for (std::size_t i = 0; i < messages->size(); ++i) {
    TG_ASSIGN(RequestJson message, read_message((*messages)[i], fmt::format("messages[{}]", i)));
    chat.messages.push_back(std::move(message));
  }
  TG_ASSIGN(chat.tools, read_tools(fields));
  if (const RequestJson* documents = fields.find("documents")) {
    if (!documents->is_array()) return fields.wrong("documents", *documents, "a list");
    chat.documents = *documents;
  }
  if (const RequestJson* variables = fields.find("chat_template_kwargs")) {
    if (!variables->is_object()) {
      return fields.wrong("chat_template_kwargs", *variables, "an object");
    }
    chat.template_variables = *variables;
  }
  TG_ASSIGN(chat.add_generation_prompt, fields.flag("add_generation_prompt", true));
  TG_ASSIGN(const bool continues, fields.flag("continue_final_message", false));
  for (const char* key : {"chat_template", "functions"}) {
    if (fields.find(key) != nullptr) return field_error(key, "{} is not supported", key);
  }
  if (continues) {
    return field_error("continue_final_message", "continue_final_message is not supported");
  }
  return chat;
}

Result<ChatRequest> read_chat_request(const RequestJson& body, const SamplingParams& defaults) {
  const RequestFields fields(body);
  ChatRequest request;
  TG_ASSIGN(request.answer, read_answer_request(body, defaults, 1));
  TG_RETURN_IF_ERROR(read_chat_logprobs(fields, request.answer.sampling));
  TG_ASSIGN(request.chat, read_chat_messages(body));
  TG_ASSIGN(request.tool_choice, read_tool_choice(fields, request.chat.tools));
  if (request.tool_choice.kind == ToolChoice::Kind::kNone) request.chat.tools = nullptr;
  TG_ASSIGN(request.parallel_tool_calls, fields.flag("parallel_tool_calls", true));
  if (request.tool_choice.kind != ToolChoice::Kind::kRequired &&
      request.tool_choice.kind != ToolChoice::Kind::kNamed) {
    return request;
  }
  AnswerForm& form = request.answer.form;
  if (form.kind != AnswerForm::Kind::kAny) {
    return field_error("tool_choice", "tool_choice forces a call, {} another form", form.field);
  }
  form = {AnswerForm::Kind::kJsonSchema,
          tool_call_schema(request.chat.tools, request.tool_choice.name),
          {},
          "tool_choice"};
  TG_RETURN_IF_ERROR(check_form(request.answer));
  return request;
}

}  // namespace tg
