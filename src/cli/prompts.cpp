#include "cli/prompts.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/shown_json.h"
#include "text/utf8.h"

namespace tg {
namespace {

using PlainJson = nlohmann::json;

constexpr std::uintmax_t kMostFileBytes = std::uintmax_t{64} << 20;
// 128K tokens of English have about half a million characters.
constexpr std::int64_t kMostRepeatedCharacters = std::int64_t{16} << 20;

Result<std::string> read_file(const std::string& path) {
  std::error_code failed;
  if (std::filesystem::is_directory(path, failed)) {
    return error(ErrorCode::kIo, "is a directory, not a JSON file of prompts");
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    const int reason = errno;
    return error(reason == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot be opened: {}",
                 std::strerror(reason));
  }
  // Not asked for its size: it may be a pipe.
  std::string text;
  char part[1 << 16];
  while (in.read(part, sizeof(part)) || in.gcount() > 0) {
    text.append(part, static_cast<std::size_t>(in.gcount()));
    if (text.size() > kMostFileBytes) {
      return error(ErrorCode::kBadInput, "more than {} bytes, the most a prompt file may have",
                   kMostFileBytes);
    }
  }
  if (in.bad()) return error(ErrorCode::kIo, "cannot be read: {}", std::strerror(errno));
  return text;
}

Result<PlainJson> parse_json(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const std::size_t valid = valid_utf8_prefix(text);
  if (valid < text.size()) {
    return error(
        ErrorCode::kBadInput, "line {}: byte 0x{:02X} is not UTF-8",
        1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(valid), '\n'),
        static_cast<unsigned char>(text[valid]));
  }
  try {
    return PlainJson::parse(text);
  } catch (const PlainJson::parse_error& e) {
    // "[json.exception...] parse error at line 3, column 5: what": the part from "line" on.
    const std::string_view what = e.what();
    const std::size_t line = what.find("line ");
    return error(ErrorCode::kBadInput, "not JSON: {}",
                 line == std::string_view::npos ? what : what.substr(line));
  } catch (const PlainJson::exception& e) {  // a number that no double holds
    return error(ErrorCode::kBadInput, "not JSON: {}", e.what());
  }
}

Result<std::string> text_of(const std::string& key, const PlainJson& value) {
  if (value.is_string()) return value.get<std::string>();
  return error(ErrorCode::kBadInput, "\"{}\" is {}, not a text", key, shown_json(value));
}

Result<std::int64_t> characters_of(const std::string& key, const PlainJson& value,
                                   std::int64_t most) {
  // A number above 2^63 is unsigned and so no negative one.
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > 0) {
    const auto number = value.get<std::uint64_t>();
    if (number <= static_cast<std::uint64_t>(most)) return static_cast<std::int64_t>(number);
    return error(ErrorCode::kBadInput, "\"{}\" is {}, more than {} characters", key, number, most);
  }
  return error(ErrorCode::kBadInput, "\"{}\" is {}, not a whole number of characters of 1 or more",
               key, shown_json(value));
}

Result<PromptEntry> read_entry(const PlainJson& json, std::vector<std::string>& unknown) {
  if (!json.is_object()) {
    return error(ErrorCode::kBadInput, "{} instead of an object like {{\"prompt\": \"...\"}}",
                 shown_json(json));
  }
  PromptEntry entry;
  bool has_prompt = false;
  for (const auto& [key, value] : json.items()) {
    if (key == "prompt") {
      TG_ASSIGN(entry.prompt, text_of(key, value));
      has_prompt = true;
    } else if (key == "context") {
      if (value.is_null()) continue;
      TG_ASSIGN(entry.context, text_of(key, value));
    } else if (key == "max_length") {
      if (value.is_null()) continue;
      TG_ASSIGN(entry.max_length,
                characters_of(key, value, std::numeric_limits<std::int64_t>::max()));
    } else if (key == "repeat_to") {
      if (value.is_null()) continue;
      TG_ASSIGN(entry.repeat_to, characters_of(key, value, kMostRepeatedCharacters));
    } else if (std::find(unknown.begin(), unknown.end(), key) == unknown.end()) {
      unknown.push_back(key);
    }
  }
  if (!has_prompt) return error(ErrorCode::kBadInput, "has no \"prompt\"");
  if (entry.prompt.empty() && entry.context.empty()) {
    return error(ErrorCode::kBadInput, "\"prompt\" is empty and there is no \"context\"");
  }
  return entry;
}

