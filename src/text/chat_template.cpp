#include "text/chat_template.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "text/jinja/limits.h"
#include "text/jinja/parser.h"
#include "text/jinja/value_text.h"
#include "text/text_file.h"

namespace tg {
namespace {

using Json = nlohmann::ordered_json;
// What a file says. Not ordered: that one copies values while it parses, which for deeply nested
// ones needs as deep a stack.
using Config = nlohmann::json;

// tokenizer_config.json lists all added tokens of a vocabulary; the largest known has 2 MiB.
constexpr std::size_t kMaxConfigBytes = std::size_t{64} << 20;

// How messages are handed to a template.
struct MessageForm {
  bool keeps_null_content = false;
  bool arguments_as_texts = false;
};

// Whether a template tells a content of none apart from a missing one: "content is none",
// "['content'] != none" and their like.
bool asks_for_none(std::string_view source) {
  static constexpr std::string_view kWord = "content";
  for (std::size_t at = source.find(kWord); at != std::string_view::npos;
       at = source.find(kWord, at + 1)) {
    std::string_view rest = source.substr(at + kWord.size());
    const auto skip = [&rest](std::string_view chars) {
      const std::size_t end = std::min(rest.find_first_not_of(chars), rest.size());
      rest.remove_prefix(end);
      return end > 0;
    };
    const auto skip_text = [&rest](std::string_view text) {
      if (!rest.starts_with(text)) return false;
      rest.remove_prefix(text.size());
      return true;
    };
    skip("'\"])");
    if (!skip(" \t\r\n")) continue;
    if (skip_text("is")) {
      if (!skip(" \t\r\n")) continue;
      if (skip_text("not") && !skip(" \t\r\n")) continue;
    } else if (skip_text("==") || skip_text("!=")) {
      skip(" \t\r\n");
    } else {
      continue;
    }
    if (skip_text("none") || skip_text("None")) return true;
  }
  return false;
}

// True if a call of a tool among the messages has its arguments as an object.
bool has_argument_objects(const Json& messages) {
  for (const Json& message : messages) {
    if (!message.is_object() || !message.contains("tool_calls")) continue;
    for (const Json& call : message["tool_calls"]) {
      if (!call.is_object() || !call.contains("function")) continue;
      const Json& function = call["function"];
      if (function.is_object() && function.contains("arguments") &&
          function["arguments"].is_object()) {
        return true;
      }
    }
  }
  return false;
}

// Tool calls whose arguments are texts of JSON, written as Python writes them.
Result<Json> calls_with_texts(const Json& calls) {
  Json made = calls;
  for (Json& call : made) {
    if (!call.is_object() || !call.contains("function")) continue;
    Json& function = call["function"];
    if (!function.is_object() || !function.contains("arguments")) continue;
    Json& arguments = function["arguments"];
    if (!arguments.is_object()) continue;
    jinja::Meter meter(jinja::RenderLimits{});
    TG_ASSIGN(const jinja::Value value, jinja::from_json(arguments));
    TG_ASSIGN(arguments, jinja::to_json(value, {}, meter));
  }
  return made;
}

// The messages without the keys whose value is null: clients send "tool_calls": null and more of
// that kind, and templates ask only whether the key is there. "content": null stays for the
// templates that ask for it (DeepSeek's know a tool call by it); to others it would be a text
// "None".
Result<jinja::Value> messages_value(const Json& messages, const MessageForm& form) {
  if (!messages.is_array()) {
    return error(ErrorCode::kBadInput, "messages must be an array, not {}", messages.type_name());
  }
  jinja::List all;
  for (const Json& message : messages) {
    const std::string place = fmt::format("messages[{}]", all.size());
    if (!message.is_object()) {
      return error(ErrorCode::kBadInput, "{} must be an object, not {}", place,
                   message.type_name());
    }
    auto fields = std::make_shared<jinja::Dict>();
    for (const auto& [key, json] : message.items()) {
      if (json.is_null() && !(form.keeps_null_content && key == "content")) continue;
      auto name = jinja::from_json(key);
      if (!name) return at_place(std::move(name).error(), place);
      Result<Json> calls = Json();
      if (form.arguments_as_texts && key == "tool_calls") calls = calls_with_texts(json);
      if (!calls) return at_place(std::move(calls).error(), place);
      auto value = jinja::from_json(calls->is_null() ? json : *calls);
      if (!value) return at_place(std::move(value).error(), place);
      TG_RETURN_IF_ERROR(fields->set_text(key, std::move(*value)));
    }
    all.emplace_back(jinja::DictPtr(std::move(fields)));
  }
  return jinja::make_list(std::move(all));
}

Status set_json(jinja::Dict& variables, const std::string& name, const Json& json) {
  auto value = jinja::from_json(json);
  if (!value) return at_place(std::move(value).error(), name);
  return variables.set_text(name, std::move(*value));
}

Result<jinja::Dict> variables_of(const ChatInput& input, const MessageForm& form) {
  jinja::Dict variables;
  TG_ASSIGN(jinja::Value messages, messages_value(input.messages, form));
  TG_RETURN_IF_ERROR(variables.set_text("messages", std::move(messages)));
  TG_RETURN_IF_ERROR(set_json(variables, "tools", input.tools));
  TG_RETURN_IF_ERROR(set_json(variables, "documents", input.documents));
  TG_RETURN_IF_ERROR(set_json(variables, "add_generation_prompt", input.add_generation_prompt));
  TG_RETURN_IF_ERROR(set_json(variables, "bos_token", input.bos_token));
  TG_RETURN_IF_ERROR(set_json(variables, "eos_token", input.eos_token));
  if (input.date_string) {
    TG_RETURN_IF_ERROR(set_json(variables, "date_string", *input.date_string));
  }
  if (!input.extra.is_object()) {
    return error(ErrorCode::kBadInput, "extra template variables must be an object, not {}",
                 input.extra.type_name());
  }
  for (const auto& [name, value] : input.extra.items()) {
    TG_RETURN_IF_ERROR(set_json(variables, name, value));
  }
  return variables;
}

Result<Config> read_json_object(const std::string& path) {
  TG_ASSIGN(const MappedFile file, open_text_file(path, kMaxConfigBytes));
  Config json = Config::parse(text_of(file), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return at_place(Error{ErrorCode::kBadInput, "not a JSON object", {}}, path);
  }
  return json;
}

// A special token is a text, or an object with the text as "content".
std::string token_text(const Config& config, const std::string& key) {
  const auto found = config.find(key);
  if (found == config.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) {
    return (*found)["content"].get<std::string>();
  }
  return {};
}

// The text of a key, nullptr when there is none. (By reference everywhere here: a copy of values
// that are nested a hundred thousand deep would need as deep a stack.)
const std::string* text_at(const Config& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return nullptr;
  return &found->get_ref<const std::string&>();
}

// The value of "chat_template": a text, or a list of {"name": ..., "template": ...}.
Result<std::string> template_text(const Config& value, bool for_tools) {
  if (value.is_null()) return std::string();
  if (value.is_string()) return value.get<std::string>();
  std::string chosen;
  if (value.is_array()) {
    for (const Config& entry : value) {
      const std::string* text = text_at(entry, "template");
      const std::string* name = text_at(entry, "name");
      if (text == nullptr || name == nullptr) continue;
      const bool is_tool_use = for_tools && *name == "tool_use";
      if (is_tool_use || (*name == "default" && chosen.empty())) chosen = *text;
      if (is_tool_use) break;
    }
  }
  if (chosen.empty()) {
    return error(ErrorCode::kBadInput,
                 "\"chat_template\" is neither a text nor a list with one named \"default\"");
  }
  return chosen;
}

}  // namespace

Result<ChatTemplate> ChatTemplate::parse(std::string_view source, std::string name) {
  TG_ASSIGN(jinja::Template parsed, jinja::Template::parse(source, std::move(name)));
  return ChatTemplate(std::move(parsed), source, asks_for_none(source));
}

Result<std::string> ChatTemplate::render(const ChatInput& input) const {
  MessageForm form;
  form.keeps_null_content = keeps_null_content_;
  TG_ASSIGN(const jinja::Dict variables, variables_of(input, form));
  auto text = template_.render(variables, input.now);
  if (text || text.error().code != ErrorCode::kBadInput || !has_argument_objects(input.messages)) {
    return text;
  }
  // Some templates (DeepSeek's) put texts together with the arguments of calls, which fails with
  // objects.
  form.arguments_as_texts = true;
  TG_ASSIGN(const jinja::Dict with_texts, variables_of(input, form));
  auto second = template_.render(with_texts, input.now);
  return second ? std::move(second) : std::move(text);
}

Result<ChatTemplate> load_chat_template(const std::string& name_or_path) {
  if (const auto source = find_builtin_template(name_or_path)) {
    return ChatTemplate::parse(*source, name_or_path);
  }
  auto file = open_text_file(name_or_path, jinja::kMaxSourceBytes);
  if (!file) {
    Error failure = std::move(file).error();
    if (failure.code == ErrorCode::kNotFound) {
      failure.message += " (built-in chat templates are llama3, llama3-meta and chatml)";
    }
    return tl::unexpected<Error>(std::move(failure));
  }
  return ChatTemplate::parse(text_of(*file), name_or_path);
}

Result<HuggingFaceChat> read_hf_chat_template(const std::string& directory, bool for_tools) {
  HuggingFaceChat chat;
  Config config = Config::object();
  const std::filesystem::path folder(directory);
  const std::string config_path = (folder / "tokenizer_config.json").string();
  std::error_code ignored;
  if (std::filesystem::exists(config_path, ignored)) {
    TG_ASSIGN(config, read_json_object(config_path));
  }
  chat.bos_token = token_text(config, "bos_token");
  chat.eos_token = token_text(config, "eos_token");
  const std::string jinja_path = (folder / "chat_template.jinja").string();
  if (std::filesystem::exists(jinja_path, ignored)) {
    TG_ASSIGN(const MappedFile file, open_text_file(jinja_path, jinja::kMaxSourceBytes));
    chat.chat_template = text_of(file);
    chat.place = jinja_path;
    return chat;
  }
  const auto given = config.find("chat_template");
  Result<std::string> text =
      given == config.end() ? std::string() : template_text(*given, for_tools);
  if (!text) return at_place(std::move(text).error(), config_path);
  chat.chat_template = std::move(*text);
  if (!chat.chat_template.empty()) chat.place = config_path;
  return chat;
}

Result<ChatTemplate> choose_chat_template(const ChatTemplateSources& sources) {
  if (!sources.requested.empty()) return load_chat_template(sources.requested);
  if (!sources.from_checkpoint.empty()) {
    return ChatTemplate::parse(sources.from_checkpoint, sources.checkpoint_place);
  }
  if (sources.has_token && sources.has_token("<|start_header_id|>")) {
    return load_chat_template("llama3");
  }
  if (sources.has_token && sources.has_token("<|im_start|>")) return load_chat_template("chatml");
  return error(ErrorCode::kNotFound,
               "the checkpoint has no chat template, and its vocabulary has neither "
               "<|start_header_id|> nor <|im_start|>; choose one with --chat-template");
}

}  // namespace tg
