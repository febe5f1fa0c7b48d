// Weights rounded to block float in whole models: the same values, and on the same kernels the same
// logits, whether they are packed so or held as bf16.
#include "blocks_source.h"
#include "tensor/block_float.h"
#include "test_model.h"

namespace tg {
namespace {

using test::BlocksSource;
using test::TestModel;

ModelConfig config_of_96() {
  ModelConfig c;
  c.layers = 2;
  c.dim = 96;
  c.heads = 6;
  c.kv_heads = 2;
  c.head_dim = 16;
  c.ffn_dim = 160;
  c.vocab = 200;
  c.max_context = 128;
  c.rope_theta = 10000.0;
  return c;
}

struct Wish {
  WeightsWish wish;
  int bits;
  const char* in_rows;
  const char* in_pairs;
};

constexpr Wish kWishes[] = {
    {WeightsWish::kBfp8, kBfp8Bits, "bfp8", "bfp8 held as bf16"},
    {WeightsWish::kBfp4, kBfp4Bits, "bfp4 + bfp8", "bfp4 + bfp8 held as bf16"},
};

// On a mesh of 2 x 2 a device's blocks begin where its inputs do.
TEST(BlockFloatWeights, HaveTheSameValuesInBothOrders) {
  const BlocksSource source(config_of_96(), [](const std::string&) { return DType::kBf16; });
  const KernelTable& kernels = *choose_kernels("").value();
  ThreadTeam team(2);
  for (const Wish& wish : kWishes) {
    for (const MeshShape mesh : {MeshShape{1, 1}, MeshShape{2, 2}}) {
      const auto plan = ShardPlan::make(source.config(), mesh);
      ASSERT_TRUE(plan) << plan.error().text();
      for (const WeightOrder order : {WeightOrder::kRows, WeightOrder::kPairs}) {
        const bool rows = order == WeightOrder::kRows;
        const auto weights =
            load_weights(source, *plan, {0, mesh.rows, 0, mesh.cols}, team, wish.wish, order);
        ASSERT_TRUE(weights) << weights.error().text();
        EXPECT_EQ(weights->formats.text(), rows ? wish.in_rows : wish.in_pairs);
        EXPECT_FALSE(weights->formats.has_integers());
        const auto expect_part = [&](const char* name, WeightRole role, const PackedMatrix& matrix,
                                     int bits) {
          EXPECT_EQ(matrix.view().format == WeightFormat::kBf16, !rows);
          const TensorPart part = plan->part(role, mesh.rows - 1, mesh.cols - 1);
          std::vector<float> values(static_cast<std::size_t>(part.columns()));
          std::vector<float> expected(values.size());
          for (std::int64_t r = 0; r < part.rows(); ++r) {
            kernels.embedding(matrix.view(), r, values.data());
            ASSERT_TRUE(source.read_block(*source.find(name), part.row_begin + r, 1,
                                          part.column_begin, part.columns(), expected));
            round_to_bfp(expected, bits);
            ASSERT_EQ(values, expected) << tg::name(wish.wish) << " " << name << " row " << r;
          }
        };
        const LayerWeights& layer = weights->layers[1];
        expect_part("layers.1.attention.wq.weight", WeightRole::kWq, layer.wqkv.back(), wish.bits);
        expect_part("layers.1.attention.wo.weight", WeightRole::kWo, layer.wo.back(), wish.bits);
        expect_part("layers.1.feed_forward.w2.weight", WeightRole::kW2, layer.w2.back(), wish.bits);
        expect_part("tok_embeddings.weight", WeightRole::kEmbedding, weights->embedding.back(),
                    kBfp8Bits);
        std::size_t bytes = 0;
        for (const LayerWeights& l : weights->layers) {
          for (const ShardedMatrix* m : {&l.wqkv, &l.wo, &l.w1, &l.w3, &l.w2}) {
            for (const PackedMatrix& p : *m) bytes += p.bytes();
          }
        }
        for (const PackedMatrix& p : weights->embedding) bytes += p.bytes();
        for (const PackedMatrix& p : weights->output) bytes += p.bytes();
        EXPECT_EQ(packed_weight_bytes(source.config(), *plan, weights->block, weights->formats),
                  static_cast<std::int64_t>(bytes));
      }
    }
  }
}

// A source whose matrices are another's rounded to block float: its bf16 is what bfp8 stands for.
class Rounded final : public TensorSource {
 public:
  Rounded(const TensorSource& source, int bits) : source_(source), bits_(bits) {}

  const ModelConfig& config() const override { return source_.config(); }
  std::span<const TensorInfo> tensors() const override { return source_.tensors(); }
  Status read_block(const TensorInfo& t, std::int64_t first_row, std::int64_t row_count,
                    std::int64_t first_column, std::int64_t column_count,
                    std::span<float> out) const override {
    TG_RETURN_IF_ERROR(
        source_.read_block(t, first_row, row_count, first_column, column_count, out));
    if (t.shape.size() == 1) return {};
    const auto width = static_cast<std::size_t>(column_count);
    for (std::size_t r = 0; r < out.size(); r += width) {
      round_to_bfp(out.subspan(r, width), t.name == "tok_embeddings.weight" ? kBfp8Bits : bits_);
    }
    return {};
  }
  void release(const TensorInfo&) const override {}

 private:
  const TensorSource& source_;
  int bits_;
};

TEST(BlockFloatWeights, AnswerAsTheirValuesInBf16) {
  const BlocksSource source(config_of_96(), [](const std::string&) { return DType::kBf16; });
  const std::vector<TokenId> prompt = {1, 17, 99, 150, 3, 42, 7};
  for (const Wish& wish : kWishes) {
    for (const KernelTable* kernels : available_kernels()) {
      for (const ComputeDType dtype : {ComputeDType::kBf16, ComputeDType::kF32}) {
        test::ModelSetting setting{.dtype = dtype, .positions = 128};
        setting.kernels = kernels->name;
        TestModel wide(Rounded(source, wish.bits), setting);
        setting.weights = wish.wish;
        TestModel packed(source, setting);
        EXPECT_EQ(
            packed.runner().weight_formats().text(),
            weight_order(*kernels, dtype) == WeightOrder::kRows ? wish.in_rows : wish.in_pairs);
        EXPECT_EQ(packed.logits(prompt, {0, 6}), wide.logits(prompt, {0, 6})) << kernels->name;
        EXPECT_EQ(packed.greedy(prompt, 8), wide.greedy(prompt, 8)) << kernels->name;
      }
    }
  }
}

}  // namespace
}  // namespace tg
