// The oracle's tiny Llama 3 in its four forms against goldens of transformers and Meta's code.
#include "test_model.h"

namespace tg {
namespace {

using test::TestModel;

const std::vector<std::string> kTinyLengths = {"1",   "2",   "31",  "32",  "33",
                                               "127", "128", "129", "1000"};

class TinyModel : public testing::TestWithParam<std::string> {
 protected:
  nlohmann::json prompts_ = test::read_json("model_tiny.json")["prompts"];
  test::GoldenArrays arrays_{"model_tiny.safetensors"};
};

TEST_P(TinyModel, LogitsInF32) {
  TestModel model(test::tiny(GetParam()), {.dtype = ComputeDType::kF32});
  for (const std::string& length : kTinyLengths) {
    const std::vector<TokenId> ids = prompts_[length]["ids"];
    const auto rows = arrays_.ints("len" + length + ".f32.rows");
    const auto expected = arrays_.floats("len" + length + ".f32.logits");
    const auto logits = model.logits(ids, {rows.begin(), rows.end()});
    ASSERT_EQ(logits.size(), rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto agreement = test::compare(logits[i], expected.subspan(i * 1024, 1024));
      EXPECT_LT(agreement.largest, 2e-4) << "length " << length << " row " << rows[i];
    }
  }
}

TEST_P(TinyModel, BestLogitsOfEveryPositionInF32) {
  TestModel model(test::tiny(GetParam()), {.dtype = ComputeDType::kF32});
  for (const std::string& length : kTinyLengths) {
    const std::vector<TokenId> ids = prompts_[length]["ids"];
    std::vector<std::int64_t> rows(ids.size());
    std::iota(rows.begin(), rows.end(), 0);
    const auto best_ids = arrays_.short_ints("len" + length + ".f32.top_ids");
    const auto best = arrays_.floats("len" + length + ".f32.top_logits");
    const std::size_t n = best.size() / ids.size();
    const auto logits = model.logits(ids, rows);
    ASSERT_EQ(logits.size(), ids.size());
    for (std::size_t i = 0; i < best.size(); ++i) {
      ASSERT_NEAR(logits[i / n][static_cast<std::size_t>(best_ids[i])], best[i], 2e-4)
          << "length " << length << " row " << i / n;
    }
  }
}

TEST_P(TinyModel, GreedyTextInF32) {
  TestModel model(test::tiny(GetParam()), {.dtype = ComputeDType::kF32});
  for (const std::string& length : kTinyLengths) {
    const std::vector<TokenId> expected = prompts_[length]["greedy_f32"]["hf"];
    ASSERT_EQ(expected.size(), 64U);
    EXPECT_EQ(model.greedy(prompts_[length]["ids"], 64), expected) << "length " << length;
  }
}

TEST_P(TinyModel, HiddenStatesInF32) {
  TestModel model(test::tiny(GetParam()), {.dtype = ComputeDType::kF32});
  for (const char* golden : {"hidden33.f32", "hidden33_meta.f32"}) {
    const auto expected = arrays_.floats(golden);
    std::int64_t stages = 0;
    model.runner().set_probe([&](std::int64_t stage, std::span<const float> rows) {
      EXPECT_EQ(stage, stages++);
      const auto agreement = test::compare(
          rows, expected.subspan(static_cast<std::size_t>(stage) * rows.size(), rows.size()));
      EXPECT_LT(agreement.largest, 1e-4) << golden << " stage " << stage;
    });
    const std::vector<TokenId> ids = prompts_["33"]["ids"];
    model.logits(ids, {});
    EXPECT_EQ(stages, 6);
  }
}

// Rounded to bf16 in each step and f32 only in sums: within what the references differ from each
// other, and sure of the same best token where it is sure at all.
TEST_P(TinyModel, LogitsInBf16) {
  TestModel model(test::tiny(GetParam()), {.dtype = ComputeDType::kBf16});
  for (const std::string& length : kTinyLengths) {
    const std::vector<TokenId> ids = prompts_[length]["ids"];
    const auto rows = arrays_.ints("len" + length + ".f32.rows");
    const auto expected = arrays_.floats("len" + length + ".f32.logits");
    const auto logits = model.logits(ids, {rows.begin(), rows.end()});
    ASSERT_EQ(logits.size(), rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto row = expected.subspan(i * 1024, 1024);
      const auto agreement = test::compare(logits[i], row);
      EXPECT_LT(agreement.largest, 0.5) << "length " << length << " row " << rows[i];
      EXPECT_LT(agreement.rms, 0.08) << "length " << length << " row " << rows[i];
      EXPECT_GT(agreement.pcc, 0.999) << "length " << length << " row " << rows[i];
      std::vector<float> sorted(row.begin(), row.end());
      std::nth_element(sorted.begin(), sorted.begin() + 1, sorted.end(), std::greater<>());
      if (sorted[0] - sorted[1] <= 0.3F) continue;
      EXPECT_EQ(std::max_element(logits[i].begin(), logits[i].end()) - logits[i].begin(),
                std::max_element(row.begin(), row.end()) - row.begin());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, TinyModel, testing::Values("meta", "meta_mp8", "repacked", "hf"),
                         [](const auto& name_of) { return name_of.param; });

// Every table of kernels computes this model, not only the fastest.
TEST(TinyModelKernels, AgreeWithTheGoldens) {
  const auto prompts = test::read_json("model_tiny.json")["prompts"];
  const test::GoldenArrays arrays("model_tiny.safetensors");
  const std::vector<TokenId> ids = prompts["129"]["ids"];
  const auto rows = arrays.ints("len129.f32.rows");
  const auto expected = arrays.floats("len129.f32.logits");
  for (const KernelTable* kernels : available_kernels()) {
    for (const ComputeDType dtype : {ComputeDType::kF32, ComputeDType::kBf16}) {
      TestModel model(test::tiny("meta_mp8"),
                      {.dtype = dtype, .kernels = std::string(kernels->name)});
      const auto logits = model.logits(ids, {rows.begin(), rows.end()});
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto agreement = test::compare(logits[i], expected.subspan(i * 1024, 1024));
        EXPECT_LT(agreement.largest, dtype == ComputeDType::kF32 ? 2e-4 : 0.5) << kernels->name;
      }
    }
  }
}

}  // namespace
}  // namespace tg
