#include "model/llama_forward.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "model/rope.h"

namespace tg {
namespace {

// Work below so many values is done by the caller alone: waking the team costs a few microseconds,
// in which one core handles about this much.
constexpr std::int64_t kSerialValues = 16 * 1024;

// Rows of a sequence in one attention task: enough to share each load of keys and values, few
// enough that a prompt of one user keeps every thread busy.
constexpr std::int64_t kAttentionRows = 32;

// Panels that a matmul piece starts at; kernels take four at once (kernel tables' panels_for).
constexpr std::int64_t kPanelsAtOnce = 4;

std::int64_t bytes_of(ComputeDType dtype) { return dtype == ComputeDType::kBf16 ? 2 : 4; }

std::int64_t qkv_columns(const ModelConfig& c) { return (c.heads + 2 * c.kv_heads) * c.head_dim; }

}  // namespace

std::int64_t LlamaForward::activation_bytes(const ModelConfig& c, const Options& options,
                                            int threads) {
  const std::int64_t element = bytes_of(options.dtype);
  const std::int64_t per_row = c.dim * (4 + element) + qkv_columns(c) * 4 +
                               c.heads * c.head_dim * element + c.ffn_dim * (8 + element) +
                               c.head_dim * 4;
  return options.max_rows * per_row + kHeadRows * (c.dim * element + c.vocab * 4) +
         threads * 4 * attention_scratch_floats(kAttentionRows, c.heads / c.kv_heads, c.head_dim);
}

Result<LlamaForward> LlamaForward::create(const LlamaWeights& weights, const KvCache& kv,
                                          ThreadTeam& team, const Options& options) {
  const ModelConfig& c = weights.config;
  const std::int64_t element = bytes_of(options.dtype);
  LlamaForward f;
  f.weights_ = &weights;
  f.kv_ = &kv;
  f.team_ = &team;
  f.options_ = options;
  f.frequencies_ = rope_frequencies(c);
  // A line more per thread, so that no two share one.
  f.scratch_floats_ =
      attention_scratch_floats(kAttentionRows, c.heads / c.kv_heads, c.head_dim) / 16 * 16 + 16;
  const auto take = [](AlignedBuffer& buffer, std::int64_t bytes) -> Status {
    TG_ASSIGN(buffer, AlignedBuffer::allocate(static_cast<std::size_t>(bytes)));
    return {};
  };
  const std::int64_t rows = options.max_rows;
  TG_RETURN_IF_ERROR(take(f.residual_, rows * c.dim * 4));
  TG_RETURN_IF_ERROR(take(f.normed_, rows * c.dim * element));
  TG_RETURN_IF_ERROR(take(f.qkv_, rows * qkv_columns(c) * 4));
  TG_RETURN_IF_ERROR(take(f.attended_, rows * c.heads * c.head_dim * element));
  TG_RETURN_IF_ERROR(take(f.gate_, rows * c.ffn_dim * 4));
  TG_RETURN_IF_ERROR(take(f.up_, rows * c.ffn_dim * 4));
  TG_RETURN_IF_ERROR(take(f.activated_, rows * c.ffn_dim * element));
  TG_RETURN_IF_ERROR(take(f.cos_, rows * c.head_dim / 2 * 4));
  TG_RETURN_IF_ERROR(take(f.sin_, rows * c.head_dim / 2 * 4));
  TG_RETURN_IF_ERROR(take(f.chosen_, kHeadRows * c.dim * element));
  TG_RETURN_IF_ERROR(take(f.logits_, kHeadRows * c.vocab * 4));
  TG_RETURN_IF_ERROR(take(f.attention_scratch_, team.size() * f.scratch_floats_ * 4));
  return f;
}

void LlamaForward::run(const StepBatch& batch, const HiddenProbe& probe) {
  const ModelConfig& c = weights_->config;
  place_rows(batch);
  auto* x = residual_.as<float>();
  const auto show = [&](std::int64_t stage, const float* rows) {
    if (probe) probe(stage, {rows, static_cast<std::size_t>(rows_ * c.dim)});
  };

  for_rows(rows_, c.dim, [&](std::int64_t row) {
    const std::int64_t s = sequence_of_row_[static_cast<std::size_t>(row)];
    const StepSequence& sequence = sequences_[static_cast<std::size_t>(s)];
    const std::int64_t i = row - first_rows_[static_cast<std::size_t>(s)];
    options_.kernels->embedding(weights_->embedding.view(),
                                sequence.tokens[static_cast<std::size_t>(i)], x + row * c.dim);
    const std::int64_t half = c.head_dim / 2;
    rope_angles(frequencies_, sequence.first_position + i,
                {cos_.as<float>() + row * half, static_cast<std::size_t>(half)},
                {sin_.as<float>() + row * half, static_cast<std::size_t>(half)});
  });
  show(0, x);
  for (std::int64_t i = 0; i < c.layers; ++i) {
    layer(i);
    show(i + 1, x);
  }
  if (probe) {
    std::vector<float> normed(static_cast<std::size_t>(rows_ * c.dim));
    for (std::int64_t row = 0; row < rows_; ++row) {
      options_.kernels->rms_norm(x + row * c.dim, weights_->norm.data(),
                                 static_cast<float>(c.norm_eps), c.dim, ComputeDType::kF32,
                                 normed.data() + row * c.dim);
    }
    show(c.layers + 1, normed.data());
  }
}

// Lists the rows and the attention work, which is the same in every layer.
void LlamaForward::place_rows(const StepBatch& batch) {
  sequences_ = batch.sequences;
  first_rows_.clear();
  sequence_of_row_.clear();
  attention_tasks_.clear();
  rows_ = 0;
  for (std::size_t s = 0; s < sequences_.size(); ++s) {
    const auto count = static_cast<std::int64_t>(sequences_[s].tokens.size());
    first_rows_.push_back(rows_);
    sequence_of_row_.insert(sequence_of_row_.end(), static_cast<std::size_t>(count),
                            static_cast<std::int64_t>(s));
    for (std::int64_t row = 0; row < count; row += kAttentionRows) {
      for (std::int64_t head = 0; head < weights_->config.kv_heads; ++head) {
        attention_tasks_.push_back(
            {static_cast<std::int64_t>(s), head, row, std::min(kAttentionRows, count - row)});
      }
    }
    rows_ += count;
  }
  TG_CHECK(rows_ <= options_.max_rows);
  // Long work first, so that the threads end together; equals in a fixed order.
  const auto cost = [this](const AttentionTask& t) {
    return t.rows *
           (sequences_[static_cast<std::size_t>(t.sequence)].first_position + t.first_row + t.rows);
  };
  std::sort(attention_tasks_.begin(), attention_tasks_.end(),
            [&](const AttentionTask& a, const AttentionTask& b) {
              return std::tuple(-cost(a), a.sequence, a.first_row, a.kv_head) <
                     std::tuple(-cost(b), b.sequence, b.first_row, b.kv_head);
            });
}

void LlamaForward::layer(std::int64_t index) {
  const ModelConfig& c = weights_->config;
  const LayerWeights& w = weights_->layers[static_cast<std::size_t>(index)];
  const KvLayer& kv = kv_->layer(index);
  auto* x = residual_.as<float>();

  rms_norm(x, w.attention_norm, rows_, normed_.data());
  matmul(normed_.data(), c.dim, rows_, w.wqkv.view(), qkv_.as<float>(), false);
  rope_and_store(kv);
  attention(kv);
  matmul(attended_.data(), c.heads * c.head_dim, rows_, w.wo.view(), x, true);

  rms_norm(x, w.ffn_norm, rows_, normed_.data());
  gated_feed_forward(w);
  matmul(activated_.data(), c.ffn_dim, rows_, w.w2.view(), x, true);
}

std::span<float> LlamaForward::head(std::span<const std::int64_t> rows) {
  const ModelConfig& c = weights_->config;
  const auto count = static_cast<std::int64_t>(rows.size());
  TG_CHECK(count <= kHeadRows);
  for (std::int64_t i = 0; i < count; ++i) {
    options_.kernels->rms_norm(residual_.as<float>() + rows[static_cast<std::size_t>(i)] * c.dim,
                               weights_->norm.data(), static_cast<float>(c.norm_eps), c.dim,
                               options_.dtype, element(chosen_, i * c.dim));
  }
  matmul(chosen_.data(), c.dim, count, weights_->lm_head(), logits_.as<float>(), false);
  return {logits_.as<float>(), static_cast<std::size_t>(count * c.vocab)};
}

void LlamaForward::rms_norm(const float* x, std::span<const float> weight, std::int64_t rows,
                            void* out) {
  const auto dim = static_cast<std::int64_t>(weight.size());
  const auto eps = static_cast<float>(weights_->config.norm_eps);
  const std::int64_t stride = dim * bytes_of(options_.dtype);
  for_rows(rows, dim, [&](std::int64_t row) {
    options_.kernels->rms_norm(x + row * dim, weight.data(), eps, dim, options_.dtype,
                               static_cast<std::byte*>(out) + row * stride);
  });
}

// y [rows, w.n] = x [rows, columns] w^T, or += with `add`.
void LlamaForward::matmul(const void* x, std::int64_t columns, std::int64_t rows, PackedView w,
                          float* y, bool add) {
  TG_CHECK(columns == w.k);
  const MatmulArgs args{.x = x, .ldx = columns, .m = rows, .w = w, .y = y, .ldy = w.n, .add = add};
  team_->for_pieces(w.panels(), panel_grain(w.panels()),
                    [&](std::int64_t begin, std::int64_t end) { matmul_piece(args, begin, end); });
}

void LlamaForward::matmul_piece(const MatmulArgs& args, std::int64_t panel_begin,
                                std::int64_t panel_end) {
  if (options_.dtype == ComputeDType::kBf16) {
    options_.kernels->matmul_bf16(args, panel_begin, panel_end);
  } else {
    options_.kernels->matmul_f32(args, panel_begin, panel_end);
  }
}

// Turns the q and k heads of each row by its position and puts k and v into its page.
void LlamaForward::rope_and_store(const KvLayer& kv) {
  const ModelConfig& c = weights_->config;
  const std::int64_t half = c.head_dim / 2;
  for_rows(rows_, qkv_columns(c), [&](std::int64_t row) {
    const std::int64_t s = sequence_of_row_[static_cast<std::size_t>(row)];
    const StepSequence& sequence = sequences_[static_cast<std::size_t>(s)];
    const std::int64_t position =
        sequence.first_position + row - first_rows_[static_cast<std::size_t>(s)];
    float* q = qkv_.as<float>() + row * qkv_columns(c);
    float* k = q + c.heads * c.head_dim;
    const float* v = k + c.kv_heads * c.head_dim;
    options_.kernels->rope(q, c.heads + c.kv_heads, c.head_dim, cos_.as<float>() + row * half,
                           sin_.as<float>() + row * half);
    const PageId page = sequence.pages[static_cast<std::size_t>(position / kv.block)];
    for (std::int64_t head = 0; head < c.kv_heads; ++head) {
      options_.kernels->store_kv(kv, page, head, position % kv.block, k + head * c.head_dim,
                                 v + head * c.head_dim);
    }
  });
}

// Needs all keys and values of the step in their pages.
void LlamaForward::attention(const KvLayer& kv) {
  const ModelConfig& c = weights_->config;
  const std::int64_t group = c.heads / c.kv_heads;
  const std::int64_t out_columns = c.heads * c.head_dim;
  team_->for_pieces_by_member(
      static_cast<std::int64_t>(attention_tasks_.size()), 1,
      [&](int member, std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const AttentionTask& task = attention_tasks_[static_cast<std::size_t>(i)];
          const StepSequence& sequence = sequences_[static_cast<std::size_t>(task.sequence)];
          const std::int64_t row =
              first_rows_[static_cast<std::size_t>(task.sequence)] + task.first_row;
          const std::int64_t head_column = task.kv_head * group * c.head_dim;
          AttentionArgs args;
          args.q = qkv_.as<float>() + row * qkv_columns(c) + head_column;
          args.q_stride = qkv_columns(c);
          args.rows = task.rows;
          args.group = group;
          args.first_position = sequence.first_position + task.first_row;
          args.kv = kv;
          args.kv_head = task.kv_head;
          args.pages = sequence.pages.data();
          args.scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
          args.out = element(attended_, row * out_columns + head_column);
          args.out_stride = out_columns;
          args.scratch = attention_scratch_.as<float>() + member * scratch_floats_;
          options_.kernels->attention(args);
        }
      });
}

