#include "model/llama_weights.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
#include <optional>
#include <utility>

#include "kernels/kernel_table.h"

namespace tg {
namespace {

// f32 values that a thread reads at a time: 1 MiB, so that the block is still in its cache when it
// is packed.
constexpr std::int64_t kBlockValues = 256 * 1024;

// Where a tensor goes: a matrix from row first_row on, or a vector.
struct Target {
  const TensorInfo* tensor = nullptr;
  PackedMatrix* matrix = nullptr;
  std::int64_t first_row = 0;
  std::vector<float>* vector = nullptr;
};

struct RowBlock {
  std::size_t target = 0;
  std::int64_t first_row = 0;  // of the tensor
  std::int64_t row_count = 0;
};

Status check_shape(const ModelConfig& c) {
  if (c.head_dim > kMaxHeadDim || c.head_dim % 2 != 0) {
    return error(ErrorCode::kUnsupported, "head_dim {}: need an even number up to {}", c.head_dim,
                 kMaxHeadDim);
  }
  if (c.dim % 2 != 0 || c.ffn_dim % 2 != 0) {
    return error(ErrorCode::kUnsupported, "hidden size {} and feed-forward size {}: need even ones",
                 c.dim, c.ffn_dim);
  }
  return {};
}

Status allocate(LlamaWeights& w) {
  const ModelConfig& c = w.config;
  const std::int64_t query_rows = c.heads * c.head_dim;
  const std::int64_t qkv_rows = query_rows + 2 * c.kv_heads * c.head_dim;
  TG_ASSIGN(w.embedding, PackedMatrix::allocate(c.vocab, c.dim));
  if (!c.tied_embeddings) {
    TG_ASSIGN(w.output, PackedMatrix::allocate(c.vocab, c.dim));
  }
  w.layers.resize(static_cast<std::size_t>(c.layers));
  for (LayerWeights& layer : w.layers) {
    TG_ASSIGN(layer.wqkv, PackedMatrix::allocate(qkv_rows, c.dim));
    TG_ASSIGN(layer.wo, PackedMatrix::allocate(c.dim, query_rows));
    TG_ASSIGN(layer.w1, PackedMatrix::allocate(c.ffn_dim, c.dim));
    TG_ASSIGN(layer.w3, PackedMatrix::allocate(c.ffn_dim, c.dim));
    TG_ASSIGN(layer.w2, PackedMatrix::allocate(c.dim, c.ffn_dim));
  }
  return {};
}

// The plan of loading: which tensor becomes which part of `w`.
Result<std::vector<Target>> find_targets(const TensorSource& source, LlamaWeights& w) {
  const ModelConfig& c = w.config;
  std::vector<Target> targets;
  std::optional<std::string> missing;
  const auto find = [&](const std::string& name) {
    const TensorInfo* tensor = source.find(name);
    if (tensor == nullptr && !missing) missing = name;
    return tensor;
  };
  const auto matrix = [&](const std::string& name, PackedMatrix& to, std::int64_t first_row = 0) {
    targets.push_back({find(name), &to, first_row, nullptr});
  };
  const auto vector = [&](const std::string& name, std::vector<float>& to) {
    targets.push_back({find(name), nullptr, 0, &to});
  };
  matrix("tok_embeddings.weight", w.embedding);
  if (!c.tied_embeddings) matrix("output.weight", w.output);
  vector("norm.weight", w.norm);
  for (std::size_t i = 0; i < w.layers.size(); ++i) {
    LayerWeights& layer = w.layers[i];
    const std::string prefix = fmt::format("layers.{}.", i);
    vector(prefix + "attention_norm.weight", layer.attention_norm);
    matrix(prefix + "attention.wq.weight", layer.wqkv);
    matrix(prefix + "attention.wk.weight", layer.wqkv, c.heads * c.head_dim);
    matrix(prefix + "attention.wv.weight", layer.wqkv, (c.heads + c.kv_heads) * c.head_dim);
    matrix(prefix + "attention.wo.weight", layer.wo);
    vector(prefix + "ffn_norm.weight", layer.ffn_norm);
    matrix(prefix + "feed_forward.w1.weight", layer.w1);
    matrix(prefix + "feed_forward.w3.weight", layer.w3);
    matrix(prefix + "feed_forward.w2.weight", layer.w2);
  }
  if (missing) return error(ErrorCode::kNotFound, "tensor \"{}\" is missing", *missing);
  return targets;
}

std::int64_t values_of(const Target& t) { return t.tensor->rows() * t.tensor->columns(); }

// Blocks of whole panels, the largest tensors first.
std::vector<RowBlock> cut_into_blocks(const std::vector<Target>& targets) {
  std::vector<std::size_t> order(targets.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(-values_of(targets[a]), a) < std::pair(-values_of(targets[b]), b);
  });
  std::vector<RowBlock> blocks;
  for (const std::size_t t : order) {
    const TensorInfo& tensor = *targets[t].tensor;
    const std::int64_t panels =
        std::max<std::int64_t>(1, kBlockValues / (tensor.columns() * kPanelWidth));
    const std::int64_t rows = panels * kPanelWidth;
    for (std::int64_t row = 0; row < tensor.rows(); row += rows) {
      blocks.push_back({t, row, std::min(rows, tensor.rows() - row)});
    }
  }
  return blocks;
}

Status load_block(const TensorSource& source, const Target& target, const RowBlock& block,
                  std::vector<float>& values) {
  values.resize(static_cast<std::size_t>(block.row_count * target.tensor->columns()));
  TG_RETURN_IF_ERROR(source.read_rows(*target.tensor, block.first_row, block.row_count, values));
  if (target.vector != nullptr) {
    *target.vector = values;
  } else {
    target.matrix->set_rows(target.first_row + block.first_row, block.row_count, values);
  }
  return {};
}

}  // namespace

