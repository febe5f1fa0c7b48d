#include "cli/serve_plan.h"

#include <algorithm>
#include <limits>

#include "cli/memory.h"
#include "cli/option_values.h"
#include "engine/page_pool.h"

namespace tg {
namespace {

// How many pages of a domain half of the memory beside the weights holds: the other half is for
// what else runs here. Under MPI no limit: hosts would come to different numbers, and all ranks
// need the same; check_memory() refuses what is too much.
Result<std::int64_t> affordable_pages(const OpenedModel& model, const RunSettings& settings,
                                      ContextPlan plan) {
  const std::int64_t available = available_memory();
  if (settings.ranks() > 1 || available == 0) return std::numeric_limits<std::int64_t>::max();
  const ModelConfig& config = model.source->config();
  const MeshShape shape = settings.mesh.shape;
  TG_ASSIGN(const ShardPlan shards, ShardPlan::make(config, shape));
  plan.capacity.blocks = 1;
  const MemoryNeed need =
      memory_need(config, shards, {0, shape.rows, 0, shape.cols},
                  weight_formats(*model.source, settings.weights, shards,
                                 weight_order(*settings.kernels, settings.dtype)),
                  settings.dtype, settings.kv_format, plan.capacity, settings.threads);
  const std::int64_t rest = available - (need.total() - need.kv_cache);
  return std::max<std::int64_t>(rest, 0) / 2 / std::max<std::int64_t>(need.kv_cache, 1);
}

}  // namespace

std::int64_t pages_to_share(std::int64_t users, std::int64_t max_seq_len, std::int64_t block,
                            std::int64_t affordable) {
  const std::int64_t usual = users * pages_for(std::min(kUsualContext, max_seq_len), block);
  const std::int64_t wanted = std::max(usual, pages_for(max_seq_len, block));
  return std::max<std::int64_t>(1, std::min(wanted, affordable));
}

Result<ContextPlan> plan_serve_context(const OpenedModel& model, const RunSettings& settings,
                                       const ServeContextAsk& ask) {
  const ModelConfig& config = model.source->config();
  if (ask.max_seq_len && *ask.max_seq_len > config.max_context) {
    return error(ErrorCode::kOutOfCapacity, "--max-seq-len {}: the model's context is {} tokens",
                 *ask.max_seq_len, config.max_context);
  }
  ContextAsk context;
  context.users = ask.max_users;
  context.domains = settings.mesh.shape.cols;
  // As a default and not as a demand: one sequence need not fit the pages.
  context.default_max_seq_len = ask.max_seq_len.value_or(config.max_context);
  if (!ask.page_params.empty()) {
    auto pages = parse_page_params(ask.page_params);
    if (!pages) return at_place(std::move(pages).error(), "--page-params");
    context.block = pages->block_size;
    context.blocks = pages->max_num_blocks;
  }
  TG_ASSIGN(ContextPlan plan, plan_context(config, context));
  if (ask.max_batched_tokens && *ask.max_batched_tokens < ask.max_users) {
    return error(ErrorCode::kBadArgument,
                 "--max-batched-tokens {} are fewer than --max-users {}: each needs a row",
                 *ask.max_batched_tokens, ask.max_users);
  }
  plan.capacity.max_rows = ask.max_batched_tokens.value_or(plan.capacity.max_rows);
  if (context.blocks) return plan;
  TG_ASSIGN(const std::int64_t affordable, affordable_pages(model, settings, plan));
  const std::int64_t users = (context.users + context.domains - 1) / context.domains;
  plan.capacity.blocks = pages_to_share(users, plan.max_seq_len, plan.capacity.block, affordable);
  return plan;
}

}  // namespace tg
