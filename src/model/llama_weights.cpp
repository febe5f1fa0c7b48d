#include "model/llama_weights.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>
#include <utility>

#include "kernels/kernel_table.h"
#include "tensor/block_float.h"

namespace tg {
namespace {

// f32 values that a thread reads at a time: 1 MiB, so that the block is still in its cache when it
// is packed.
constexpr std::int64_t kBlockValues = 256 * 1024;

// A part of a tensor and the matrix whose rows from first_row on it becomes.
struct Destination {
  PackedMatrix* matrix = nullptr;
  std::int64_t first_row = 0;
  TensorPart part;
  WeightFormat values = WeightFormat::kBf16;  // what they are rounded to, before packing if that is
                                              // wider
};

// What is read together: all parts that have the same rows.
struct Target {
  std::size_t tensor = 0;  // index into Targets::tensors
  TensorPart read;         // their rows, and the columns of them all
  std::vector<Destination> destinations;
  std::vector<float>* vector = nullptr;  // for a norm instead
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

// How a matrix gets its memory.
using MakeMatrix = Result<PackedMatrix> (*)(std::int64_t n, std::int64_t k, WeightFormat format,
                                            WeightOrder order);

Result<PackedMatrix> make_outline(std::int64_t n, std::int64_t k, WeightFormat format,
                                  WeightOrder order) {
  return PackedMatrix::over({nullptr, n, k, format, order});
}

Status allocate(LlamaWeights& w, MakeMatrix make) {
  const ModelConfig& c = w.config;
  const ShardPlan& plan = w.plan;
  const std::int64_t attention_width = plan.heads() * c.head_dim;
  const auto sharded = [&](ShardedMatrix& matrix, std::int64_t n, std::int64_t k,
                           WeightFormat format) -> Status {
    for (std::int64_t i = 0; i < w.block.devices(); ++i) {
      TG_ASSIGN(PackedMatrix part, make(n, k, w.formats.packed(format), w.formats.order));
      matrix.push_back(std::move(part));
    }
    return {};
  };
  const std::int64_t first_id = plan.part(WeightRole::kOutput, w.block.row_begin, 0).row_begin;
  const std::int64_t last_id = plan.part(WeightRole::kOutput, w.block.row_end - 1, 0).row_end;
  for (std::int64_t col = 0; col < w.block.cols(); ++col) {
    TG_ASSIGN(PackedMatrix embedding,
              make(c.vocab, plan.dim(), w.formats.packed(w.formats.embedding), w.formats.order));
    w.embedding.push_back(std::move(embedding));
    if (c.tied_embeddings) continue;
    PackedMatrix output;
    if (last_id > first_id) {
      TG_ASSIGN(output, make(last_id - first_id, plan.dim(), w.formats.packed(w.formats.output),
                             w.formats.order));
    }
    w.output.push_back(std::move(output));
  }
  w.norm.resize(static_cast<std::size_t>(c.dim));
  w.layers.resize(static_cast<std::size_t>(c.layers));
  for (std::size_t i = 0; i < w.layers.size(); ++i) {
    LayerWeights& layer = w.layers[i];
    const LayerFormats& f = w.formats.layers[i];
    layer.attention_norm.resize(static_cast<std::size_t>(c.dim));
    layer.ffn_norm.resize(static_cast<std::size_t>(c.dim));
    const std::int64_t own_v = f.splits_v() ? plan.kv_heads() * c.head_dim : 0;
    TG_RETURN_IF_ERROR(sharded(layer.wqkv, plan.qkv_width() - own_v, plan.dim(), f.wqkv));
    if (own_v > 0) TG_RETURN_IF_ERROR(sharded(layer.wv, own_v, plan.dim(), f.wv));
    TG_RETURN_IF_ERROR(sharded(layer.wo, plan.dim(), attention_width, f.wo));
    TG_RETURN_IF_ERROR(sharded(layer.w1, plan.ffn_dim(), plan.dim(), f.w1));
    TG_RETURN_IF_ERROR(sharded(layer.w3, plan.ffn_dim(), plan.dim(), f.w3));
    TG_RETURN_IF_ERROR(sharded(layer.w2, plan.dim(), plan.ffn_dim(), f.w2));
  }
  return {};
}

// Everything but what the matrices hold.
Result<LlamaWeights> make_weights(const TensorSource& source, const ShardPlan& plan,
                                  const DeviceBlock& block, WeightsWish wish, WeightOrder order,
                                  MakeMatrix make) {
  LlamaWeights weights;
  weights.config = source.config();
  weights.plan = plan;
  weights.block = block;
  weights.formats = weight_formats(source, wish, plan, order);
  TG_RETURN_IF_ERROR(check_shape(weights.config));
  TG_RETURN_IF_ERROR(allocate(weights, make));
  return weights;
}

// The plan of loading: which part of which tensor becomes which part of `w`.
class Targets {
 public:
  Targets(const TensorSource& source, LlamaWeights& w) : source_(source), w_(w) {}

