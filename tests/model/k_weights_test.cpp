// Files in GGUF's formats of blocks of 256 in whole models: held as they are where the kernels take
// rows of outputs, with the bits of the same weights in bf16, and in bf16 elsewhere.
#include "blocks_source.h"
#include "test_model.h"

namespace tg {
namespace {

using test::BlocksSource;
using test::TestModel;

ModelConfig config_of_512() {
  ModelConfig c;
  c.layers = 2;
  c.dim = 512;
  c.heads = 16;
  c.kv_heads = 4;
  c.head_dim = 32;
  c.ffn_dim = 1024;
  c.vocab = 200;
  c.max_context = 128;
  c.rope_theta = 10000.0;
  return c;
}

// The mixture of a Q4_K_M file: v and w2 of some layers and the head have more bits.
DType mixture(const std::string& name) {
  const bool more = name == "output.weight" || name == "layers.0.attention.wv.weight" ||
                    name == "layers.0.feed_forward.w2.weight";
  return more ? DType::kQ6K : DType::kQ4K;
}

Result<LlamaWeights> load(const TensorSource& source, MeshShape mesh, WeightOrder order) {
  ThreadTeam team(2);
  TG_ASSIGN(const ShardPlan plan, ShardPlan::make(source.config(), mesh));
  return load_weights(source, plan, {0, mesh.rows, 0, mesh.cols}, team, WeightsWish::kStored,
                      order);
}

class KWeights : public testing::TestWithParam<MeshShape> {};

// On a mesh of 4 columns a device has 128 of the hidden values: half a block.
TEST_P(KWeights, AreTakenAsTheyAre) {
  const MeshShape mesh = GetParam();
  const BlocksSource source(config_of_512(), mixture);
  const auto weights = load(source, mesh, WeightOrder::kRows);
  ASSERT_TRUE(weights) << weights.error().text();
  const bool whole = mesh.cols < 4;
  EXPECT_EQ(weights->formats.text(), whole ? "q4_k + q6_k" : "q4_k + q6_k + bf16");
  const LayerFormats& first = weights->formats.layers[0];
  EXPECT_EQ(first.wqkv, whole ? WeightFormat::kQ4K : WeightFormat::kBf16);
  EXPECT_EQ(first.wv, whole ? WeightFormat::kQ6K : WeightFormat::kBf16);
  EXPECT_EQ(first.w2, WeightFormat::kQ6K);
  EXPECT_EQ(weights->layers[0].wv.empty(), !whole);
  EXPECT_TRUE(weights->layers[1].wv.empty());

  const KernelTable& kernels = *choose_kernels("").value();
  std::size_t bytes = 0;
  std::size_t compared = 0;
  const auto expect_part = [&](const std::string& name, WeightRole role, const PackedMatrix& matrix,
                               std::int64_t first_row, std::int64_t row, std::int64_t col) {
    const TensorInfo& tensor = *source.find(name);
    const TensorPart part = weights->plan.part(role, row, col);
    std::vector<float> values(static_cast<std::size_t>(part.columns()));
    std::vector<float> expected(values.size());
    for (std::int64_t r = 0; r < part.rows(); ++r, ++compared) {
      kernels.embedding(matrix.view(), first_row + r, values.data());
      ASSERT_TRUE(source.read_block(tensor, part.row_begin + r, 1, part.column_begin,
                                    part.columns(), expected));
      if (matrix.view().format == WeightFormat::kBf16) {
        for (float& v : expected) v = to_float(to_bf16(v));
      }
      ASSERT_EQ(values, expected) << name << " of device " << row << ", " << col << ", row " << r;
    }
  };
  for (std::size_t i = 0; i < 2; ++i) {
    const LayerWeights& layer = weights->layers[i];
    const std::string prefix = "layers." + std::to_string(i) + ".";
    for (std::int64_t row = 0; row < mesh.rows; ++row) {
      for (std::int64_t col = 0; col < mesh.cols; ++col) {
        const auto d = static_cast<std::size_t>(row * mesh.cols + col);
        const std::int64_t q = weights->plan.heads() * 32;
        const std::int64_t k = weights->plan.kv_heads() * 32;
        const bool apart = !layer.wv.empty();
        expect_part(prefix + "attention.wq.weight", WeightRole::kWq, layer.wqkv[d], 0, row, col);
        expect_part(prefix + "attention.wk.weight", WeightRole::kWk, layer.wqkv[d], q, row, col);
        expect_part(prefix + "attention.wv.weight", WeightRole::kWv,
                    apart ? layer.wv[d] : layer.wqkv[d], apart ? 0 : q + k, row, col);
        expect_part(prefix + "attention.wo.weight", WeightRole::kWo, layer.wo[d], 0, row, col);
        expect_part(prefix + "feed_forward.w1.weight", WeightRole::kW1, layer.w1[d], 0, row, col);
        expect_part(prefix + "feed_forward.w2.weight", WeightRole::kW2, layer.w2[d], 0, row, col);
        if (apart) bytes += layer.wv[d].bytes();
        bytes += layer.wqkv[d].bytes() + layer.wo[d].bytes() + layer.w1[d].bytes() +
                 layer.w3[d].bytes() + layer.w2[d].bytes();
      }
    }
  }
  for (std::int64_t col = 0; col < mesh.cols; ++col) {
    const auto c = static_cast<std::size_t>(col);
    expect_part("tok_embeddings.weight", WeightRole::kEmbedding, weights->embedding[c], 0, 0, col);
    bytes += weights->embedding[c].bytes() + weights->output[c].bytes();
  }
  EXPECT_GT(compared, 5000U);
  EXPECT_EQ(packed_weight_bytes(source.config(), weights->plan, weights->block, weights->formats),
            static_cast<std::int64_t>(bytes));
}

INSTANTIATE_TEST_SUITE_P(, KWeights,
                         testing::Values(MeshShape{1, 1}, MeshShape{2, 2}, MeshShape{1, 4}),
                         [](const auto& mesh) { return "m" + text(mesh.param); });

TEST(KWeightsInPairs, AreBf16) {
  const BlocksSource source(config_of_512(), mixture);
  const auto weights = load(source, {}, WeightOrder::kPairs);
  ASSERT_TRUE(weights) << weights.error().text();
  EXPECT_EQ(weights->formats.text(), "bf16");
  EXPECT_FALSE(weights->formats.has_integers());
}

// An embedding is looked up in f32, as of every format that is not bf16: with one in bf16 there is
// no difference to be seen, with another one a rounding of the first hidden values.
// Kernels without tiles hold them in bf16 to begin with.
TEST(KWeightsInAModel, AnswerAsTheirValuesInBf16) {
  const bool tiles = (*choose_kernels(""))->order == WeightOrder::kRows;
  const std::vector<TokenId> prompt = {1, 17, 99, 150, 3, 42, 7};
  const auto with_bf16_embedding = [](const std::string& name) {
    return name == "tok_embeddings.weight" ? DType::kBf16 : mixture(name);
  };
  const BlocksSource wide_embedding(config_of_512(), with_bf16_embedding);
  const BlocksSource all(config_of_512(), mixture);
  for (const MeshShape mesh : {MeshShape{1, 1}, MeshShape{2, 2}}) {
    for (const BlocksSource* source : {&wide_embedding, &all}) {
      test::ModelSetting setting{.dtype = ComputeDType::kBf16, .positions = 128, .mesh = mesh};
      TestModel wide(*source, setting);
      setting.weights = WeightsWish::kStored;
      TestModel stored(*source, setting);
      EXPECT_EQ(stored.runner().weight_formats().text(), !tiles           ? "bf16"
                                                         : source == &all ? "q4_k + q6_k"
                                                                          : "q4_k + q6_k + bf16");
      EXPECT_EQ(wide.runner().weight_formats().text(), "bf16");
      EXPECT_EQ(stored.greedy(prompt, 24), wide.greedy(prompt, 24));
      if (tiles && source == &all) continue;
      EXPECT_EQ(stored.logits(prompt, {0, 6}), wide.logits(prompt, {0, 6}));
    }
  }
}

}  // namespace
}  // namespace tg
