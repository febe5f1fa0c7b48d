// What: the JSON file that --output writes: per user the ids, text and times, per run the settings
//   and totals. Appears complete under its name or not at all.
// Who owns: nothing. Thread: the main thread.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/answer.h"

namespace tg {

// The file's text. `batches` are the repeats of a run, each with its users.
std::string answer_json(const RunSummary& summary,
                        std::span<const std::vector<UserAnswer>> batches);

// Follows symbolic links; a device or pipe is written to. kIo when the file cannot be written;
// asked before a run by check_writable, so that hours of work do not end in that error.
Status write_answer_file(const std::string& path, const std::string& text);
Status check_writable(const std::string& path);

}  // namespace tg
