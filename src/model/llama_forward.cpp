#include "model/llama_forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "model/rope.h"

namespace tg {
namespace {

// Work below so many values is done by the caller alone: waking the team costs a few microseconds,
// in which one core handles about this much.
constexpr std::int64_t kSerialValues = 16 * 1024;

std::int64_t bytes_of(ComputeDType dtype) { return dtype == ComputeDType::kBf16 ? 2 : 4; }

// Of a thread, for products on tiles.
std::int64_t product_scratch_bytes(InputForm inputs) {
  return inputs == InputForm::kTiles ? kTileScratchFloats * 4 : 0;
}

// Room for the spans of one user with the longest context: with more users there are enough tasks
// for all threads. One thread needs none.
AttentionDivision attention_division(const ModelConfig& c, std::int64_t kv_heads, int threads) {
  const std::int64_t group = c.heads / c.kv_heads;
  const std::int64_t spans = attention_spans(std::max<std::int64_t>(0, c.max_context - 1));
  return {threads, group, threads == 1 ? 0 : kv_heads * group * spans};
}

}  // namespace

// Widths of the activations on a process, and how many tokens each holds.
struct LlamaForward::Sizes {
  std::int64_t dim = 0;
  std::int64_t cols = 0;
  std::int64_t qkv = 0;
  std::int64_t attended = 0;
  std::int64_t ffn = 0;
  std::int64_t vocab = 0;
  std::int64_t half_head = 0;
  std::int64_t summands = 0;  // floats
  std::int64_t shares = 0;    // of prepared inputs, and the most groups of one
  std::int64_t groups = 0;

  Sizes(const ModelConfig& c, const ShardPlan& plan, const DeviceBlock& block,
        std::int64_t tokens) {
    const MeshShape& mesh = plan.mesh();
    dim = c.dim;
    cols = mesh.cols;
    qkv = block.rows() * plan.qkv_width();
    attended = block.rows() * plan.heads() * c.head_dim;
    ffn = block.rows() * plan.ffn_dim();
    vocab = plan.padded_vocab();
    half_head = c.head_dim / 2;
    if (mesh.cols > 1) {
      const std::int64_t head = block.rows() * plan.vocab_stride();
      summands = block.cols() * std::max({tokens * qkv, 2 * tokens * ffn, kHeadRows * head});
    }
    if (mesh.rows > 1) summands = std::max(summands, block.rows() * tokens * dim);
    shares = std::max(block.rows(), block.cols());
    const std::int64_t widest = std::max({plan.dim(), plan.heads() * c.head_dim, plan.ffn_dim()});
    groups = (widest + kGroup - 1) / kGroup;
  }

