// What: how many KV pages a server has: what its users can fill in common use, no more than the
//   memory allows, or what was asked for. All users share them; when they run out, the engine
//   computes again later.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/context_plan.h"
#include "cli/model_options.h"
#include "cli/opened_model.h"

namespace tg {

struct ServeContextAsk {
  std::int64_t max_users = 32;
  std::optional<std::int64_t> max_seq_len = {};         // none: the model's context
  std::optional<std::int64_t> max_batched_tokens = {};  // rows of a step
  std::string page_params = {};                         // JSON, see parse_page_params()
};

// kBadArgument, kOutOfCapacity: as plan_context(); fewer rows than users.
Result<ContextPlan> plan_serve_context(const OpenedModel& model, const RunSettings& settings,
                                       const ServeContextAsk& ask);

// Pages of a KV domain for so many users of it: enough for one sequence of `max_seq_len` and for
// kUsualContext tokens of every user, but at most `affordable`, and at least one.
std::int64_t pages_to_share(std::int64_t users, std::int64_t max_seq_len, std::int64_t block,
                            std::int64_t affordable);

// Most conversations are shorter; longer ones take the pages of those that are.
inline constexpr std::int64_t kUsualContext = 2048;

}  // namespace tg
