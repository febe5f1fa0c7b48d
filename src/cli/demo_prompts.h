// What: the prompts of the demos' users: the entries of a file as ids, or one list of ids.
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/opened_model.h"

namespace tg {

struct DemoPrompt {
  std::string text;  // empty when ids were given
  std::vector<TokenId> ids;
};

struct DemoPromptsAsk {
  std::optional<std::string> file;  // --input-prompts
  std::string ids;                  // --prompt-ids, for everybody; empty: the file's
  std::string default_file;         // below the project's root
  std::int64_t users = 1;
  std::int64_t repeats = 1;
  bool instruct = true;
  // One for all users or one for each; else a shorter list starts again.
  bool one_or_each = false;
};

// Those that the run looks at. Errors name the option or the file and its entry.
Result<std::vector<DemoPrompt>> demo_prompts(const OpenedModel& model, const DemoPromptsAsk& ask);

}  // namespace tg
