// What a runner refuses, and loading's memory and errors.
#include "model/llama_runner.h"

#include <cstdlib>
#include <filesystem>

#include "test_model.h"

namespace tg {
namespace {

using test::TestModel;

class RunnerRefuses : public testing::Test {
 protected:
  RunnerRefuses()
      : model_(test::tiny("meta_mp8"), {.block = 16, .positions = 64, .max_rows = 48}) {}

  std::string refusal(const StepSequence& sequence) {
    const auto result = model_.runner().step({{&sequence, 1}});
    EXPECT_FALSE(result);
    return result ? "" : result.error().text();
  }

  TestModel model_;
  std::vector<TokenId> ids_ = std::vector<TokenId>(20, 5);
  std::vector<PageId> pages_ = {3, 0};
};

TEST_F(RunnerRefuses, WhatWouldBeAnAccessOutside) {
  StepSequence good;
  good.tokens = ids_;
  good.pages = pages_;
  ASSERT_TRUE(model_.runner().step({{&good, 1}}));

  StepSequence s = good;
  s.tokens = {};
  EXPECT_EQ(refusal(s), "sequence 0 of the step: no tokens");
  s = good;
  s.pages = s.pages.first(1);
  EXPECT_EQ(refusal(s), "sequence 0 of the step: 1 pages of 16 positions for 20 positions: need 2");
  s = good;
  const std::vector<PageId> outside = {3, 4};
  s.pages = outside;
  EXPECT_EQ(refusal(s), "sequence 0 of the step: page id 4: the pool has 0..3");
  s = good;
  const std::vector<PageId> negative = {-1, 2};
  s.pages = negative;
  EXPECT_EQ(refusal(s), "sequence 0 of the step: page id -1: the pool has 0..3");
  s = good;
  const std::vector<TokenId> unknown = {5, 1024};
  s.tokens = unknown;
  EXPECT_EQ(refusal(s), "sequence 0 of the step: token id 1024: the vocabulary has 0..1023");
  s = good;
  s.first_position = -1;
  EXPECT_NE(refusal(s).find("positions -1..18"), std::string::npos);
  s = good;
  s.first_position = model_.runner().max_context() - 19;
  EXPECT_NE(refusal(s).find("the model has 0.."), std::string::npos);
  s = good;
  s.kv_domain = 1;
  EXPECT_NE(refusal(s).find("kv domain 1"), std::string::npos);
  RowAsk ask{.kind = RowAsk::Kind::kLogits, .row = 20};
  s = good;
  s.asks = {&ask, 1};
  EXPECT_EQ(refusal(s), "sequence 0 of the step: asks row 20 of 20");
  ask = {.kind = RowAsk::Kind::kSample};
  EXPECT_EQ(refusal(s), "sequence 0 of the step: asks for a sample without parameters");
  ask = {.kind = RowAsk::Kind::kScore, .next = 1024};
  EXPECT_EQ(refusal(s), "sequence 0 of the step: asks for the score of id 1024 of 1024");
  const std::vector<TokenId> many(49, 5);
  const std::vector<PageId> all = {0, 1, 2, 3};
  s = good;
  s.tokens = many;
  s.pages = all;
  EXPECT_EQ(refusal(s), "49 rows in a step made for 48");
}

TEST(RunnerCapacity, IsChecked) {
  ThreadTeam team(1);
  const auto source = open_checkpoint(test::tiny("meta_mp8"));
  ASSERT_TRUE(source);
  const auto refuse = [&](const KvCapacity& capacity) {
    auto weights = load_weights(**source, team);
    TG_CHECK(weights);
    const auto runner =
        LlamaRunner::create(std::move(*weights), team,
                            {*choose_kernels(""), ComputeDType::kBf16, capacity, 0, {}, nullptr});
    return runner ? std::string("accepted") : runner.error().text();
  };
  EXPECT_EQ(refuse({24, 8, 32}), "pages of 24 positions: need a multiple of 16");
  EXPECT_EQ(refuse({16, 0, 32}), "0 pages: need 1..2^30");
  EXPECT_EQ(refuse({16, 8, 0}), "0 rows per step: need 1..65536");
  EXPECT_EQ(refuse({16, 8, 32}), "accepted");
}

// A source that gives every value as a function of its place, and breaks where told to.
class MadeUpSource : public TensorSource {
 public:
  explicit MadeUpSource(ModelConfig config, std::string broken = {})
      : config_(std::move(config)),
        tensors_(expected_tensors(config_)),
        broken_(std::move(broken)) {}
  const ModelConfig& config() const override { return config_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  Status read_block(const TensorInfo& tensor, std::int64_t first_row, std::int64_t row_count,
                    std::int64_t, std::int64_t, std::span<float> out) const override {
    if (tensor.name == broken_) return error(ErrorCode::kIo, "{}: row {}", broken_, first_row);
    EXPECT_EQ(static_cast<std::int64_t>(out.size()), row_count * tensor.columns());
    std::fill(out.begin(), out.end(), static_cast<float>(first_row % 7));
    return {};
  }
  void release(const TensorInfo&) const override {}

 private:
  ModelConfig config_;
  std::vector<TensorInfo> tensors_;
  std::string broken_;
};

ModelConfig middle_config() {
  ModelConfig config;
  config.dim = 1024;
  config.layers = 4;
  config.heads = 16;
  config.kv_heads = 4;
  config.head_dim = 64;
  config.ffn_dim = 4096;
  config.vocab = 32000;
  return config;
}

TEST(LoadWeights, ASourceThatFailsIsReported) {
  ThreadTeam team(2);
  const MadeUpSource source(middle_config(), "layers.2.attention.wo.weight");
  const auto weights = load_weights(source, team);
  ASSERT_FALSE(weights);
  EXPECT_EQ(weights.error().code, ErrorCode::kIo);
  EXPECT_NE(weights.error().message.find("layers.2.attention.wo.weight"), std::string::npos);
}

TEST(LoadWeights, OddShapesAreRefused) {
  ThreadTeam team(1);
  ModelConfig config = middle_config();
  config.head_dim = 33;
  EXPECT_EQ(load_weights(MadeUpSource(config), team).error().code, ErrorCode::kUnsupported);
  config = middle_config();
  config.ffn_dim = 4095;
  EXPECT_EQ(load_weights(MadeUpSource(config), team).error().code, ErrorCode::kUnsupported);
}

TEST(LoadWeights, ProgressEndsAtTheTotal) {
  ThreadTeam team(2);
  std::int64_t last = 0;
  std::int64_t all = 0;
  const auto weights = load_weights(MadeUpSource(middle_config()), team, WeightOrder::kPairs,
                                    [&](std::int64_t done, std::int64_t total) {
                                      EXPECT_GT(done, last);
                                      last = done;
                                      all = total;
                                    });
  ASSERT_TRUE(weights);
  EXPECT_EQ(last, all);
  EXPECT_EQ(all, middle_config().parameters());
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TG_SANITIZED 1
#endif
#endif
#ifndef TG_SANITIZED

// The peak of this process in bytes since the last reset, pages of mapped files included.
std::int64_t peak_memory() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  }
  return 0;
}

// 0.25 GiB of bf16 weights from a Hugging Face directory: the peak may be 15 % above what stays.
TEST(LoadWeights, PeakMemoryIsNearThePackedWeights) {
  const std::filesystem::path directory =
      std::filesystem::path(testing::TempDir()) / "tg_peak_memory_model";
  const std::string command =
      "python3 '" TG_SOURCE_DIR "/tests/tools/make_big_checkpoint.py' '" + directory.string() + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);
  ThreadTeam team(2);
  const auto source = open_checkpoint(directory.string());
  ASSERT_TRUE(source) << source.error().text();
  const ShardPlan plan = *ShardPlan::make((*source)->config(), {});
  const std::int64_t packed = packed_weight_bytes(
      (*source)->config(), plan, {}, weight_formats(**source, WeightsWish::kBf16, plan));
  EXPECT_GT(packed, std::int64_t{200} << 20);
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts again from here
  const std::int64_t before = peak_memory();
  const auto weights = load_weights(**source, team);
  const std::int64_t after = peak_memory();
  std::filesystem::remove_all(directory);
  ASSERT_TRUE(weights) << weights.error().text();
  EXPECT_LT(static_cast<double>(after - before), 1.15 * static_cast<double>(packed));
  EXPECT_GT(static_cast<double>(after - before), 0.95 * static_cast<double>(packed));
}
#endif
#endif

}  // namespace
}  // namespace tg
