// What: the layers of a Llama model over the rows of one step, on the thread team: from token ids
// to
//   the residual stream, and from chosen rows of it to logits. Reads like the paper; which thread
//   does what is in the .cpp.
// Who owns: the runner. It owns the activations; weights, KV cache and team are borrowed.
// Thread: one caller at a time; it works on all members of the team.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_team.h"
#include "kernels/kernel_table.h"
#include "model/kv_cache.h"
#include "model/llama_weights.h"
#include "model/model_runner.h"

namespace tg {

// Called with [rows, dim] f32: stage 0 is the embedding, stage i + 1 the residual stream after
// layer i, and the last (layers + 1) what the final norm makes of it. For tests and tools.
using HiddenProbe = std::function<void(std::int64_t stage, std::span<const float> rows)>;

class LlamaForward {
 public:
  struct Options {
    const KernelTable* kernels = nullptr;
    ComputeDType dtype = ComputeDType::kBf16;
    std::int64_t max_rows = 0;
  };

  // Bytes of activations for these options.
  static std::int64_t activation_bytes(const ModelConfig& config, const Options& options,
                                       int threads);
  static Result<LlamaForward> create(const LlamaWeights& weights, const KvCache& kv,
                                     ThreadTeam& team, const Options& options);

  // Runs all rows of the batch, which was checked: ids, positions and pages are in range and there
  // are at most max_rows rows. Keys and values go to the pages; the residual stream stays here.
  void run(const StepBatch& batch, const HiddenProbe& probe);

  // Most rows of one head() call.
  static constexpr std::int64_t kHeadRows = 32;

  // Final norm and LM head of the given rows (of all rows of the batch, in order; at most
  // kHeadRows). The result, [rows, vocab], may be changed and lives until the next call.
  std::span<float> head(std::span<const std::int64_t> rows);

 private:
  LlamaForward() = default;

  // Work that any thread can do: rows [first_row, first_row + rows) of a sequence for one kv head.
  struct AttentionTask {
    std::int64_t sequence = 0;
    std::int64_t kv_head = 0;
    std::int64_t first_row = 0;
    std::int64_t rows = 0;
  };

  void place_rows(const StepBatch& batch);
  void layer(std::int64_t index);
  void rms_norm(const float* x, std::span<const float> weight, std::int64_t rows, void* out);
  void matmul(const void* x, std::int64_t columns, std::int64_t rows, PackedView w, float* y,
              bool add);
  void matmul_piece(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end);
  void rope_and_store(const KvLayer& kv);
  void attention(const KvLayer& kv);
  void gated_feed_forward(const LayerWeights& w);
  template <typename F>
  void for_rows(std::int64_t rows, std::int64_t values_per_row, const F& f);
  std::int64_t panel_grain(std::int64_t panels) const;
  std::byte* element(AlignedBuffer& buffer, std::int64_t index) const;

  const LlamaWeights* weights_ = nullptr;
  const KvCache* kv_ = nullptr;
  ThreadTeam* team_ = nullptr;
  Options options_;
  std::vector<float> frequencies_;  // [head_dim / 2]

  // Of the step being run.
  std::span<const StepSequence> sequences_;
  std::vector<std::int64_t> first_rows_;       // [sequences]: its first row among all rows
  std::vector<std::int64_t> sequence_of_row_;  // [rows]
  std::vector<AttentionTask> attention_tasks_;
  std::int64_t rows_ = 0;

  // Activations; "element" is of the compute dtype.
  AlignedBuffer residual_;           // [rows, dim] f32
  AlignedBuffer normed_;             // [rows, dim] element
  AlignedBuffer qkv_;                // [rows, (heads + 2 kv_heads) head_dim] f32
  AlignedBuffer attended_;           // [rows, heads head_dim] element
  AlignedBuffer gate_;               // [rows, ffn_dim] f32
  AlignedBuffer up_;                 // [rows, ffn_dim] f32
  AlignedBuffer activated_;          // [rows, ffn_dim] element
  AlignedBuffer cos_;                // [rows, head_dim / 2] f32
  AlignedBuffer sin_;                // [rows, head_dim / 2] f32
  AlignedBuffer chosen_;             // [kHeadRows, dim] element
  AlignedBuffer logits_;             // [kHeadRows, vocab] f32
  AlignedBuffer attention_scratch_;  // [threads, scratch_floats_] f32
  std::int64_t scratch_floats_ = 0;
};

}  // namespace tg