  // Bytes of each buffer, in the order of buffers_.
  std::array<std::int64_t, 11> bytes(std::int64_t tokens, std::int64_t element) const {
    // head() norms its rows, which may be more asks than a step has rows.
    const std::int64_t normed = std::max(tokens, kHeadRows);
    return {tokens * dim * 4,
            normed * cols * 4,
            normed * dim * element,
            tokens * qkv * 4,
            tokens * attended * element,
            tokens * ffn * 4,
            tokens * ffn * 4,
            tokens * ffn * element,
            kHeadRows * dim * 4,
            kHeadRows * vocab * 4,
            summands * 4};
  }
};

std::int64_t LlamaForward::activation_bytes(const ModelConfig& c, const ShardPlan& plan,
                                            const DeviceBlock& block, const Options& options,
                                            int threads) {
  const Sizes sizes(c, plan, block, options.max_rows);
  std::int64_t total =
      2 * options.max_rows * sizes.half_head * 4 +
      threads * 4 * attention_scratch_floats(kAttentionRows, c.heads / c.kv_heads, c.head_dim) +
      attention_division(c, block.rows() * plan.kv_heads(), threads).states * 4 *
          attention_partial_floats(c.head_dim);
  for (const std::int64_t bytes : sizes.bytes(options.max_rows, bytes_of(options.dtype))) {
    total += bytes;
  }
  return total +
         PreparedInputs::bytes(options.inputs, std::max(options.max_rows, kHeadRows), sizes.shares,
                               sizes.groups) +
         threads * product_scratch_bytes(options.inputs);
}

Result<LlamaForward> LlamaForward::create(const LlamaWeights& weights, std::span<const KvCache> kv,
                                          Mesh& mesh, const Options& options) {
  const ModelConfig& c = weights.config;
  const ComputeDType element = options.dtype;
  LlamaForward f;
  f.weights_ = &weights;
  f.kv_ = kv;
  f.mesh_ = &mesh;
  f.options_ = options;
  TG_ASSIGN(f.product_scratch_, AlignedBuffer::allocate(static_cast<std::size_t>(
                                    mesh.team().size() * product_scratch_bytes(options.inputs))));
  f.products_ = MeshProducts(*options.kernels, element, mesh, f.product_scratch_.as<float>());
  f.list_views();
  const int threads = mesh.team().size();
  const std::int64_t kv_heads = mesh.block().rows() * weights.plan.kv_heads();
  const AttentionDivision division = attention_division(c, kv_heads, threads);
  f.rows_ = RowPlan(mesh.shape().cols, mesh.block().cols(), mesh.block(), kv_heads, division);
  f.parts_left_ = std::make_unique<std::atomic<std::int64_t>[]>(
      static_cast<std::size_t>(RowPlan::kDivisions * threads));
  f.frequencies_ = rope_frequencies(c);

  const Sizes sizes(c, weights.plan, mesh.block(), options.max_rows);
  const auto bytes = sizes.bytes(options.max_rows, bytes_of(element));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    TG_ASSIGN(f.buffers_[i], AlignedBuffer::allocate(static_cast<std::size_t>(bytes[i])));
  }
  TG_ASSIGN(f.prepared_,
            PreparedInputs::allocate(options.inputs, std::max(options.max_rows, kHeadRows),
                                     sizes.shares, sizes.groups));
  std::size_t next = 0;
  const auto make = [&](const char* name, ComputeDType dtype, std::int64_t width, Placement rows,
                        Placement cols) {
    MeshTensor t;
    t.name = name;
    t.data = f.buffers_[next++].data();
    t.dtype = dtype;
    t.width = width;
    t.rows = rows;
    t.cols = cols;
    return t;
  };
  constexpr ComputeDType kF32 = ComputeDType::kF32;
  f.residual_ = make("residual", kF32, sizes.dim, kReplicate, kShardFeatures);
  f.statistics_ = make("statistics", kF32, sizes.cols, kReplicate, kShardFeatures);
  f.normed_ = make("normed", element, sizes.dim, kReplicate, kShardFeatures);
  f.qkv_ = make("qkv", kF32, sizes.qkv, kShardFeatures, kReplicate);
  f.attended_ = make("attended", element, sizes.attended, kShardFeatures, kShardTokens);
  f.gate_ = make("gate", kF32, sizes.ffn, kShardFeatures, kShardFeatures);
  f.up_ = make("up", kF32, sizes.ffn, kShardFeatures, kShardFeatures);
  f.activated_ = make("activated", element, sizes.ffn, kShardFeatures, kShardFeatures);
  f.chosen_ = make("chosen", kF32, sizes.dim, kReplicate, kShardFeatures);
  f.logits_ = make("logits", kF32, sizes.vocab, kShardFeatures, kReplicate);
  f.summands_ = make("summands", kF32, 0, kReplicate, kReplicate);

  const auto take = [](AlignedBuffer& buffer, std::int64_t size) -> Status {
    TG_ASSIGN(buffer, AlignedBuffer::allocate(static_cast<std::size_t>(size)));
    return {};
  };
  TG_RETURN_IF_ERROR(take(f.cos_, options.max_rows * sizes.half_head * 4));
  TG_RETURN_IF_ERROR(take(f.sin_, options.max_rows * sizes.half_head * 4));
  if (mesh.block().rows() < mesh.shape().rows) {
    const std::int64_t ids = mesh.block().rows() * weights.plan.vocab_stride();
    TG_RETURN_IF_ERROR(take(f.mine_logits_, kHeadRows * ids * 4));
  }
  // A line more per thread, so that no two share one.
  f.scratch_floats_ =
      attention_scratch_floats(kAttentionRows, c.heads / c.kv_heads, c.head_dim) / 16 * 16 + 16;
  TG_RETURN_IF_ERROR(take(f.attention_scratch_, threads * f.scratch_floats_ * 4));
  TG_RETURN_IF_ERROR(
      take(f.span_states_, division.states * 4 * attention_partial_floats(c.head_dim)));
  return f;
}

