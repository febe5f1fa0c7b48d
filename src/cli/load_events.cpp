#include "cli/load_events.h"

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

#include "text/utf8.h"

namespace tg {
namespace {

using ParsedJson = nlohmann::json;

// The value under a key; nothing when there is none, or null, or this is no object.
const ParsedJson* member(const ParsedJson* json, const char* key) {
  if (json == nullptr || !json->is_object()) return nullptr;
  const auto found = json->find(key);
  return found == json->end() || found->is_null() ? nullptr : &*found;
}

// The first text of these that is not empty, behind what is there already.
void append_first_text(std::initializer_list<const ParsedJson*> values, std::string& text) {
  for (const ParsedJson* value : values) {
    if (value == nullptr || !value->is_string()) continue;
    const auto& more = value->get_ref<const std::string&>();
    text += more;
    if (!more.empty()) return;
  }
}

std::optional<std::int64_t> token_count(const ParsedJson* value) {
  if (value == nullptr || !value->is_number_unsigned()) return std::nullopt;
  return value->get<std::int64_t>();
}

// Some servers repeat the whole request in what they say.
std::string clipped_message(const std::string& text) {
  constexpr std::size_t kMost = 300;
  if (text.size() <= kMost) return text;
  return text.substr(0, valid_utf8_prefix(std::string_view(text).substr(0, kMost))) + "...";
}

}  // namespace

Status EventReader::push(std::string_view bytes, std::vector<std::string>& events) {
  while (!bytes.empty()) {
    if (std::exchange(after_return_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    const std::size_t end = bytes.find_first_of("\r\n");
    line_.append(bytes.substr(0, end));
    if (line_.size() + data_.size() > kMostBytes) {
      return error(ErrorCode::kOutOfCapacity, "an event of more than {} bytes", kMostBytes);
    }
    if (end == std::string_view::npos) return {};
    after_return_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    end_line(events);
  }
  return {};
}

void EventReader::end_line(std::vector<std::string>& events) {
  std::string_view line = line_;
  if (std::exchange(first_line_, false) && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
  if (line.empty()) {
    if (std::exchange(has_data_, false)) events.push_back(std::exchange(data_, {}));
  } else if (line.substr(0, line.find(':')) == "data") {
    line.remove_prefix(std::min(line.size(), std::string_view("data:").size()));
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (std::exchange(has_data_, true)) data_ += '\n';
    data_ += line;
  }
  line_.clear();
}

std::optional<std::string> EventReader::rest() {
  std::vector<std::string> events;
  if (!line_.empty()) end_line(events);
  end_line(events);
  return events.empty() ? std::nullopt : std::optional(std::move(events.front()));
}

Result<AnswerChunk> read_answer_chunk(std::string_view data) {
  AnswerChunk chunk;
  if (data == "[DONE]") {
    chunk.done = true;
    return chunk;
  }
  const ParsedJson json = ParsedJson::parse(data, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return error(ErrorCode::kBadInput, "an event that is no JSON object: {}", shown_text(data));
  }
  if (member(&json, "error") != nullptr) {
    chunk.error = error_message_of(data);
    return chunk;
  }
  if (const ParsedJson* choices = member(&json, "choices");
      choices != nullptr && choices->is_array()) {
    for (const ParsedJson& choice : *choices) {
      const ParsedJson* delta = member(&choice, "delta");
      // What a model thinks before it answers is made token by token like the rest; servers have
      // two names for it.
      append_first_text({member(&choice, "text"), member(delta, "content"),
                         member(delta, "reasoning_content"), member(delta, "reasoning")},
                        chunk.text);
    }
  }
  const ParsedJson* usage = member(&json, "usage");
  chunk.prompt_tokens = token_count(member(usage, "prompt_tokens"));
  chunk.completion_tokens = token_count(member(usage, "completion_tokens"));
  return chunk;
}

std::string error_message_of(std::string_view body) {
  const ParsedJson json = ParsedJson::parse(body, nullptr, /*allow_exceptions=*/false);
  const ParsedJson* failure = member(&json, "error");
  const ParsedJson* detail = member(&json, "detail");
  for (const ParsedJson* value :
       {member(failure, "message"), failure, member(&json, "message"), detail}) {
    if (value != nullptr && value->is_string()) {
      return clipped_message(value->get_ref<const std::string&>());
    }
  }
  if (detail != nullptr) return clipped_message(detail->dump());
  return body.empty() ? "an empty body" : shown_text(body);
}

}  // namespace tg
