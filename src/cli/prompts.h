// What: the JSON file of prompts, and the text that each user of a batch gets from it.
//
//   [{"prompt": "Summarise.", "context": "book.txt", "max_length": 2048}, {"prompt": "Hello"}]
//
//   prompt      text; may be empty only beside a context
//   context     optional: a URL (http, https), a file beside the JSON file, or text
//   max_length  optional: of the context, in characters (not bytes or tokens), 1 or more
//   repeat_to   optional, ours: the context is repeated, a blank line between, until it has so
//               many characters, before max_length cuts it: long prompts from a small file
//   null is the same as leaving an optional key out; other keys are ignored with a warning.
//
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/context_fetch.h"

namespace tg {

struct PromptEntry {
  std::string prompt;
  std::string context;  // as written, not yet fetched; empty: none
  std::optional<std::int64_t> max_length;
  std::optional<std::int64_t> repeat_to;
};

// The entries of a file of at most 64 MiB; UTF-8, with or without byte order mark, lines ended by
// LF or CR LF. At least one entry. kNotFound or kIo for the file; kBadInput with line and column
// for what is no JSON, with the entry's number (from 1), its key and value for what is no entry.
Result<std::vector<PromptEntry>> read_prompt_file(const std::string& path);

// The texts of the first `count` entries (all, if there are fewer), contexts fetched and in front.
// `path` is the file they came from: relative contexts lie beside it, and errors begin with it. A
// context that cannot be had, or is empty, is an error with the entry and its URL, not a prompt
// without it.
Result<std::vector<std::string>> load_prompts(const std::string& path,
                                              const std::vector<PromptEntry>& entries,
                                              std::size_t count, bool instruct,
                                              ContextOptions options);

// Which entry a user has in the `repeat`-th batch (from 0): the entries in order, moved on by one
// with each batch, from the start again when there are fewer entries than users.
std::size_t entry_of_user(std::size_t user, std::size_t repeat, std::size_t entries);

// How many entries, from the first on, a run of so many users and batches looks at.
std::size_t entries_needed(std::size_t users, std::size_t repeats, std::size_t entries);

// The context as the model sees it: repeated up to repeat_to, then cut to max_length characters.
// `context` must be UTF-8; no character is cut in two.
std::string shaped_context(const std::string& context, const PromptEntry& entry);

// Context and prompt in one text. For a model that follows instructions the context is fenced by
// three back-quotes, as the original demo does it; else it stands as it is, a blank line between.
// (The original drops the prompt then. Asking nothing about the context is of no use, so it stays.)
std::string joined_prompt(std::string_view context, std::string_view prompt, bool instruct);

}  // namespace tg