// What the products of a step read, once for all steps.
void LlamaForward::list_views() {
  for (const LayerWeights& w : weights_->layers) {
    layers_.push_back({MeshProducts::views(w.wqkv), MeshProducts::views(w.wv),
                       MeshProducts::views(w.wo), MeshProducts::views(w.w1),
                       MeshProducts::views(w.w3), MeshProducts::views(w.w2)});
  }
  const DeviceBlock& block = mesh_->block();
  for (std::int64_t row = block.row_begin; row < block.row_end; ++row) {
    for (std::int64_t col = block.col_begin; col < block.col_end; ++col) {
      head_.push_back(weights_->lm_head(row, col));
    }
  }
}

void LlamaForward::run(const StepBatch& batch, const HiddenProbe& probe) {
  rows_.make(batch.sequences);
  TG_CHECK(rows_.size() <= options_.max_rows);
  set_tokens(rows_.size());
  embed();
  mark("EMBED", "look-up");
  show(probe, 0);
  // A probe wants to see all rows to the end.
  kept_.clear();
  if (!probe) mark_asked_rows(batch);
  for (std::int64_t i = 0; i < weights_->config.layers; ++i) {
    layer(i);
    show(probe, i + 1);
  }
  show(probe, weights_->config.layers + 1);
}

void LlamaForward::set_tokens(std::int64_t tokens) {
  for (MeshTensor* t :
       {&residual_, &statistics_, &normed_, &qkv_, &attended_, &gate_, &up_, &activated_}) {
    t->tokens = tokens;
  }
}

// Each column of the mesh looks up its part of the hidden values.
void LlamaForward::embed() {
  const std::int64_t half = weights_->config.head_dim / 2;
  const std::int64_t part = weights_->plan.dim();
  for_rows(residual_.tokens, weights_->config.dim, [&](std::int64_t i) {
    const PlannedRow& row = rows_.row(i);
    for (std::size_t col = 0; col < weights_->embedding.size(); ++col) {
      const std::int64_t first = part * (mesh_->block().col_begin + static_cast<std::int64_t>(col));
      options_.kernels->embedding(weights_->embedding[col].view(), row.token,
                                  residual_.f32(i, first));
    }
    rope_angles(frequencies_, row.position,
                {cos_.as<float>() + i * half, static_cast<std::size_t>(half)},
                {sin_.as<float>() + i * half, static_cast<std::size_t>(half)});
  });
}

// kept_: 0 for each planned row whose logits are asked for, -1 for the others.
void LlamaForward::mark_asked_rows(const StepBatch& batch) {
  kept_.assign(static_cast<std::size_t>(rows_.size()), -1);
  std::int64_t first = 0;
  for (const StepSequence& s : batch.sequences) {
    for (const RowAsk& ask : s.asks) {
      kept_[static_cast<std::size_t>(rows_.place_of(first + ask.row))] = 0;
    }
    first += static_cast<std::int64_t>(s.tokens.size());
  }
}

// Behind the last layer's attention nobody looks at the other rows again: those that were asked for
// move together, and kept_ says where each is. A row's bits do not depend on its company.
void LlamaForward::drop_other_rows() {
  if (kept_.empty()) return;
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < residual_.tokens; ++i) {
    auto& place = kept_[static_cast<std::size_t>(i)];
    if (place < 0) continue;
    place = count++;
    if (place < i) std::copy_n(residual_.f32(i, 0), residual_.width, residual_.f32(place, 0));
  }
  set_tokens(count);
}