std::int64_t packed_weight_bytes(const ModelConfig& config) {
  std::int64_t bytes = 0;
  for (const TensorInfo& tensor : expected_tensors(config)) {
    if (tensor.shape.size() != 2) continue;
    const PackedView view{nullptr, tensor.rows(), tensor.columns(), WeightFormat::kBf16};
    bytes += view.panels() * view.panel_bytes();
  }
  return bytes;
}

Result<LlamaWeights> load_weights(const TensorSource& source, ThreadTeam& team,
                                  const LoadProgress& progress) {
  LlamaWeights weights;
  weights.config = source.config();
  TG_RETURN_IF_ERROR(check_shape(weights.config));
  TG_RETURN_IF_ERROR(allocate(weights));
  TG_ASSIGN(const std::vector<Target> targets, find_targets(source, weights));
  const std::vector<RowBlock> blocks = cut_into_blocks(targets);

  std::vector<std::atomic<std::int64_t>> blocks_left(targets.size());
  std::int64_t total = 0;
  for (const RowBlock& block : blocks) {
    blocks_left[block.target].fetch_add(1, std::memory_order_relaxed);
    total += block.row_count * targets[block.target].tensor->columns();
  }

  std::mutex mutex;  // guards done, failure and progress
  std::int64_t done = 0;
  std::optional<Error> failure;
  std::atomic<bool> failed = false;
  std::vector<std::vector<float>> scratch(static_cast<std::size_t>(team.size()));
  team.for_pieces_by_member(static_cast<std::int64_t>(blocks.size()), 1,
                            [&](int member, std::int64_t begin, std::int64_t end) {
                              for (std::int64_t i = begin; i < end && !failed; ++i) {
                                const RowBlock& block = blocks[static_cast<std::size_t>(i)];
                                const Target& target = targets[block.target];
                                const Status status =
                                    load_block(source, target, block,
                                               scratch[static_cast<std::size_t>(member)]);
                                if (blocks_left[block.target].fetch_sub(1) == 1)
                                  source.release(*target.tensor);
                                const std::lock_guard lock(mutex);
                                if (!status) {
                                  if (!failure) failure = status.error();
                                  failed = true;
                                  return;
                                }
                                done += block.row_count * target.tensor->columns();
                                if (progress) progress(done, total);
                              }
                            });
  if (failure) return tl::unexpected<Error>(std::move(*failure));
  return weights;
}

}  // namespace tg
