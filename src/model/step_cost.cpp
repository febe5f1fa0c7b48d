#include "model/step_cost.h"

#include <utility>

#include "model/llama_forward.h"
#include "model/shard_sampler.h"

namespace tg {
namespace {

class Table {
 public:
  Table(const ShardPlan& shards, const CollectivePlan& plan, std::int64_t rows)
      : mesh_(shards.mesh()), plan_(plan), rows_(rows) {}

  // A tensor [rows, width] of each group along the axis, cut by features.
  void add(Use use, HopWork work, Axis axis, std::int64_t times, std::int64_t width,
           ComputeDType dtype = ComputeDType::kF32) {
    add_cut(use, work, axis, times, dtype, [&](std::int64_t begin_i, std::int64_t n) {
      return Cut{rows_, width * (begin_i + 1) / n - width * begin_i / n};
    });
  }
  void add_both(Use use, Axis axis, std::int64_t times, std::int64_t width) {
    add(use, HopWork::kReduceScatter, axis, times, width);
    add(use, HopWork::kAllGather, axis, times, width);
  }
  // Cut by rows.
  void add_rows(Use use, HopWork work, Axis axis, std::int64_t times, std::int64_t width,
                ComputeDType dtype) {
    add_cut(use, work, axis, times, dtype, [&](std::int64_t i, std::int64_t n) {
      return Cut{rows_ * (i + 1) / n - rows_ * i / n, width};
    });
  }

  // Of what is added from now on.
  void set_rows(std::int64_t rows) { rows_ = rows; }

  std::vector<CollectiveCost> take() { return std::move(costs_); }

 private:
  struct Cut {
    std::int64_t rows;
    std::int64_t width;
  };

  template <typename F>
  void add_cut(Use use, HopWork work, Axis axis, std::int64_t times, ComputeDType dtype,
               const F& cut) {
    const std::int64_t n = mesh_.length(axis);
    if (n == 1) return;
    PayloadDType payload = plan_.payload_of(use);
    if (payload == PayloadDType::kF32 && dtype == ComputeDType::kBf16) {
      payload = PayloadDType::kBf16;
    }
    std::vector<std::int64_t> segments;
    for (std::int64_t i = 0; i < n; ++i) {
      const Cut c = cut(i, n);
      segments.push_back(c.rows * payload_bytes(payload, c.width));
    }
    LinkModel links;
    links.links = plan_.links;
    CollectiveCost cost{use, work, axis, times, mesh_.devices() / n, {}};
    cost.one = cost_of(make_hop_schedule(work, plan_.algorithm(work, use), n), segments, links);
    costs_.push_back(cost);
  }

  MeshShape mesh_;
  const CollectivePlan& plan_;
  std::int64_t rows_;
  std::vector<CollectiveCost> costs_;
};

}  // namespace

std::vector<CollectiveCost> step_collectives(const ModelConfig& config, const ShardPlan& shards,
                                             const CollectivePlan& plan, ComputeDType dtype,
                                             std::int64_t rows) {
  constexpr Axis kRows = Axis::kRows;
  constexpr Axis kCols = Axis::kCols;
  constexpr HopWork kScatter = HopWork::kReduceScatter;
  constexpr HopWork kGather = HopWork::kAllGather;
  const std::int64_t layers = config.layers;
  Table table(shards, plan, rows);
  // A sum of squares per column.
  table.add(Use::kLayerNorm, kGather, kCols, 2 * layers, shards.mesh().cols);
  table.add_both(Use::kQkv, kCols, layers, shards.qkv_width());
  table.add_rows(Use::kSdpa, kGather, kCols, layers, shards.heads() * config.head_dim, dtype);
  table.add_both(Use::kWo, kRows, layers, shards.dim());
  table.add(Use::kFf1, kScatter, kCols, layers, shards.ffn_dim());
  table.add(Use::kFf3, kScatter, kCols, layers, shards.ffn_dim());
  table.add(Use::kFf3, kGather, kCols, layers, shards.ffn_dim(), dtype);
  table.add_both(Use::kFf2, kRows, layers, shards.dim());
  // The head takes so many rows at a time, full pieces and a rest. Of the vocabulary only each
  // shard's best id crosses.
  constexpr std::int64_t kPiece = LlamaForward::kHeadRows;
  const std::int64_t slot = ShardQuery{.candidates = 1}.floats();
  for (const auto& [pieces, piece_rows] :
       {std::pair{rows / kPiece, kPiece}, std::pair{std::int64_t{1}, rows % kPiece}}) {
    if (pieces * piece_rows == 0) continue;
    table.set_rows(piece_rows);
    table.add(Use::kLayerNorm, kGather, kCols, pieces, shards.mesh().cols);
    table.add_both(Use::kSampling, kCols, pieces, shards.vocab_stride());
    table.add(Use::kSampling, kGather, kRows, pieces, shards.mesh().rows * slot);
  }
  return table.take();
}

}  // namespace tg