  std::vector<const TensorInfo*> tensors;
  std::vector<Target> list;

  Status fill() {
    const ModelConfig& c = w_.config;
    // Embedding and output are shared by the devices of a column.
    add("tok_embeddings.weight", WeightRole::kEmbedding, w_.formats.embedding,
        [this](std::int64_t row, std::int64_t col) {
          return row == 0 ? Place{&w_.embedding[static_cast<std::size_t>(col)], 0} : Place{};
        });
    if (!c.tied_embeddings) {
      add("output.weight", WeightRole::kOutput, w_.formats.output,
          [this](std::int64_t row, std::int64_t col) {
            return Place{&w_.output[static_cast<std::size_t>(col)], row * w_.plan.vocab_stride()};
          });
    }
    add_norm("norm.weight", w_.norm);
    const std::int64_t q_rows = w_.plan.heads() * c.head_dim;
    const std::int64_t kv_rows = w_.plan.kv_heads() * c.head_dim;
    for (std::size_t i = 0; i < w_.layers.size(); ++i) {
      LayerWeights& layer = w_.layers[i];
      const LayerFormats& f = w_.formats.layers[i];
      const std::string prefix = fmt::format("layers.{}.", i);
      add_norm(prefix + "attention_norm.weight", layer.attention_norm);
      add(prefix + "attention.wq.weight", WeightRole::kWq, f.wqkv, per_device(layer.wqkv, 0));
      add(prefix + "attention.wk.weight", WeightRole::kWk, f.wqkv, per_device(layer.wqkv, q_rows));
      add(prefix + "attention.wv.weight", WeightRole::kWv, f.wv,
          layer.wv.empty() ? per_device(layer.wqkv, q_rows + kv_rows) : per_device(layer.wv, 0));
      add(prefix + "attention.wo.weight", WeightRole::kWo, f.wo, per_device(layer.wo, 0));
      add_norm(prefix + "ffn_norm.weight", layer.ffn_norm);
      add(prefix + "feed_forward.w1.weight", WeightRole::kW1, f.w1, per_device(layer.w1, 0));
      add(prefix + "feed_forward.w3.weight", WeightRole::kW3, f.w3, per_device(layer.w3, 0));
      add(prefix + "feed_forward.w2.weight", WeightRole::kW2, f.w2, per_device(layer.w2, 0));
    }
    if (missing_) return error(ErrorCode::kNotFound, "tensor \"{}\" is missing", *missing_);
    return {};
  }

 private:
  struct Place {
    PackedMatrix* matrix = nullptr;
    std::int64_t first_row = 0;
  };

  // Of device (row, col) within the block.
  using PlaceOf = std::function<Place(std::int64_t row, std::int64_t col)>;