void LlamaForward::layer(std::int64_t index) {
  const LayerWeights& w = weights_->layers[static_cast<std::size_t>(index)];
  const LayerViews& views = layers_[static_cast<std::size_t>(index)];
  mesh_->set_layer(index);

  rms_norm(residual_, w.attention_norm, normed_);
  const ShardPlan& plan = weights_->plan;
  const std::int64_t first_v = (plan.heads() + plan.kv_heads()) * weights_->config.head_dim;
  project(normed_, {{{views.wqkv, 0}, {views.wv, first_v}}}, Axis::kCols, Use::kQkv, qkv_, false);
  rope_and_store(index);
  mark("SDPA", "rope and K/V");
  attention(index);
  mark("SDPA", "attention");
  mesh_->all_gather(attended_, Axis::kCols, Use::kSdpa);
  mark("SDPA", "all-gather");
  project(attended_, {{{views.wo, 0}}}, Axis::kRows, Use::kWo, residual_, true);
  if (index + 1 == weights_->config.layers) drop_other_rows();
  if (residual_.tokens == 0) return;

  rms_norm(residual_, w.ffn_norm, normed_);
  gated_feed_forward(views);
  project(activated_, {{{views.w2, 0}}}, Axis::kRows, Use::kFf2, residual_, true);
}

void LlamaForward::head(std::span<const std::int64_t> rows) {
  const ModelConfig& c = weights_->config;
  const auto count = static_cast<std::int64_t>(rows.size());
  TG_CHECK(count <= kHeadRows);
  mesh_->set_layer(-1);
  chosen_.tokens = count;
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t place = rows_.place_of(rows[static_cast<std::size_t>(i)]);
    if (!kept_.empty()) place = kept_[static_cast<std::size_t>(place)];
    TG_CHECK(place >= 0);
    std::copy_n(residual_.f32(place, 0), c.dim, chosen_.f32(i, 0));
  }
  normed_.tokens = count;
  statistics_.tokens = count;
  logits_.tokens = count;
  rms_norm(chosen_, weights_->norm, normed_);

  mine_ = logits_;
  mine_.rows = kShardFeatures;
  mine_.cols = kReplicate;
  mine_.width = mesh_->block().rows() * shard_ids();
  if (mine_.width < logits_.width) mine_.data = mine_logits_.data();
  prepare_for(head_, normed_, Axis::kCols);
  if (mesh_->length(Axis::kCols) == 1) {
    multiply(normed_, {{{head_, 0}}}, Axis::kCols, mine_, false);
    mark("SAMPLING", "LM head");
  } else {
    MeshTensor partial = summands_of(mine_, Axis::kCols);
    multiply(normed_, {{{head_, 0}}}, Axis::kCols, partial, false);
    mark("SAMPLING", "LM head");
    mesh_->all_reduce(partial, Axis::kCols, Use::kSampling, mine_);
    mark("SAMPLING", "all-reduce");
  }
}

std::span<float> LlamaForward::shard_logits(std::int64_t i, std::int64_t shard) {
  const std::int64_t first = shard * shard_ids();
  const std::int64_t ids = std::clamp<std::int64_t>(weights_->config.vocab - first, 0, shard_ids());
  return {mine_.f32(i, first - mesh_->block().row_begin * shard_ids()),
          static_cast<std::size_t>(ids)};
}

std::span<float> LlamaForward::whole_logits(std::span<const std::int64_t> picked) {
  const std::int64_t own = mesh_->block().row_begin * shard_ids();
  logits_.tokens = static_cast<std::int64_t>(picked.size());
  for (std::int64_t i = 0; i < logits_.tokens; ++i) {
    // Picked rows only move down, onto rows that were moved or are not picked.
    const float* from = mine_.f32(picked[static_cast<std::size_t>(i)], 0);
    float* to = logits_.f32(i, own);
    if (from != to) std::copy_n(from, mine_.width, to);
  }
  logits_.rows = kShardFeatures;
  logits_.cols = kReplicate;
  mesh_->all_gather(logits_, Axis::kRows, Use::kSampling);
  mark("SAMPLING", "all-gather");
  return {logits_.f32(0, 0), static_cast<std::size_t>(logits_.tokens * logits_.width)};
}

