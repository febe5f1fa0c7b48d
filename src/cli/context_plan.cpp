#include "cli/context_plan.h"

#include <algorithm>

#include "engine/page_pool.h"
#include "kernels/kernel_table.h"

namespace tg {

Result<ContextPlan> plan_context(const ModelConfig& config, const ContextAsk& ask) {
  if (ask.users < 1 || ask.users > 256) {
    return error(ErrorCode::kBadArgument, "--batch-size {}: need 1..256 users", ask.users);
  }
  if (ask.max_seq_len && *ask.max_seq_len < 1) {
    return error(ErrorCode::kBadArgument, "--max-seq-len {}: need at least 1", *ask.max_seq_len);
  }
  if (ask.max_seq_len && *ask.max_seq_len > config.max_context) {
    return error(ErrorCode::kOutOfCapacity, "--max-seq-len {}: the model's context is {} tokens",
                 *ask.max_seq_len, config.max_context);
  }
  ContextPlan plan;
  plan.max_seq_len =
      ask.max_seq_len.value_or(std::min(config.max_context, ask.default_max_seq_len));
  plan.capacity.max_rows = std::max(kStepRows, ask.users);
  // Of the fullest domain.
  const std::int64_t users = (ask.users + ask.domains - 1) / ask.domains;
  if (!ask.paged) {
    plan.capacity.block = (plan.max_seq_len + kAttentionStep - 1) / kAttentionStep * kAttentionStep;
    plan.capacity.blocks = users;
    return plan;
  }
  plan.capacity.block = ask.block;
  const std::int64_t fillable = users * pages_for(plan.max_seq_len, ask.block);
  plan.capacity.blocks = std::min(ask.blocks.value_or(fillable), fillable);
  const std::int64_t positions = plan.capacity.block * plan.capacity.blocks;
  if (ask.max_seq_len && ask.blocks && positions < plan.max_seq_len) {
    return error(ErrorCode::kOutOfCapacity,
                 "--max-seq-len {}: {} pages x {} positions = {} tokens do not hold one such "
                 "sequence",
                 plan.max_seq_len, plan.capacity.blocks, plan.capacity.block, positions);
  }
  return plan;
}

}  // namespace tg
