// The shard plan as a property: over all devices every element of every tensor is where it should
// be and nowhere else, for many meshes and models; and loading reads no more than that.
#include <map>
#include <set>

#include "checkpoint/known_shapes.h"
#include "checkpoint/random_source.h"
#include "test_model.h"

namespace tg {
namespace {

const std::vector<MeshShape> kPlannedMeshes = {{1, 1}, {1, 2}, {2, 1}, {2, 2}, {4, 2}, {8, 1},
                                               {1, 8}, {8, 4}, {3, 1}, {3, 3}, {1, 3}, {4, 8}};
const std::vector<std::string> kShapes = {"tiny", "llama3.2-1b", "llama3.1-8b", "llama3.3-70b",
                                          "smollm2-135m"};

struct RoleShape {
  WeightRole role;
  std::int64_t rows;
  std::int64_t columns;
};

std::vector<RoleShape> tensors_of(const ModelConfig& c) {
  const std::int64_t q = c.heads * c.head_dim;
  const std::int64_t kv = c.kv_heads * c.head_dim;
  return {{WeightRole::kEmbedding, c.vocab, c.dim},
          {WeightRole::kOutput, c.vocab, c.dim},
          {WeightRole::kNorm, 1, c.dim},
          {WeightRole::kWq, q, c.dim},
          {WeightRole::kWk, kv, c.dim},
          {WeightRole::kWv, kv, c.dim},
          {WeightRole::kWo, c.dim, q},
          {WeightRole::kW1, c.ffn_dim, c.dim},
          {WeightRole::kW3, c.ffn_dim, c.dim},
          {WeightRole::kW2, c.dim, c.ffn_dim}};
}

// What the model asks of the placement, said without the plan's code: which devices need an
// element.
std::set<std::pair<std::int64_t, std::int64_t>> devices_of(WeightRole role, const ModelConfig& c,
                                                           const MeshShape& mesh, std::int64_t row,
                                                           std::int64_t column) {
  const std::int64_t hidden_per_col = c.dim / mesh.cols;
  std::set<std::pair<std::int64_t, std::int64_t>> devices;
  for (std::int64_t r = 0; r < mesh.rows; ++r) {
    for (std::int64_t d = 0; d < mesh.cols; ++d) {
      bool holds = false;
      switch (role) {
        case WeightRole::kEmbedding:
        case WeightRole::kNorm:
          holds = column / hidden_per_col == d;
          break;
        case WeightRole::kOutput: {
          const std::int64_t panels = (c.vocab + 31) / 32;
          const std::int64_t per_row = (panels + mesh.rows - 1) / mesh.rows;
          holds = row / 32 / per_row == r && column / hidden_per_col == d;
          break;
        }
        case WeightRole::kWq: {  // a query head is where its kv head is
          const std::int64_t kv_head = row / c.head_dim / (c.heads / c.kv_heads);
          holds = kv_head / (c.kv_heads / mesh.rows) == r && column / hidden_per_col == d;
          break;
        }
        case WeightRole::kWk:
        case WeightRole::kWv:
          holds = row / c.head_dim / (c.kv_heads / mesh.rows) == r && column / hidden_per_col == d;
          break;
        case WeightRole::kWo: {
          const std::int64_t kv_head = column / c.head_dim / (c.heads / c.kv_heads);
          holds = kv_head / (c.kv_heads / mesh.rows) == r && row / hidden_per_col == d;
          break;
        }
        case WeightRole::kW1:
        case WeightRole::kW3:
          holds = row / (c.ffn_dim / mesh.rows) == r && column / hidden_per_col == d;
          break;
        case WeightRole::kW2:
          holds = column / (c.ffn_dim / mesh.rows) == r && row / hidden_per_col == d;
          break;
      }
      if (holds) devices.emplace(r, d);
    }
  }
  return devices;
}

TEST(ShardPlan, EveryElementIsOnExactlyItsDevices) {
  std::int64_t plans = 0;
  for (const std::string& shape : kShapes) {
    const ModelConfig c = *known_shape(shape);
    for (const MeshShape& mesh : kPlannedMeshes) {
      const auto plan = ShardPlan::make(c, mesh);
      if (!plan) continue;
      ++plans;
      for (const RoleShape& t : tensors_of(c)) {
        // All elements next to a border of any part, and the corners: parts are rectangles.
        std::set<std::int64_t> rows = {0, t.rows - 1};
        std::set<std::int64_t> columns = {0, t.columns - 1};
        for (std::int64_t r = 0; r < mesh.rows; ++r) {
          for (std::int64_t d = 0; d < mesh.cols; ++d) {
            const TensorPart p = plan->part(t.role, r, d);
            for (const std::int64_t row :
                 {p.row_begin - 1, p.row_begin, p.row_end - 1, p.row_end}) {
              if (row >= 0 && row < t.rows) rows.insert(row);
            }
            for (const std::int64_t column :
                 {p.column_begin - 1, p.column_begin, p.column_end - 1, p.column_end}) {
              if (column >= 0 && column < t.columns) columns.insert(column);
            }
          }
        }
        for (const std::int64_t row : rows) {
          for (const std::int64_t column : columns) {
            std::set<std::pair<std::int64_t, std::int64_t>> holders;
            for (std::int64_t r = 0; r < mesh.rows; ++r) {
              for (std::int64_t d = 0; d < mesh.cols; ++d) {
                const TensorPart p = plan->part(t.role, r, d);
                if (row >= p.row_begin && row < p.row_end && column >= p.column_begin &&
                    column < p.column_end) {
                  holders.emplace(r, d);
                }
              }
            }
            ASSERT_EQ(holders, devices_of(t.role, c, mesh, row, column))
                << shape << " on " << text(mesh) << " role " << static_cast<int>(t.role)
                << " element " << row << "," << column;
          }
        }
      }
    }
  }
  EXPECT_GE(plans, 35);
}

TEST(ShardPlan, TheGalaxyOfTheOriginal) {
  const auto plan = *ShardPlan::make(*known_shape("llama3.3-70b"), kGalaxy);
  EXPECT_EQ(plan.part(WeightRole::kWq, 7, 3), (TensorPart{7168, 8192, 6144, 8192}));
  EXPECT_EQ(plan.part(WeightRole::kWk, 2, 1), (TensorPart{256, 384, 2048, 4096}));
  EXPECT_EQ(plan.part(WeightRole::kWo, 2, 1), (TensorPart{2048, 4096, 2048, 3072}));
  EXPECT_EQ(plan.part(WeightRole::kW1, 7, 0), (TensorPart{25088, 28672, 0, 2048}));
  EXPECT_EQ(plan.part(WeightRole::kW2, 7, 0), (TensorPart{0, 2048, 25088, 28672}));
  EXPECT_EQ(plan.qkv_width(), 1280);
  EXPECT_EQ(plan.ffn_dim(), 3584);
  EXPECT_EQ(plan.vocab_stride(), 16032);  // the original pads to 16384, we to whole panels
}

TEST(ShardPlan, WhatDoesNotDivideIsRefusedWithTheArithmetic) {
  const auto refusal = [](const char* shape, MeshShape mesh) {
    const auto plan = ShardPlan::make(*known_shape(shape), mesh);
    return plan ? "accepted" : plan.error().text();
  };
  EXPECT_EQ(refusal("smollm2-135m", {8, 4}),
            "a mesh of 8x4 does not divide the model: 3 kv heads over 8 rows = 0 with a rest of 3");
  EXPECT_EQ(refusal("tiny", {8, 3}),
            "a mesh of 8x3 does not divide the model: 256 hidden values over 3 columns = 85 with a "
            "rest of 4 (pairs must stay whole)");
  EXPECT_EQ(refusal("tiny", {16, 1}),
            "a mesh of 16x1 does not divide the model: 8 kv heads over 16 rows = 0 with a rest of "
            "8");
  EXPECT_EQ(refusal("smollm2-135m", {3, 3}), "accepted");
}

// Counts what is read, by tensor, and where.
class CountingSource : public TensorSource {
 public:
  explicit CountingSource(std::unique_ptr<TensorSource> source) : source_(std::move(source)) {}
  const ModelConfig& config() const override { return source_->config(); }
  std::span<const TensorInfo> tensors() const override { return source_->tensors(); }
  Status read_block(const TensorInfo& tensor, std::int64_t first_row, std::int64_t row_count,
                    std::int64_t first_column, std::int64_t column_count,
                    std::span<float> out) const override {
    {
      const std::lock_guard lock(mutex_);
      values_[tensor.name] += row_count * column_count;
    }
    return source_->read_block(tensor, first_row, row_count, first_column, column_count, out);
  }
  void release(const TensorInfo& tensor) const override { source_->release(tensor); }
  std::int64_t values(const std::string& name) const { return values_[name]; }

