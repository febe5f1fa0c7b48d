// What: which rectangle of which weight tensor lives on which device of the mesh, as pure data: the
//   Galaxy's placement (8 rows x 4 columns) for any mesh that divides the model.
//     tensor              outputs           inputs            (checkpoint form [outputs, inputs])
//     wq wk wv, w1 w3     over rows         over cols         partial sums over cols
//     wo w2               over cols         over rows         partial sums over rows
//     output              over rows         over cols         vocabulary padded to whole panels
//     tok_embeddings      on every row      over cols
//     norms               -                 over cols         on every row
//   So hidden values lie over columns; heads, feed-forward and vocabulary over rows. KV heads go
//   with their rows, the pages of a user with the user's column.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "checkpoint/model_config.h"
#include "mesh/mesh_shape.h"

namespace tg {

enum class WeightRole : std::uint8_t {
  kEmbedding,
  kOutput,
  kNorm,  // attention_norm, ffn_norm, norm: one row of dim values
  kWq,
  kWk,
  kWv,
  kWo,
  kW1,
  kW3,
  kW2,
};

// Rows [row_begin, row_end) x columns [column_begin, column_end) of a checkpoint tensor.
struct TensorPart {
  std::int64_t row_begin = 0;
  std::int64_t row_end = 0;
  std::int64_t column_begin = 0;
  std::int64_t column_end = 0;

  std::int64_t rows() const { return row_end - row_begin; }
  std::int64_t columns() const { return column_end - column_begin; }
  bool operator==(const TensorPart&) const = default;
};

class ShardPlan {
 public:
  // kBadArgument with the arithmetic when the mesh does not divide the model: rows must divide the
  // kv heads and leave an even number of feed-forward values and of attention outputs on each; cols
  // must leave an even number of hidden values.
  static Result<ShardPlan> make(const ModelConfig& config, const MeshShape& mesh);

  const MeshShape& mesh() const { return mesh_; }

  // What device (row, col) holds of a tensor with this role.
  TensorPart part(WeightRole role, std::int64_t row, std::int64_t col) const;

  // Per device.
  std::int64_t dim() const { return dim_ / mesh_.cols; }
  std::int64_t heads() const { return heads_ / mesh_.rows; }
  std::int64_t kv_heads() const { return kv_heads_ / mesh_.rows; }
  std::int64_t qkv_width() const { return (heads() + 2 * kv_heads()) * head_dim_; }
  std::int64_t ffn_dim() const { return ffn_dim_ / mesh_.rows; }
  // Ids per row of the mesh, a multiple of kPanelWidth; the last rows may have fewer real ones.
  std::int64_t vocab_stride() const { return vocab_stride_; }
  std::int64_t padded_vocab() const { return vocab_stride_ * mesh_.rows; }

 private:
  MeshShape mesh_;
  std::int64_t dim_ = 0;
  std::int64_t heads_ = 0;
  std::int64_t kv_heads_ = 0;
  std::int64_t head_dim_ = 0;
  std::int64_t ffn_dim_ = 0;
  std::int64_t vocab_ = 0;
  std::int64_t vocab_stride_ = 0;
};

}  // namespace tg
