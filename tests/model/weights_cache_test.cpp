// Weights that are read in place from a cache file are those that were packed, on one device and on
// a rank's part of a mesh, and whatever changes the packed bytes changes the key.
#include "model/weights_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "model/test_model.h"

namespace tg {
namespace {

class WeightsCache : public testing::Test {
 protected:
  WeightsCache() {
    auto source = open_checkpoint(test::tiny("meta"));
    TG_CHECK(source);
    source_ = std::move(*source);
  }
  ~WeightsCache() override { std::filesystem::remove(path_); }

  ShardPlan plan(MeshShape mesh) const { return *ShardPlan::make(source_->config(), mesh); }
  std::string key(const ShardPlan& plan, const DeviceBlock& block, WeightsWish wish,
                  std::string_view kernels, WeightOrder order = WeightOrder::kPairs) const {
    const auto text = weights_cache_key({*source_, plan, block, wish, order, kernels});
    EXPECT_TRUE(text) << text.error().text();
    return text.value_or("");
  }

  void expect_round_trip(MeshShape mesh, const DeviceBlock& block, WeightsWish wish) {
    for (const WeightOrder order : {WeightOrder::kPairs, WeightOrder::kRows}) {
      expect_round_trip(mesh, block, wish, order);
    }
  }

  void expect_round_trip(MeshShape mesh, const DeviceBlock& block, WeightsWish wish,
                         WeightOrder order) {
    const ShardPlan shards = plan(mesh);
    const WeightsAsk ask{*source_, shards, block, wish, order, "avx2"};
    auto loaded = load_weights(*source_, shards, block, team_, wish, order);
    ASSERT_TRUE(loaded) << loaded.error().text();
    const std::string text = *weights_cache_key(ask);
    ASSERT_TRUE(write_cached_weights(path_, text, *loaded, team_));
    auto mapped = map_cached_weights(path_, text, ask, team_);
    ASSERT_TRUE(mapped) << mapped.error().text();
    EXPECT_NE(mapped->mapped, nullptr);
    const auto ours = mapped->matrices();
    const auto theirs = loaded->matrices();
    ASSERT_EQ(ours.size(), theirs.size());
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const PackedView a = ours[i]->view();
      const PackedView b = theirs[i]->view();
      EXPECT_EQ(a.n, b.n);
      EXPECT_EQ(a.k, b.k);
      EXPECT_EQ(a.format, b.format);
      EXPECT_EQ(a.order, b.order);
      ASSERT_EQ(ours[i]->bytes(), theirs[i]->bytes());
      EXPECT_EQ(std::memcmp(a.data, b.data, ours[i]->bytes()), 0) << "matrix " << i;
    }
    ASSERT_EQ(mapped->norms().size(), loaded->norms().size());
    for (std::size_t i = 0; i < loaded->norms().size(); ++i) {
      EXPECT_EQ(*mapped->norms()[i], *loaded->norms()[i]) << "norm " << i;
    }
  }

  ThreadTeam team_{2};
  std::unique_ptr<TensorSource> source_;
  std::string path_ = fmt::format("{}/weights-{}.cache", TG_BINARY_DIR, ::getpid());
};

TEST_F(WeightsCache, OneDevice) {
  for (const WeightsWish wish :
       {WeightsWish::kBf16, WeightsWish::kInt8, WeightsWish::kPerformance}) {
    expect_round_trip({}, {}, wish);
  }
}

TEST_F(WeightsCache, ARanksPartOfAMesh) {
  expect_round_trip({2, 2}, {0, 2, 0, 2}, WeightsWish::kBf16);
  expect_round_trip({2, 2}, {1, 2, 0, 2}, WeightsWish::kInt8);
}

TEST_F(WeightsCache, MappedWeightsGiveTheSameLogits) {
  const ShardPlan shards = plan({});
  const KernelTable& kernels = **choose_kernels("");
  const WeightOrder order = weight_order(kernels, ComputeDType::kBf16);
  const WeightsAsk ask{*source_, shards, {}, WeightsWish::kInt8, order, kernels.name};
  const std::string text = *weights_cache_key(ask);
  const auto logits = [&](LlamaWeights weights) {
    RunnerOptions options;
    options.kernels = &kernels;
    options.capacity = {64, 4, 8};
    auto runner = LlamaRunner::create(std::move(weights), team_, options);
    TG_CHECK(runner);
    const std::vector<TokenId> tokens = {1, 2, 3};
    const std::vector<PageId> pages = {0};
    const RowAsk row{.kind = RowAsk::Kind::kLogits, .row = 2};
    const StepSequence sequence{tokens, 0, pages, 0, {&row, 1}};
    return (*runner)->step({{&sequence, 1}})->answers[0].logits;
  };
  auto loaded = load_weights(*source_, shards, {}, team_, WeightsWish::kInt8, order);
  ASSERT_TRUE(loaded);
  ASSERT_TRUE(write_cached_weights(path_, text, *loaded, team_));
  auto mapped = map_cached_weights(path_, text, ask, team_);
  ASSERT_TRUE(mapped);
  EXPECT_EQ(logits(std::move(*mapped)), logits(std::move(*loaded)));
}

TEST_F(WeightsCache, TheKeyFollowsWhateverChangesTheBytes) {
  const ShardPlan one = plan({});
  const ShardPlan four = plan({2, 2});
  const DeviceBlock whole{0, 2, 0, 2};
  const std::vector<std::string> keys = {
      key(one, {}, WeightsWish::kBf16, "avx2"),
      key(one, {}, WeightsWish::kInt8, "avx2"),
      key(one, {}, WeightsWish::kBf16, "amx"),
      key(one, {}, WeightsWish::kBf16, "avx2", WeightOrder::kRows),
      key(four, whole, WeightsWish::kBf16, "avx2"),
      key(four, {0, 1, 0, 2}, WeightsWish::kBf16, "avx2"),
      key(four, {1, 2, 0, 2}, WeightsWish::kBf16, "avx2"),
  };
  for (std::size_t i = 0; i < keys.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) EXPECT_NE(keys[i], keys[j]) << i << " " << j;
  }
  EXPECT_EQ(key(one, {}, WeightsWish::kBf16, "avx2"), keys[0]);
  EXPECT_THAT(keys[0], testing::Not(testing::HasSubstr("golden")));  // nothing of the place
}

TEST_F(WeightsCache, SectionsOfOtherShapesAreRefused) {
  const ShardPlan shards = plan({});
  const WeightsAsk ask{*source_, shards, {}, WeightsWish::kBf16, WeightOrder::kPairs, "avx2"};
  auto loaded = load_weights(*source_, shards, {}, team_, WeightsWish::kInt8);
  ASSERT_TRUE(loaded);
  ASSERT_TRUE(write_cached_weights(path_, "key", *loaded, team_));
  const auto mapped = map_cached_weights(path_, "key", ask, team_);
  ASSERT_FALSE(mapped);
  EXPECT_EQ(mapped.error().code, ErrorCode::kBadInput);
  EXPECT_THAT(mapped.error().message, testing::HasSubstr("the matrix needs"));
}

}  // namespace
}  // namespace tg
