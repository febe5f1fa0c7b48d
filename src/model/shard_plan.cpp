#include "model/shard_plan.h"

#include <algorithm>

#include "kernels/packed_matrix.h"

namespace tg {
namespace {

// The kernels multiply pairs of inputs.
constexpr std::int64_t kPair = 2;

}  // namespace

Result<ShardPlan> ShardPlan::make(const ModelConfig& c, const MeshShape& mesh) {
  const auto divides = [&](const char* what, std::int64_t total, const char* over,
                           std::int64_t parts, std::int64_t unit) -> Status {
    if (total % (parts * unit) == 0) return {};
    return error(
        ErrorCode::kBadArgument,
        "a mesh of {} does not divide the model: {} {} over {} {} = {} with a rest of {}{}",
        text(mesh), total, what, parts, over, total / parts, total % (parts * unit),
        unit == 1 ? "" : " (pairs must stay whole)");
  };
  TG_RETURN_IF_ERROR(divides("kv heads", c.kv_heads, "rows", mesh.rows, 1));
  TG_RETURN_IF_ERROR(divides("query heads", c.heads, "rows", mesh.rows, 1));
  TG_RETURN_IF_ERROR(divides("feed-forward values", c.ffn_dim, "rows", mesh.rows, kPair));
  TG_RETURN_IF_ERROR(divides("hidden values", c.dim, "columns", mesh.cols, kPair));
  ShardPlan plan;
  plan.mesh_ = mesh;
  plan.dim_ = c.dim;
  plan.heads_ = c.heads;
  plan.kv_heads_ = c.kv_heads;
  plan.head_dim_ = c.head_dim;
  plan.ffn_dim_ = c.ffn_dim;
  plan.vocab_ = c.vocab;
  const std::int64_t panels = (c.vocab + kPanelWidth - 1) / kPanelWidth;
  plan.vocab_stride_ = (panels + mesh.rows - 1) / mesh.rows * kPanelWidth;
  return plan;
}

TensorPart ShardPlan::part(WeightRole role, std::int64_t row, std::int64_t col) const {
  const auto over_rows = [row](std::int64_t each) {
    return std::pair(row * each, (row + 1) * each);
  };
  const auto over_cols = [col](std::int64_t each) {
    return std::pair(col * each, (col + 1) * each);
  };
  const auto [hidden_begin, hidden_end] = over_cols(dim());
  const auto outputs_over_rows = [&, begin = hidden_begin, end = hidden_end](std::int64_t each) {
    const auto [first, last] = over_rows(each);
    return TensorPart{first, last, begin, end};
  };
  const auto inputs_over_rows = [&, begin = hidden_begin, end = hidden_end](std::int64_t each) {
    const auto [first, last] = over_rows(each);
    return TensorPart{begin, end, first, last};
  };
  switch (role) {
    case WeightRole::kEmbedding:
      return {0, vocab_, hidden_begin, hidden_end};
    case WeightRole::kOutput: {
      TensorPart part = outputs_over_rows(vocab_stride_);
      part.row_begin = std::min(part.row_begin, vocab_);
      part.row_end = std::min(part.row_end, vocab_);
      return part;
    }
    case WeightRole::kNorm:
      return {0, 1, hidden_begin, hidden_end};
    case WeightRole::kWq:
      return outputs_over_rows(heads() * head_dim_);
    case WeightRole::kWk:
    case WeightRole::kWv:
      return outputs_over_rows(kv_heads() * head_dim_);
    case WeightRole::kWo:
      return inputs_over_rows(heads() * head_dim_);
    case WeightRole::kW1:
    case WeightRole::kW3:
      return outputs_over_rows(ffn_dim());
    case WeightRole::kW2:
      return inputs_over_rows(ffn_dim());
  }
  return {};
}

}  // namespace tg