// activated = silu(normed w1^T) * (normed w3^T): a thread does both products of its panels and at
// once the rest of these columns.
void LlamaForward::gated_feed_forward(const LayerWeights& w) {
  const ModelConfig& c = weights_->config;
  MatmulArgs gate{.x = normed_.data(), .ldx = c.dim, .m = rows_, .w = w.w1.view()};
  gate.y = gate_.as<float>();
  gate.ldy = c.ffn_dim;
  MatmulArgs up = gate;
  up.w = w.w3.view();
  up.y = up_.as<float>();
  const std::int64_t panels = gate.w.panels();
  team_->for_pieces(panels, panel_grain(panels), [&](std::int64_t begin, std::int64_t end) {
    matmul_piece(gate, begin, end);
    matmul_piece(up, begin, end);
    const std::int64_t column = begin * kPanelWidth;
    const std::int64_t columns = std::min(end * kPanelWidth, c.ffn_dim) - column;
    for (std::int64_t row = 0; row < rows_; ++row) {
      const std::int64_t at = row * c.ffn_dim + column;
      options_.kernels->swiglu(gate.y + at, up.y + at, columns, options_.dtype,
                               element(activated_, at));
    }
  });
}

// f(row) for every row, on the team if that is worth waking it.
template <typename F>
void LlamaForward::for_rows(std::int64_t rows, std::int64_t values_per_row, const F& f) {
  const std::int64_t threads = team_->size();
  const bool alone = rows * values_per_row <= kSerialValues;
  const std::int64_t grain =
      alone ? std::max<std::int64_t>(rows, 1) : (rows + 4 * threads - 1) / (4 * threads);
  team_->for_pieces(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) f(row);
  });
}

// Pieces small enough that a thread whose core is taken away for a moment does not hold up the
// others for long, large enough that each is a long run of memory.
std::int64_t LlamaForward::panel_grain(std::int64_t panels) const {
  const std::int64_t grain = panels / (8 * team_->size());
  return std::max(kPanelsAtOnce, grain / kPanelsAtOnce * kPanelsAtOnce);
}

std::byte* LlamaForward::element(AlignedBuffer& buffer, std::int64_t index) const {
  return buffer.data() + index * bytes_of(options_.dtype);
}

}  // namespace tg
