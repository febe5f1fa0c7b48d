// The cost model beside what the links of a real step carry.
#include "model/step_cost.h"

#include "checkpoint/known_shapes.h"
#include "test_model.h"

namespace tg {
namespace {

using test::TestModel;

TEST(HopCost, RingAndLineByHand) {
  const std::vector<std::int64_t> segments = {100, 100, 100, 100};
  const LinkModel links{2, 1e9, 1e-6};
  for (const HopWork work : {HopWork::kReduceScatter, HopWork::kAllGather}) {
    const HopCost ring = cost_of(make_hop_schedule(work, HopAlgorithm::kRing, 4), segments, links);
    EXPECT_EQ(ring.hops, 3);
    EXPECT_EQ(ring.bytes, 1200);   // every segment crosses three links
    EXPECT_EQ(ring.busiest, 300);  // all four links carry the same
    EXPECT_DOUBLE_EQ(ring.seconds, 3e-6 + 300 / 2e9);
    const HopCost line = cost_of(make_hop_schedule(work, HopAlgorithm::kLine, 4), segments, links);
    EXPECT_EQ(line.hops, 3);
    EXPECT_EQ(line.bytes, 1200);
    EXPECT_EQ(line.busiest, 300);
  }
  // Of unequal segments the ring's link from 0 to 1 carries all but segment 1's summands.
  const std::vector<std::int64_t> unequal = {10, 1000, 20, 40};
  EXPECT_EQ(cost_of(make_hop_schedule(HopWork::kAllGather, HopAlgorithm::kRing, 4), unequal, links)
                .busiest,
            1060);
}

TEST(StepCost, BytesAreThoseOfARealStep) {
  for (const MeshShape mesh : {MeshShape{2, 2}, MeshShape{8, 1}, MeshShape{1, 4}, kGalaxy}) {
    for (const HopAlgorithm algorithm : {HopAlgorithm::kRing, HopAlgorithm::kLine}) {
      for (const PayloadDType payload :
           {PayloadDType::kF32, PayloadDType::kBf16, PayloadDType::kBfp8}) {
        for (const ComputeDType dtype : {ComputeDType::kF32, ComputeDType::kBf16}) {
          test::ModelSetting setting{.dtype = dtype};
          setting.mesh = mesh;
          setting.positions = 8192;
          setting.collectives.set_all(algorithm);
          setting.collectives.payload = payload;
          TestModel model(test::tiny("meta_mp8"), setting);
          // The head takes 32 rows at a time.
          const std::int64_t user_count = mesh == kGalaxy && dtype == ComputeDType::kF32 ? 72 : 8;
          const TokenId token = 3;
          const SamplingParams greedy;
          const RowAsk ask{.params = &greedy};
          std::vector<PageId> pages(static_cast<std::size_t>(user_count));
          std::iota(pages.begin(), pages.end(), 0);
          std::vector<StepSequence> users(static_cast<std::size_t>(user_count));
          for (std::int64_t u = 0; u < user_count; ++u) {
            StepSequence& s = users[static_cast<std::size_t>(u)];
            s.tokens = {&token, 1};
            s.pages = std::span<const PageId>(pages).subspan(static_cast<std::size_t>(u), 1);
            s.kv_domain = static_cast<std::int32_t>(u * mesh.cols / user_count);
            s.asks = {&ask, 1};
          }
          ASSERT_TRUE(model.runner().step({users}));
          const Traffic& traffic = model.runner().mesh().traffic();
          const ModelConfig& config = model.runner().config();
          std::int64_t bytes = 0;
          std::int64_t collectives = 0;
          for (const CollectiveCost& c : step_collectives(config, *ShardPlan::make(config, mesh),
                                                          setting.collectives, dtype, user_count)) {
            bytes += c.bytes();
            collectives += c.times;
          }
          EXPECT_EQ(bytes, traffic.bytes) << text(mesh) << " " << name(payload);
          EXPECT_EQ(collectives, traffic.collectives) << text(mesh);
        }
      }
    }
  }
}

TEST(StepCost, LinksAndTopologyOfTheGalaxy) {
  ModelConfig config = *known_shape("llama3.3-70b");
  const ShardPlan shards = *ShardPlan::make(config, kGalaxy);
  const auto seconds = [&](const CollectivePlan& plan) {
    double sum = 0.0;
    for (const CollectiveCost& c :
         step_collectives(config, shards, plan, ComputeDType::kBf16, 32)) {
      sum += c.seconds();
    }
    return sum;
  };
  CollectivePlan plan;
  const double four = seconds(plan);
  plan.links = 3;
  EXPECT_GT(seconds(plan), four);
  plan.links = 4;
  plan.payload = PayloadDType::kBfp8;
  EXPECT_LT(seconds(plan), four);
  EXPECT_TRUE(step_collectives(config, *ShardPlan::make(config, {}), plan, ComputeDType::kBf16, 32)
                  .empty());
}

}  // namespace
}  // namespace tg