// Of rows that lie over several devices, each gives its part of the sum of squares.
void LlamaForward::rms_norm(MeshTensor& x, std::span<const float> weight, MeshTensor& out) {
  const ModelConfig& c = weights_->config;
  const KernelTable& kernels = *options_.kernels;
  const auto eps = static_cast<float>(c.norm_eps);
  expect_placement(x, kReplicate, kShardFeatures);
  if (mesh_->length(Axis::kCols) == 1) {
    for_rows(x.tokens, c.dim, [&](std::int64_t i) {
      kernels.rms_norm(x.f32(i, 0), weight.data(), eps, c.dim, out.dtype, out.at(i, 0));
    });
    mark("LAYERNORM", "norm");
    return;
  }
  const DeviceBlock& block = mesh_->block();
  const std::int64_t part = weights_->plan.dim();
  for_rows(x.tokens, c.dim, [&](std::int64_t i) {
    for (std::int64_t col = block.col_begin; col < block.col_end; ++col) {
      *statistics_.f32(i, col) = kernels.sum_of_squares(x.f32(i, col * part), part);
    }
  });
  statistics_.cols = kShardFeatures;
  mark("LAYERNORM", "norm");
  mesh_->all_gather(statistics_, Axis::kCols, Use::kLayerNorm);
  mark("LAYERNORM", "all-gather");
  for_rows(x.tokens, c.dim, [&](std::int64_t i) {
    double sum = 0.0;
    for (std::int64_t col = 0; col < mesh_->shape().cols; ++col) {
      sum += static_cast<double>(*statistics_.f32(i, col));
    }
    const double mean = sum / static_cast<double>(c.dim);
    const auto factor = static_cast<float>(1.0 / std::sqrt(mean + c.norm_eps));
    const std::int64_t first = block.col_begin * part;
    kernels.scale(x.f32(i, first), weight.data() + first, factor, block.cols() * part, out.dtype,
                  out.at(i, first));
  });
  mark("LAYERNORM", "norm");
}

// A tensor like `t` with a summand for each device along the axis, in the memory for them.
MeshTensor LlamaForward::summands_of(const MeshTensor& t, Axis axis) const {
  MeshTensor partial = t;
  partial.name = "summands";
  partial.data = summands_.data;
  partial.slice = t.tokens * t.width;
  partial.place(axis, kPartial);
  return partial;
}

// Puts x in the form that the weights take it in.
void LlamaForward::prepare_for(std::span<const PackedView> weights, const MeshTensor& x,
                               Axis reduced) {
  if (!MeshProducts::need_preparing(weights)) return;
  prepared_.make(*mesh_, *options_.kernels, x, reduced);
}

// One product of each device.
void LlamaForward::multiply(const MeshTensor& x, const Factors& w, Axis reduced,
                            const MeshTensor& y, bool add) {
  first_.clear();
  for (const Factor& factor : w) {
    if (factor.w.empty()) continue;
    const std::size_t before = first_.size();
    MeshProducts::add_devices(*mesh_, x, prepared_, factor.w, reduced, y, add, first_);
    for (std::size_t i = before; i < first_.size(); ++i) first_[i].y += factor.first_output;
  }
  products_.run(first_);
}

// y = x w^T, or += with `add`: the devices along `reduced` each have a summand of it.
void LlamaForward::project(const MeshTensor& x, const Factors& w, Axis reduced, Use use,
                           MeshTensor& y, bool add) {
  prepare_for(w[0].w, x, reduced);
  if (mesh_->length(reduced) == 1) {
    multiply(x, w, reduced, y, add);
    mark(name(use), "product");
    return;
  }
  const MeshTensor partial = summands_of(y, reduced);
  multiply(x, w, reduced, partial, false);
  mark(name(use), "product");
  mesh_->all_reduce(partial, reduced, use, y, add);
  mark(name(use), "all-reduce");
}

