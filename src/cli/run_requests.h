// What: requests through an engine, their answers gathered as text: the one loop of text-demo,
//   generate and chat.
// Who owns: engine and tokenizer are borrowed. Thread: the main thread.
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cli/answer.h"
#include "engine/engine.h"
#include "text/tokenizer.h"

namespace tg {

struct UserRequest {
  std::string prompt;
  std::vector<TokenId> prompt_ids;
  SamplingParams sampling;
};

struct RunRequestsOptions {
  std::optional<std::int64_t> max_new_tokens;
  std::vector<TokenId> stop_ids;
  bool ignore_eos = false;
  const std::atomic<bool>* interrupted = nullptr;  // set: all requests are cancelled
  // New text of a user, complete characters only.
  std::function<void(std::size_t user, const std::string& text)> on_text = {};
  // After each step.
  std::function<void(const StepReport& report)> on_step = {};
};

// Submits all at once and runs until all have ended. A request that the engine refuses is an error
// that names the user; nothing runs then. `tokenizer` may be nullptr: the texts stay empty.
Result<std::vector<UserAnswer>> run_requests(Engine& engine, const Tokenizer* tokenizer,
                                             std::span<const UserRequest> requests,
                                             const RunRequestsOptions& options);

}  // namespace tg
