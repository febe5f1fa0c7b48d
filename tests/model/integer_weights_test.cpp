// Weights of integers in whole models: near the goldens, and loaded without loss from a checkpoint
// that stores them.
#include "blocks_source.h"
#include "test_model.h"

namespace tg {
namespace {

using test::BlocksSource;
using test::TestModel;

// Floors: what rounding the linear weights alone gives (measured with the references: PCC 0.9994 in
// 8 bits, 0.88 in 4 bits with blocks of 16), less what inputs of 8 bits and longer blocks cost. 8
// bits give 0.998 at the worst row: below the 0.999 that weights alone would have to reach.
TEST(IntegerWeights, LogitsStayNearTheGoldens) {
  const auto prompts = test::read_json("model_tiny.json")["prompts"];
  const test::GoldenArrays arrays("model_tiny.safetensors");
  struct Floor {
    WeightsWish weights;
    double pcc;
  };
  for (const Floor& floor : {Floor{WeightsWish::kInt8, 0.997}, Floor{WeightsWish::kInt4, 0.86},
                             Floor{WeightsWish::kPerformance, 0.93}}) {
    TestModel model(test::tiny("hf"), {.dtype = ComputeDType::kBf16, .weights = floor.weights});
    for (const char* length : {"33", "129", "1000"}) {
      const std::vector<TokenId> ids = prompts[length]["ids"];
      const std::string name = std::string("len") + length + ".f32.";
      const auto rows = arrays.ints(name + "rows");
      const auto expected = arrays.floats(name + "logits");
      const auto logits = model.logits(ids, {rows.begin(), rows.end()});
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto agreement = test::compare(logits[i], expected.subspan(i * 1024, 1024));
        EXPECT_GE(agreement.pcc, floor.pcc)
            << tg::name(floor.weights) << ", prompt of " << length << ", row " << rows[i];
      }
    }
  }
}

TEST(IntegerWeights, AreRefusedForF32) {
  ThreadTeam team(1);
  const auto source = open_checkpoint(test::tiny("hf"));
  ASSERT_TRUE(source);
  auto weights = load_weights(**source, *ShardPlan::make((*source)->config(), {}), {}, team,
                              WeightsWish::kPerformance);
  ASSERT_TRUE(weights);
  EXPECT_EQ(weights->formats.text(), "int4 + int8");
  const auto runner = LlamaRunner::create(
      std::move(*weights), team,
      {.kernels = *choose_kernels(""), .dtype = ComputeDType::kF32, .capacity = {16, 4, 4}});
  ASSERT_FALSE(runner);
  EXPECT_EQ(runner.error().message,
            "weights in int4 + int8 multiply 8-bit inputs: f32 computing needs weights in bf16");
}

ModelConfig small_config() {
  ModelConfig c;
  c.layers = 1;
  c.dim = 256;
  c.heads = 8;
  c.kv_heads = 4;
  c.head_dim = 32;
  c.ffn_dim = 384;
  c.vocab = 200;
  c.max_context = 128;
  c.rope_theta = 10000.0;
  return c;
}

class StoredBlocks : public testing::TestWithParam<std::tuple<DType, MeshShape>> {};

TEST_P(StoredBlocks, AreTakenAsTheyAre) {
  const auto& [dtype, mesh] = GetParam();
  const BlocksSource source(small_config(), [&](const std::string&) { return dtype; });
  ThreadTeam team(2);
  const auto plan = ShardPlan::make(source.config(), mesh);
  ASSERT_TRUE(plan) << plan.error().text();
  const auto weights =
      load_weights(source, *plan, {0, mesh.rows, 0, mesh.cols}, team, WeightsWish::kStored);
  ASSERT_TRUE(weights) << weights.error().text();
  EXPECT_EQ(weights->formats.text(), dtype == DType::kQ8_0 ? "int8" : "int4");
  const KernelTable& kernels = *choose_kernels("").value();
  std::size_t compared = 0;
  const auto expect_part = [&](const char* name, WeightRole role, const PackedMatrix& matrix,
                               std::int64_t row, std::int64_t col) {
    const TensorInfo& tensor = *source.find(name);
    const TensorPart part = plan->part(role, row, col);
    std::vector<float> values(static_cast<std::size_t>(part.columns()));
    for (std::int64_t r = 0; r < part.rows(); ++r) {
      kernels.embedding(matrix.view(), r, values.data());
      for (std::int64_t c = 0; c < part.columns(); ++c, ++compared) {
        ASSERT_EQ(values[static_cast<std::size_t>(c)],
                  source.value(tensor, part.row_begin + r, part.column_begin + c))
            << name << " of device " << row << ", " << col << " at " << r << ", " << c;
      }
    }
  };
  const LayerWeights& layer = weights->layers[0];
  for (std::int64_t row = 0; row < mesh.rows; ++row) {
    for (std::int64_t col = 0; col < mesh.cols; ++col) {
      const auto device = static_cast<std::size_t>(row * mesh.cols + col);
      expect_part("layers.0.attention.wq.weight", WeightRole::kWq, layer.wqkv[device], row, col);
      expect_part("layers.0.attention.wo.weight", WeightRole::kWo, layer.wo[device], row, col);
      expect_part("layers.0.feed_forward.w1.weight", WeightRole::kW1, layer.w1[device], row, col);
      expect_part("layers.0.feed_forward.w2.weight", WeightRole::kW2, layer.w2[device], row, col);
    }
  }
  expect_part("tok_embeddings.weight", WeightRole::kEmbedding, weights->embedding[0], 0, 0);
  EXPECT_GT(compared, 200000U);
}

INSTANTIATE_TEST_SUITE_P(, StoredBlocks,
                         testing::Combine(testing::Values(DType::kQ8_0, DType::kQ4_0),
                                          testing::Values(MeshShape{1, 1}, MeshShape{2, 4})),
                         [](const auto& name_of) {
                           return std::string(tg::name(std::get<0>(name_of.param))) + "_m" +
                                  text(std::get<1>(name_of.param));
                         });

}  // namespace
}  // namespace tg