  PlaceOf per_device(ShardedMatrix& matrix, std::int64_t first_row) {
    return [this, &matrix, first_row](std::int64_t row, std::int64_t col) {
      return Place{&matrix[static_cast<std::size_t>(row * w_.block.cols() + col)], first_row};
    };
  }

  bool find(const std::string& name) {
    const TensorInfo* tensor = source_.find(name);
    if (tensor == nullptr) {
      if (!missing_) missing_ = name;
      return false;
    }
    tensors.push_back(tensor);
    return true;
  }

  void add(const std::string& name, WeightRole role, WeightFormat values, const PlaceOf& place_of) {
    if (!find(name)) return;
    std::map<std::int64_t, std::size_t> by_first_row;
    for (std::int64_t row = 0; row < w_.block.rows(); ++row) {
      for (std::int64_t col = 0; col < w_.block.cols(); ++col) {
        const TensorPart part =
            w_.plan.part(role, w_.block.row_begin + row, w_.block.col_begin + col);
        const Place place = place_of(row, col);
        if (place.matrix == nullptr || part.rows() == 0) continue;
        const auto [entry, is_new] = by_first_row.emplace(part.row_begin, list.size());
        if (is_new) list.push_back({tensors.size() - 1, part, {}, nullptr});
        Target& target = list[entry->second];
        target.read.column_begin = std::min(target.read.column_begin, part.column_begin);
        target.read.column_end = std::max(target.read.column_end, part.column_end);
        target.destinations.push_back({place.matrix, place.first_row, part, values});
      }
    }
  }

  void add_norm(const std::string& name, std::vector<float>& to) {
    if (!find(name)) return;
    const TensorPart first = w_.plan.part(WeightRole::kNorm, 0, w_.block.col_begin);
    const TensorPart last = w_.plan.part(WeightRole::kNorm, 0, w_.block.col_end - 1);
    list.push_back({tensors.size() - 1, {0, 1, first.column_begin, last.column_end}, {}, &to});
  }

