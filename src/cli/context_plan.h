// What: how long sequences may get and how many KV pages there are, from what was asked and what
//   the model has: a pure function, asked before anything is loaded.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "checkpoint/model_config.h"
#include "model/model_runner.h"

namespace tg {

struct ContextAsk {
  std::int64_t users = 1;
  std::int64_t domains = 1;  // KV domains (columns of the mesh) that the users are spread over
  // None: default_max_seq_len, or the model's context if that is shorter.
  std::optional<std::int64_t> max_seq_len = {};
  std::int64_t default_max_seq_len = 131072;
  // false: one page per user, as long as max_seq_len (what "paged attention off" means here).
  bool paged = true;
  std::int64_t block = 64;
  std::optional<std::int64_t> blocks = {};  // per domain; none: as many as its users can fill
};

struct ContextPlan {
  std::int64_t max_seq_len = 0;  // the pages may hold less: see check_request()
  KvCapacity capacity;
};

// Rows of a step: enough to use the arithmetic units in prefill, few enough that a long prompt does
// not hold up the others' next token for long. Never less than the users.
inline constexpr std::int64_t kStepRows = 512;

// kBadArgument: users outside 1..256, a length below 1. kOutOfCapacity: longer than the model's
// context, or the pages hold fewer tokens than one sequence of max_seq_len that was asked for.
Result<ContextPlan> plan_context(const ModelConfig& config, const ContextAsk& ask);

}  // namespace tg
