// Test helper: the tiny model on a mesh that is shared among ranks, which are threads.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "mesh/thread_ranks.h"
#include "test_model.h"

namespace tg::test {

// Runs f(runner) on rank 0 of a runner that is spread over ranks. vocab: 0, or fewer ids than the
// model has; the others are then as the padding of the last shards, but with logits like the rest.
inline void on_rank_runners(const MeshShape& shape, int ranks, const CollectivePlan& plan,
                            ComputeDType dtype, const std::function<void(LlamaRunner&)>& f,
                            std::int64_t vocab = 0, KvFormat kv_format = KvFormat::kCompute) {
  const auto source = open_checkpoint(tiny("meta_mp8"));
  ASSERT_TRUE(source);
  on_ranks(ranks, [&](ThreadTransport& transport) {
    ThreadTeam team(1);
    const auto shards = *ShardPlan::make((*source)->config(), shape);
    const DeviceBlock block = share_mesh(shape, ranks)->block(transport.rank());
    RunnerOptions options;
    options.kernels = *choose_kernels("");
    options.dtype = dtype;
    options.kv_format = kv_format;
    options.capacity = {64, 64, 1024};
    options.collectives = plan;
    options.transport = &transport;
    LlamaWeights weights = *load_weights(**source, shards, block, team, WeightsWish::kBf16,
                                         weight_order(*options.kernels, dtype));
    if (vocab > 0) weights.config.vocab = vocab;
    auto runner = LlamaRunner::create(std::move(weights), team, options);
    ASSERT_TRUE(runner) << runner.error().text();
    if (transport.rank() != 0) {
      EXPECT_TRUE((*runner)->serve());
      return;
    }
    f(**runner);
    (*runner)->stop();
  });
}

}  // namespace tg::test
