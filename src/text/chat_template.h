// What: messages made into the text of a prompt, by a Jinja template: the checkpoint's own, one
//   that comes with this program, or a file.
//   The text is one string in which the template's <|eot_id|> and a user's look alike: see
//   shielded_text.h for keeping the user's from becoming tokens.
// Who owns: the caller; a ChatTemplate is immutable. Thread: any.
#pragma once

#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja/template.h"

namespace tg {

struct ChatInput {
  // An array of objects {"role": ..., "content": ..., ...} in the form of the OpenAI API, but with
  // the arguments of tool calls as objects, not as texts of JSON. (A template that fails with
  // objects is given texts.) Keys keep their order, as do those of tool definitions. A key whose
  // value is null counts as absent, but "content" is none to a template that asks for that.
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  nlohmann::ordered_json tools;      // an array of definitions, or null for none
  nlohmann::ordered_json documents;  // an array of objects, or null for none
  // Whether the text ends with the beginning of an assistant's turn.
  bool add_generation_prompt = true;
  // What the template shall call today. Llama 3.1's says "26 Jul 2024" without.
  std::optional<std::string> date_string;
  // The clock of strftime_now, which templates use for the date if it exists (Llama 3.2's does).
  // Without, the same messages give the same text on every day.
  std::optional<std::tm> now;
  std::string bos_token;
  std::string eos_token;
  // An object of further variables: tools_in_user_message, builtin_tools, enable_thinking, ...
  nlohmann::ordered_json extra = nlohmann::ordered_json::object();
};

class ChatTemplate {
 public:
  // `name` is the place of errors. The errors of jinja::Template::parse.
  static Result<ChatTemplate> parse(std::string_view source, std::string name);

  // The prompt. kBadInput: the template refuses these messages (its own words, with line), or the
  // input is not of the form above; kUnsupported, kOutOfCapacity: as jinja::Template::render.
  Result<std::string> render(const ChatInput& input) const;

  // A built-in's name, the path of a file, or what parse() was given.
  const std::string& name() const { return template_.name(); }
  // What parse() read.
  const std::string& source() const { return source_; }

 private:
  ChatTemplate(jinja::Template parsed, std::string_view source, bool keeps_null_content)
      : template_(std::move(parsed)), source_(source), keeps_null_content_(keeps_null_content) {}
  jinja::Template template_;
  std::string source_;
  bool keeps_null_content_;
};

// The source of a template that comes with this program:
//   llama3       the text that the published template of Llama 3.1 gives, tools and dates included
//   llama3-meta  the text of Meta's own ChatFormat: no date header, nothing trimmed, tool results
//                unquoted. (Meta makes tokens of headers and contents apart from each other, so a
//                content that begins with a newline can have other tokens than this text.)
//   chatml       <|im_start|>role ... <|im_end|>
std::optional<std::string_view> find_builtin_template(std::string_view name);

// By the name of a built-in, else from a file. kNotFound or kIo with the path; errors of parse().
Result<ChatTemplate> load_chat_template(const std::string& name_or_path);

// What a Hugging Face directory says about chats. All may be empty.
struct HuggingFaceChat {
  std::string chat_template;  // source
  std::string place;          // the file that it came from
  std::string bos_token;
  std::string eos_token;
};

// From chat_template.jinja, else "chat_template" of tokenizer_config.json: a text, or a list of
// named ones, of which "default" is taken ("tool_use" with `for_tools`, if there is one). The
// special tokens are from tokenizer_config.json. kBadInput for a file of another form.
Result<HuggingFaceChat> read_hf_chat_template(const std::string& directory, bool for_tools);

// Where a model's template may come from.
struct ChatTemplateSources {
  std::string requested;        // a name or a path; empty: not asked for
  std::string from_checkpoint;  // source; empty: the checkpoint has none
  std::string checkpoint_place;
  // Whether the vocabulary has a special token of this text.
  std::function<bool(std::string_view)> has_token;
};

// The requested one, else the checkpoint's, else the built-in that fits the vocabulary (llama3 for
// <|start_header_id|>, chatml for <|im_start|>). kNotFound when nothing fits; the errors of
// load_chat_template() and parse().
Result<ChatTemplate> choose_chat_template(const ChatTemplateSources& sources);

}  // namespace tg
