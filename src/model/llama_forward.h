// What: the layers of a Llama model over the rows of one step, on the devices of this process: from
//   token ids to the residual stream, and from chosen rows of it to logits. Reads like the paper,
//   with the collectives where a mesh needs them; how products are spread over devices and threads
//   is in mesh_products.h, which rows are where in row_plan.h.
// Who owns: the runner. It owns the activations; weights, KV caches and mesh are borrowed.
// Thread: one caller at a time; it works on all members of the mesh's team.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/kernel_table.h"
#include "mesh/mesh.h"
#include "model/kv_cache.h"
#include "model/llama_weights.h"
#include "model/mesh_products.h"
#include "model/model_runner.h"
#include "model/op_times.h"
#include "model/row_plan.h"

namespace tg {

// Called with [rows, dim] f32 in the order of the batch: stage 0 is the embedding, stage i + 1 the
// residual stream after layer i, and the last (layers + 1) what the final norm makes of it. For
// tests and tools, on a process that owns all columns.
using HiddenProbe = std::function<void(std::int64_t stage, std::span<const float> rows)>;

class LlamaForward {
 public:
  struct Options {
    const KernelTable* kernels = nullptr;
    ComputeDType dtype = ComputeDType::kBf16;
    std::int64_t max_rows = 0;
    InputForm inputs = InputForm::kPlain;  // what some weights take them as
  };

  // Bytes of activations for these options, on a process that owns `block`.
  static std::int64_t activation_bytes(const ModelConfig& config, const ShardPlan& plan,
                                       const DeviceBlock& block, const Options& options,
                                       int threads);
  // `kv`: a cache per column of the mesh's block.
  static Result<LlamaForward> create(const LlamaWeights& weights, std::span<const KvCache> kv,
                                     Mesh& mesh, const Options& options);

  // Runs all rows of the batch, which was checked: ids, positions and pages are in range and there
  // are at most max_rows rows. Keys and values go to the pages; of the rows that the batch asks
  // about, the residual stream stays here.
  void run(const StepBatch& batch, const HiddenProbe& probe);

  // Most rows of one head() call.
  static constexpr std::int64_t kHeadRows = 32;

  // Final norm and LM head of the given rows (counted over all rows of the batch, in order; asked
  // for in the batch, and at most kHeadRows). The logits stay here in shards of the vocabulary, one
  // per row of the mesh, until the next call.
  void head(std::span<const std::int64_t> rows);

  // Of head()'s i-th row, the logits of a shard that is in this process's block. They may be
  // changed. The ids begin at shard * shard_ids(); the last shards may have fewer, or none.
  std::span<float> shard_logits(std::int64_t i, std::int64_t shard);
  std::int64_t shard_ids() const { return weights_->plan.vocab_stride(); }

  // Gathers some of head()'s rows (ascending; on all ranks the same) from all shards:
  // [picked][logits_stride()], of which the first `vocab` of each row count. They may be changed.
  // Takes the memory of the shards: once per head().
  std::span<float> whole_logits(std::span<const std::int64_t> picked);
  std::int64_t logits_stride() const { return weights_->plan.padded_vocab(); }

  // Marks every operation from now on; nullptr: none.
  void set_op_times(OpTimes* times) { times_ = times; }

 private:
  struct Sizes;
  // The devices' parts of a layer's matrices.
  struct LayerViews {
    std::vector<PackedView> wqkv;
    std::vector<PackedView> wv;
    std::vector<PackedView> wo;
    std::vector<PackedView> w1;
    std::vector<PackedView> w3;
    std::vector<PackedView> w2;
  };
  LlamaForward() = default;
  void list_views();

  void set_tokens(std::int64_t tokens);
  void mark_asked_rows(const StepBatch& batch);
  void drop_other_rows();
  void embed();
  void layer(std::int64_t index);
  void rms_norm(MeshTensor& x, std::span<const float> weight, MeshTensor& out);
  // Matrices for the outputs from `first_output` on of each device: a part for each, or none.
  struct Factor {
    std::span<const PackedView> w;
    std::int64_t first_output = 0;
  };
  // The first is never empty, and both take their inputs in the form that it does.
  using Factors = std::array<Factor, 2>;
  void multiply(const MeshTensor& x, const Factors& w, Axis reduced, const MeshTensor& y, bool add);
  void project(const MeshTensor& x, const Factors& w, Axis reduced, Use use, MeshTensor& y,
               bool add);
  void rope_and_store(std::int64_t layer);
  void attention(std::int64_t layer);
  void gated_feed_forward(const LayerViews& w);
  void swiglu(const MeshTensor& gate, const MeshTensor& up, std::int64_t token, std::int64_t begin,
              std::int64_t end);
  void prepare_for(std::span<const PackedView> weights, const MeshTensor& x, Axis reduced);
  MeshTensor summands_of(const MeshTensor& t, Axis axis) const;
  void show(const HiddenProbe& probe, std::int64_t stage);
  void mark(std::string_view of, std::string_view what) {
    if (times_ != nullptr) times_->mark(of, what);
  }
  template <typename F>
  void for_rows(std::int64_t rows, std::int64_t values_per_row, const F& f);

  const LlamaWeights* weights_ = nullptr;
  std::span<const KvCache> kv_;
  Mesh* mesh_ = nullptr;
  Options options_;
  MeshProducts products_;
  std::vector<LayerViews> layers_;
  std::vector<PackedView> head_;   // of the LM head
  std::vector<MatmulArgs> first_;  // products being run
  std::vector<MatmulArgs> second_;
  PreparedInputs prepared_;
  RowPlan rows_;
  std::vector<std::int64_t> kept_;  // where planned rows are now; empty: all are in place
  OpTimes* times_ = nullptr;
  std::vector<float> frequencies_;  // [head_dim / 2]

  // Activations, as far as they are of this process's devices; "element" is of the compute dtype.
  MeshTensor residual_;        // [tokens, dim] f32
  MeshTensor statistics_;      // [tokens, cols] f32: sums of squares
  MeshTensor normed_;          // [tokens, dim] element
  MeshTensor qkv_;             // [tokens, rows x (q, k, v heads of the row)] f32
  MeshTensor attended_;        // [tokens, heads head_dim] element
  MeshTensor gate_;            // [tokens, ffn_dim] f32
  MeshTensor up_;              // [tokens, ffn_dim] f32
  MeshTensor activated_;       // [tokens, ffn_dim] element
  MeshTensor chosen_;          // [kHeadRows, dim] f32: rows of the residual stream
  MeshTensor logits_;          // [kHeadRows, padded vocab] f32
  MeshTensor mine_;            // [kHeadRows, ids of this process's rows] f32, often in logits_
  MeshTensor summands_;        // what a product leaves partial: the largest of them all, f32
  AlignedBuffer buffers_[11];  // of these, in this order
  AlignedBuffer mine_logits_;  // [kHeadRows, ids of this process's rows] f32, with several ranks
  AlignedBuffer cos_;          // [tokens, head_dim / 2] f32
  AlignedBuffer sin_;          // [tokens, head_dim / 2] f32
  AlignedBuffer product_scratch_;    // [threads, kTileScratchFloats], if there are tiles
  AlignedBuffer attention_scratch_;  // [threads, scratch_floats_] f32
  std::int64_t scratch_floats_ = 0;
  AlignedBuffer span_states_;  // of contexts in parts, f32
  // Of each context in parts, how many are not done. (A pointer, so that this can be moved.)
  std::unique_ptr<std::atomic<std::int64_t>[]> parts_left_;
};

}  // namespace tg