 private:
  std::unique_ptr<TensorSource> source_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::int64_t> values_;
};

TEST(LoadWeights, RanksReadOnlyWhatTheirDevicesNeed) {
  const ModelConfig c = *known_shape("tiny");
  ThreadTeam team(2);
  for (const std::int64_t ranks : {1, 2, 8, 16, 32}) {
    const auto plan = *ShardPlan::make(c, kGalaxy);
    const auto grid = *share_mesh(kGalaxy, ranks);
    std::map<std::string, std::int64_t> sum;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      const CountingSource source(*open_random(c, 3));
      const DeviceBlock block = grid.block(rank);
      const auto weights = load_weights(source, plan, block, team);
      ASSERT_TRUE(weights) << weights.error().text();
      for (const TensorInfo& t : source.tensors()) sum[t.name] += source.values(t.name);
      // Columns of the hidden size over the ranks of a row, the rest over those of a column.
      const std::int64_t share = kGalaxy.devices() / block.devices();
      EXPECT_EQ(source.values("layers.0.attention.wq.weight"), 256 * 256 / share) << ranks;
      EXPECT_EQ(source.values("layers.3.feed_forward.w2.weight"), 256 * 352 / share) << ranks;
      EXPECT_EQ(source.values("tok_embeddings.weight"), 1024 * 256 * block.cols() / 4) << ranks;
      EXPECT_EQ(source.values("norm.weight"), 256 * block.cols() / 4) << ranks;
    }
    EXPECT_EQ(sum["layers.1.attention.wo.weight"], 256 * 256);
    EXPECT_EQ(sum["output.weight"], 1024 * 256);
  }
}

// The packed parts hold the values of their places.
TEST(LoadWeights, PartsAreTheTensorsValues) {
  const ModelConfig c = *known_shape("tiny");
  ThreadTeam team(2);
  const auto source = *open_random(c, 5);
  const auto plan = *ShardPlan::make(c, kGalaxy);
  const DeviceBlock block{2, 4, 1, 3};
  const auto weights = load_weights(*source, plan, block, team);
  ASSERT_TRUE(weights);
  const KernelTable& kernels = **choose_kernels("reference");
  const auto expect_row = [&](const PackedView& view, std::int64_t row, const char* name,
                              std::int64_t from_row, std::int64_t from_column) {
    std::vector<float> packed(static_cast<std::size_t>(view.k));
    std::vector<float> expected(static_cast<std::size_t>(view.k));
    kernels.embedding(view, row, packed.data());
    ASSERT_TRUE(
        source->read_block(*source->find(name), from_row, 1, from_column, view.k, expected));
    EXPECT_EQ(packed, expected) << name << " row " << from_row;
  };
  for (std::int64_t row = 2; row < 4; ++row) {
    for (std::int64_t col = 1; col < 3; ++col) {
      const auto device = static_cast<std::size_t>((row - 2) * 2 + col - 1);
      const LayerWeights& layer = weights->layers[1];
      const PackedView qkv = layer.wqkv[device].view();
      ASSERT_EQ(qkv.n, 64);  // 2 query heads, 1 key head, 1 value head of 16
      expect_row(qkv, 31, "layers.1.attention.wq.weight", row * 32 + 31, col * 64);
      expect_row(qkv, 32, "layers.1.attention.wk.weight", row * 16, col * 64);
      expect_row(qkv, 63, "layers.1.attention.wv.weight", row * 16 + 15, col * 64);
      expect_row(layer.wo[device].view(), 5, "layers.1.attention.wo.weight", col * 64 + 5,
                 row * 32);
      expect_row(layer.w1[device].view(), 43, "layers.1.feed_forward.w1.weight", row * 44 + 43,
                 col * 64);
      expect_row(layer.w2[device].view(), 63, "layers.1.feed_forward.w2.weight", col * 64 + 63,
                 row * 44);
      expect_row(weights->lm_head(row, col), 127, "output.weight", row * 128 + 127, col * 64);
    }
  }
}

}  // namespace
}  // namespace tg