Result<std::vector<PromptEntry>> read_entries(const std::string& path) {
  TG_ASSIGN(const std::string text, read_file(path));
  TG_ASSIGN(const PlainJson json, parse_json(text));
  if (!json.is_array()) {
    return error(ErrorCode::kBadInput, "holds {} instead of a list of {{\"prompt\": ...}}",
                 shown_json(json));
  }
  if (json.empty()) return error(ErrorCode::kBadInput, "the list of prompts is empty");
  std::vector<PromptEntry> entries;
  std::vector<std::string> unknown;
  for (const PlainJson& item : json) {
    Result<PromptEntry> entry = read_entry(item, unknown);
    if (!entry) {
      return at_place(std::move(entry).error(), fmt::format("entry {}", entries.size() + 1));
    }
    entries.push_back(std::move(*entry));
  }
  for (const std::string& key : unknown) {
    spdlog::warn("{}: the key {} is ignored; known are prompt, context, max_length and repeat_to",
                 path, shown_text(key));
  }
  return entries;
}

// How many bytes the first `characters` characters have, or all.
std::size_t bytes_of_characters(std::string_view text, std::int64_t characters) {
  std::size_t bytes = 0;
  for (; characters > 0 && bytes < text.size(); --characters) {
    ++bytes;
    while (bytes < text.size() && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) ++bytes;
  }
  return bytes;
}

std::int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

Result<std::string> load_prompt(const PromptEntry& entry, bool instruct,
                                const ContextOptions& options) {
  if (entry.context.empty()) return entry.prompt;
  TG_ASSIGN(const std::string context, fetch_context(entry.context, options));
  if (context.empty()) {
    return at_place(Error{ErrorCode::kBadInput, "the context is empty", {}}, entry.context);
  }
  return joined_prompt(shaped_context(context, entry), entry.prompt, instruct);
}

}  // namespace

Result<std::vector<PromptEntry>> read_prompt_file(const std::string& path) {
  Result<std::vector<PromptEntry>> entries = read_entries(path);
  if (!entries) return at_place(std::move(entries).error(), path);
  return entries;
}

Result<std::vector<std::string>> load_prompts(const std::string& path,
                                              const std::vector<PromptEntry>& entries,
                                              std::size_t count, bool instruct,
                                              ContextOptions options) {
  options.base_directory = std::filesystem::path(path).parent_path().string();
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < std::min(count, entries.size()); ++i) {
    Result<std::string> text = load_prompt(entries[i], instruct, options);
    if (!text) {
      return at_place(std::move(text).error(), fmt::format("{}: entry {}", path, i + 1));
    }
    texts.push_back(std::move(*text));
  }
  return texts;
}

std::size_t entry_of_user(std::size_t user, std::size_t repeat, std::size_t entries) {
  return (user + repeat) % entries;
}

std::size_t entries_needed(std::size_t users, std::size_t repeats, std::size_t entries) {
  return std::min(entries, users + repeats - 1);
}

std::string shaped_context(const std::string& context, const PromptEntry& entry) {
  std::string text = context;
  if (entry.repeat_to && !context.empty()) {
    const std::int64_t more = count_characters(context) + 2;
    for (std::int64_t have = more - 2; have < *entry.repeat_to; have += more) {
      text += "\n\n";
      text += context;
    }
    text.resize(std::max(context.size(), bytes_of_characters(text, *entry.repeat_to)));
  }
  if (entry.max_length) text.resize(bytes_of_characters(text, *entry.max_length));
  return text;
}

std::string joined_prompt(std::string_view context, std::string_view prompt, bool instruct) {
  if (context.empty()) return std::string(prompt);
  return instruct ? fmt::format("```{}```\n\n{}", context, prompt)
                  : fmt::format("{}\n\n{}", context, prompt);
}

}  // namespace tg