  const TensorSource& source_;
  LlamaWeights& w_;
  std::optional<std::string> missing_;
};

// Blocks of whole panels, the largest tensors first.
std::vector<RowBlock> cut_into_blocks(const Targets& targets) {
  std::vector<std::size_t> order(targets.list.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto values_of = [&](std::size_t t) {
    const TensorInfo& tensor = *targets.tensors[targets.list[t].tensor];
    return tensor.rows() * tensor.columns();
  };
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(-values_of(a), a) < std::pair(-values_of(b), b);
  });
  std::vector<RowBlock> blocks;
  for (const std::size_t t : order) {
    const TensorPart& read = targets.list[t].read;
    const std::int64_t panels =
        std::max<std::int64_t>(1, kBlockValues / (read.columns() * kPanelWidth));
    const std::int64_t rows = panels * kPanelWidth;
    for (std::int64_t row = read.row_begin; row < read.row_end; row += rows) {
      blocks.push_back({t, row, std::min(rows, read.row_end - row)});
    }
  }
  return blocks;
}

// True if every destination takes the tensor's blocks as they are stored; then they are there.
bool take_stored_blocks(const TensorSource& source, const TensorInfo& tensor, const Target& target,
                        const RowBlock& block) {
  const auto wanted = [](DType stored, WeightFormat packed) {
    return (stored == DType::kQ8_0 && packed == WeightFormat::kInt8) ||
           (stored == DType::kQ4_0 && packed == WeightFormat::kInt4) ||
           (stored == DType::kQ4K && packed == WeightFormat::kQ4K) ||
           (stored == DType::kQ6K && packed == WeightFormat::kQ6K);
  };
  if (target.vector != nullptr) return false;
  const BlockSize size = block_size(tensor.dtype);
  for (const Destination& to : target.destinations) {
    if (!wanted(tensor.dtype, to.matrix->view().format) ||
        to.part.column_begin % size.values != 0 || to.part.column_end % size.values != 0) {
      return false;
    }
  }
  const auto stored = source.stored_blocks(tensor, block.first_row, block.row_count);
  if (stored.empty()) return false;
  const std::int64_t row_bytes = tensor.columns() / size.values * size.bytes;
  for (const Destination& to : target.destinations) {
    to.matrix->set_blocks(to.first_row + block.first_row - to.part.row_begin, block.row_count,
                          stored.data() + to.part.column_begin / size.values * size.bytes,
                          row_bytes);
  }
  return true;
}

Status load_block(const TensorSource& source, const TensorInfo& tensor, const Target& target,
                  const RowBlock& block, std::vector<float>& values) {
  if (take_stored_blocks(source, tensor, target, block)) return {};
  const std::int64_t columns = target.read.columns();
  const std::int64_t first_column = target.read.column_begin;
  values.resize(static_cast<std::size_t>(block.row_count * columns));
  TG_RETURN_IF_ERROR(
      source.read_block(tensor, block.first_row, block.row_count, first_column, columns, values));
  if (target.vector != nullptr) {
    std::copy(values.begin(), values.end(), target.vector->begin() + first_column);
  }
  for (const Destination& to : target.destinations) {
    const WeightFormat format = to.matrix->view().format;
    if (is_k_format(format)) {
      return error(ErrorCode::kUnsupported, "tensor \"{}\": {} cannot be made of {}", tensor.name,
                   name(format), name(tensor.dtype));
    }
    float* const first = values.data() + (to.part.column_begin - first_column);
    // No two devices have the same columns of a row.
    if (is_bfp(to.values) && format == WeightFormat::kBf16) {
      for (std::int64_t r = 0; r < block.row_count; ++r) {
        round_to_bfp({first + r * columns, static_cast<std::size_t>(to.part.columns())},
                     magnitude_bits(to.values));
      }
    }
    to.matrix->set_rows(to.first_row + block.first_row - to.part.row_begin, block.row_count, first,
                        columns);
  }
  return {};
}

}  // namespace

std::vector<PackedMatrix*> LlamaWeights::matrices() {
  std::vector<PackedMatrix*> all;
  const auto add = [&all](std::vector<PackedMatrix>& parts) {
    for (PackedMatrix& part : parts) {
      if (part.bytes() > 0) all.push_back(&part);
    }
  };
  add(embedding);
  add(output);
  for (LayerWeights& layer : layers) {
    for (ShardedMatrix* m : {&layer.wqkv, &layer.wv, &layer.wo, &layer.w1, &layer.w3, &layer.w2}) {
      add(*m);
    }
  }
  return all;
}

std::vector<std::vector<float>*> LlamaWeights::norms() {
  std::vector<std::vector<float>*> all = {&norm};
  for (LayerWeights& layer : layers) {
    all.push_back(&layer.attention_norm);
    all.push_back(&layer.ffn_norm);
  }
  return all;
}

PackedView LlamaWeights::lm_head(std::int64_t row, std::int64_t col) const {
  const auto slot = static_cast<std::size_t>(col - block.col_begin);
  const std::int64_t count = plan.part(WeightRole::kOutput, row, col).rows();
  if (count == 0) return {nullptr, 0, plan.dim(), formats.packed(formats.output), formats.order};
  const std::int64_t stride = plan.vocab_stride();
  if (config.tied_embeddings) return embedding[slot].view().outputs(row * stride, count);
  return output[slot].view().outputs((row - block.row_begin) * stride, count);
}

std::int64_t packed_weight_bytes(const ModelConfig& c, const ShardPlan& plan,
                                 const DeviceBlock& block, const WeightFormats& formats) {
  const auto bytes = [&formats](std::int64_t n, std::int64_t k, WeightFormat format) {
    const PackedView view{nullptr, n, k, formats.packed(format), formats.order};
    return view.panels() * view.panel_bytes();
  };
  const std::int64_t attention_width = plan.heads() * c.head_dim;
  std::int64_t per_device = 0;
  for (const LayerFormats& f : formats.layers) {
    const std::int64_t own_v = f.splits_v() ? plan.kv_heads() * c.head_dim : 0;
    if (own_v > 0) per_device += bytes(own_v, plan.dim(), f.wv);
    per_device += bytes(plan.qkv_width() - own_v, plan.dim(), f.wqkv) +
                  bytes(plan.dim(), attention_width, f.wo) +
                  bytes(plan.ffn_dim(), plan.dim(), f.w1) +
                  bytes(plan.ffn_dim(), plan.dim(), f.w3) + bytes(plan.dim(), plan.ffn_dim(), f.w2);
  }
  std::int64_t per_column = bytes(c.vocab, plan.dim(), formats.embedding);
  if (!c.tied_embeddings) {
    per_column += bytes(plan.part(WeightRole::kOutput, block.row_end - 1, 0).row_end -
                            plan.part(WeightRole::kOutput, block.row_begin, 0).row_begin,
                        plan.dim(), formats.output);
  }
  return block.devices() * per_device + block.cols() * per_column;
}

Result<LlamaWeights> outline_weights(const TensorSource& source, const ShardPlan& plan,
                                     const DeviceBlock& block, WeightsWish wish,
                                     WeightOrder order) {
  return make_weights(source, plan, block, wish, order, make_outline);
}

Result<LlamaWeights> load_weights(const TensorSource& source, const ShardPlan& plan,
                                  const DeviceBlock& block, ThreadTeam& team, WeightsWish wish,
                                  WeightOrder order, const LoadProgress& progress) {
  TG_ASSIGN(LlamaWeights weights,
            make_weights(source, plan, block, wish, order, PackedMatrix::allocate));
  Targets targets(source, weights);
  TG_RETURN_IF_ERROR(targets.fill());
  const std::vector<RowBlock> blocks = cut_into_blocks(targets);

  std::vector<std::atomic<std::int64_t>> blocks_left(targets.tensors.size());
  std::int64_t total = 0;
  for (const RowBlock& b : blocks) {
    const Target& target = targets.list[b.target];
    blocks_left[target.tensor].fetch_add(1, std::memory_order_relaxed);
    total += b.row_count * target.read.columns();
  }

  std::mutex mutex;  // guards done, failure and progress
  std::int64_t done = 0;
  std::optional<Error> failure;
  std::atomic<bool> failed = false;
  std::vector<std::vector<float>> scratch(static_cast<std::size_t>(team.size()));
  const auto load_one = [&](int member, const RowBlock& b) {
    const Target& target = targets.list[b.target];
    const TensorInfo& tensor = *targets.tensors[target.tensor];
    const Status status =
        load_block(source, tensor, target, b, scratch[static_cast<std::size_t>(member)]);
    if (blocks_left[target.tensor].fetch_sub(1) == 1) source.release(tensor);
    const std::lock_guard lock(mutex);
    if (!status) {
      if (!failure) failure = status.error();
      failed = true;
      return;
    }
    done += b.row_count * target.read.columns();
    if (progress) progress(done, total);
  };
  team.for_pieces_by_member(static_cast<std::int64_t>(blocks.size()), 1,
                            [&](int member, std::int64_t begin, std::int64_t end) {
                              for (std::int64_t i = begin; i < end && !failed; ++i) {
                                load_one(member, blocks[static_cast<std::size_t>(i)]);
                              }
                            });
  if (failure) return tl::unexpected<Error>(std::move(*failure));
  return weights;
}

Result<LlamaWeights> load_weights(const TensorSource& source, ThreadTeam& team, WeightOrder order,
                                  const LoadProgress& progress) {
  TG_RETURN_IF_ERROR(check_shape(source.config()));
  TG_ASSIGN(const ShardPlan plan, ShardPlan::make(source.config(), MeshShape{}));
  return load_weights(source, plan, DeviceBlock{}, team, WeightsWish::kBf16, order, progress);
}

}  // namespace tg