// Turns the q and k heads of each row by its position; k and v go into the pages of the column that
// keeps the sequence, if that is here.
void LlamaForward::rope_and_store(std::int64_t layer) {
  const ModelConfig& c = weights_->config;
  const ShardPlan& plan = weights_->plan;
  const DeviceBlock& block = mesh_->block();
  const std::int64_t half = c.head_dim / 2;
  expect_placement(qkv_, kShardFeatures, kReplicate);
  for_rows(qkv_.tokens, qkv_.width, [&](std::int64_t i) {
    const PlannedRow& row = rows_.row(i);
    const StepSequence& sequence = rows_.sequences()[static_cast<std::size_t>(row.sequence)];
    const std::int64_t slot = sequence.kv_domain - block.col_begin;
    const bool keeps = slot >= 0 && slot < block.cols();
    for (std::int64_t device = 0; device < block.rows(); ++device) {
      float* q = qkv_.f32(i, device * plan.qkv_width());
      float* k = q + plan.heads() * c.head_dim;
      const float* v = k + plan.kv_heads() * c.head_dim;
      options_.kernels->rope(q, plan.heads() + plan.kv_heads(), c.head_dim,
                             cos_.as<float>() + i * half, sin_.as<float>() + i * half);
      if (!keeps) continue;
      const KvLayer& kv = kv_[static_cast<std::size_t>(slot)].layer(layer);
      const PageId page = sequence.pages[static_cast<std::size_t>(row.position / kv.block)];
      for (std::int64_t head = 0; head < plan.kv_heads(); ++head) {
        options_.kernels->store_kv(kv, page, device * plan.kv_heads() + head,
                                   row.position % kv.block, k + head * c.head_dim,
                                   v + head * c.head_dim);
      }
    }
  });
}

// Needs all keys and values of the step in their pages. Each column attends for its rows. Of a
// context in parts, whoever does the last part merges them all.
void LlamaForward::attention(std::int64_t layer) {
  const ModelConfig& c = weights_->config;
  const ShardPlan& plan = weights_->plan;
  const std::int64_t group = c.heads / c.kv_heads;
  const std::span<const AttentionTask> tasks = rows_.attention_tasks();
  const std::span<const std::int64_t> parts = rows_.parts_of_divided();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts_left_[i].store(parts[i], std::memory_order_relaxed);
  }
  mesh_->team().for_pieces_by_member(
      static_cast<std::int64_t>(tasks.size()), 1,
      [&](int member, std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const AttentionTask& task = tasks[static_cast<std::size_t>(i)];
          const StepSequence& sequence = rows_.sequences()[static_cast<std::size_t>(task.sequence)];
          const auto slot = static_cast<std::size_t>(sequence.kv_domain - mesh_->block().col_begin);
          const std::int64_t device = task.kv_head / plan.kv_heads();
          const std::int64_t head = task.kv_head % plan.kv_heads() * group * c.head_dim;
          AttentionArgs args;
          args.q = qkv_.f32(task.first_row, device * plan.qkv_width() + head);
          args.q_stride = qkv_.width;
          args.rows = task.rows;
          args.group = group;
          args.first_position = rows_.row(task.first_row).position;
          args.kv = kv_[slot].layer(layer);
          args.kv_head = task.kv_head;
          args.pages = sequence.pages.data();
          args.scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
          args.out = attended_.at(task.first_row, device * plan.heads() * c.head_dim + head);
          args.out_stride = attended_.width;
          args.scratch = attention_scratch_.as<float>() + member * scratch_floats_;
          if (task.divided >= 0) {
            args.partials =
                span_states_.as<float>() + task.first_state * attention_partial_floats(c.head_dim);
            args.spans = attention_spans(args.first_position + task.rows - 1);
            args.span_begin = task.span_begin;
            args.span_end = task.span_end;
          }
          options_.kernels->attention(args);
          if (task.divided < 0) continue;
          auto& left = parts_left_[static_cast<std::size_t>(task.divided)];
          if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            options_.kernels->merge_attention(args);
          }
        }
      });
  attended_.cols = kShardTokens;
  attended_.token_cuts = rows_.column_cuts();
}

// activated = silu(normed w1^T) * (normed w3^T), on every column of the mesh.
void LlamaForward::gated_feed_forward(const LayerViews& w) {
  prepare_for(MeshProducts::need_preparing(w.w1) ? w.w1 : w.w3, normed_, Axis::kCols);
  first_.clear();
  second_.clear();
  if (mesh_->length(Axis::kCols) == 1) {
    // A thread does both products of its panels and at once the rest of these columns.
    gate_.cols = up_.cols = kReplicate;
    MeshProducts::add_devices(*mesh_, normed_, prepared_, w.w1, Axis::kCols, gate_, false, first_);
    MeshProducts::add_devices(*mesh_, normed_, prepared_, w.w3, Axis::kCols, up_, false, second_);
    const std::int64_t width = weights_->plan.ffn_dim();
    products_.for_panels(
        mesh_->block().devices(), first_[0].w.panels(),
        [&](int member, std::int64_t device, std::int64_t first, std::int64_t last) {
          const auto d = static_cast<std::size_t>(device);
          products_.run_panels(member, first_[d], first, last);
          products_.run_panels(member, second_[d], first, last);
          const std::int64_t begin = device * width + first * kPanelWidth;
          const std::int64_t end = device * width + std::min(last * kPanelWidth, width);
          for (std::int64_t i = 0; i < normed_.tokens; ++i) swiglu(gate_, up_, i, begin, end);
        });
    activated_.cols = kReplicate;
    mark("FF1+FF3", "product, SwiGLU");
    return;
  }
  MeshTensor gate = summands_of(gate_, Axis::kCols);
  MeshTensor up = summands_of(up_, Axis::kCols);
  up.data = gate.data + mesh_->block().cols() * gate.slice * 4;
  MeshProducts::add_devices(*mesh_, normed_, prepared_, w.w1, Axis::kCols, gate, false, first_);
  MeshProducts::add_devices(*mesh_, normed_, prepared_, w.w3, Axis::kCols, up, false, first_);
  products_.run(first_);
  mark("FF1+FF3", "product");
  mesh_->reduce_scatter(gate, Axis::kCols, Use::kFf1, gate_);
  mark("FF1", "reduce-scatter");
  mesh_->reduce_scatter(up, Axis::kCols, Use::kFf3, up_);
  mark("FF3", "reduce-scatter");
  const DeviceBlock& block = mesh_->block();
  const std::int64_t width = weights_->plan.ffn_dim();
  const std::int64_t cols = mesh_->shape().cols;
  for_rows(gate_.tokens, gate_.width, [&](std::int64_t i) {
    for (std::int64_t row = 0; row < block.rows(); ++row) {
      swiglu(gate_, up_, i, row * width + width * block.col_begin / cols,
             row * width + width * block.col_end / cols);
    }
  });
  mark("FF1+FF3", "SwiGLU");
  activated_.cols = kShardFeatures;
  mesh_->all_gather(activated_, Axis::kCols, Use::kFf3);
  mark("FF3", "all-gather");
}

void LlamaForward::swiglu(const MeshTensor& gate, const MeshTensor& up, std::int64_t token,
                          std::int64_t begin, std::int64_t end) {
  options_.kernels->swiglu(gate.f32(token, begin), up.f32(token, begin), end - begin,
                           activated_.dtype, activated_.at(token, begin));
}

void LlamaForward::show(const HiddenProbe& probe, std::int64_t stage) {
  if (!probe) return;
  const ModelConfig& c = weights_->config;
  std::vector<float> rows(static_cast<std::size_t>(rows_.size() * c.dim));
  for (std::int64_t i = 0; i < rows_.size(); ++i) {
    const float* row = residual_.f32(rows_.place_of(i), 0);
    float* to = rows.data() + i * c.dim;
    if (stage <= c.layers) {
      std::copy_n(row, c.dim, to);
    } else {
      options_.kernels->rms_norm(row, weights_->norm.data(), static_cast<float>(c.norm_eps), c.dim,
                                 ComputeDType::kF32, to);
    }
  }
  probe(stage, rows);
}

// f(row) for every row, on the team if that is worth waking it.
template <typename F>
void LlamaForward::for_rows(std::int64_t rows, std::int64_t values_per_row, const F& f) {
  const std::int64_t threads = mesh_->team().size();
  const bool alone = rows * values_per_row <= kSerialValues;
  const std::int64_t grain =
      alone ? std::max<std::int64_t>(rows, 1) : (rows + 4 * threads - 1) / (4 * threads);
  mesh_->team().for_pieces(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) f(row);
  });
}

}  // namespace tg
