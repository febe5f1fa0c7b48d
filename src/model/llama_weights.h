// What: the weights of a Llama model in the form the kernels read, as far as they are this
//   process's by the shard plan, and how they get there: rectangles of a TensorSource, packed by
//   all threads.
// Who owns: the caller of load_weights, then the runner. Thread: loading from one; reading from
// any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "base/thread_team.h"
#include "checkpoint/tensor_source.h"
#include "kernels/packed_matrix.h"
#include "model/shard_plan.h"
#include "model/weight_formats.h"

namespace tg {

class CacheFile;

// One matrix of the model: a part for each device of the process, row by row of the mesh. The
// shapes are those of one device.
using ShardedMatrix = std::vector<PackedMatrix>;

struct LayerWeights {
  std::vector<float> attention_norm;  // [dim]
  ShardedMatrix wqkv;                 // [(heads + 2 kv_heads)/rows head_dim, dim/cols]: q, k, v
  ShardedMatrix wv;                   // v alone, where wqkv has only q and k; else none
  ShardedMatrix wo;                   // [dim/cols, heads/rows head_dim]
  std::vector<float> ffn_norm;        // [dim]
  ShardedMatrix w1;                   // [ffn_dim/rows, dim/cols], the gate
  ShardedMatrix w3;                   // [ffn_dim/rows, dim/cols]
  ShardedMatrix w2;                   // [dim/cols, ffn_dim/rows]
};

struct LlamaWeights {
  // Where matrices are read in place (weights_cache.h), the file that they lie in.
  std::shared_ptr<const CacheFile> mapped;

  ModelConfig config;
  ShardPlan plan;
  DeviceBlock block;  // of the devices that are here
  WeightFormats formats;
  // Per column of the block, as its devices share them.
  std::vector<PackedMatrix> embedding;  // [vocab, dim/cols]
  std::vector<PackedMatrix> output;     // [ids of the block's rows, dim/cols]; none when tied
  std::vector<LayerWeights> layers;
  std::vector<float> norm;  // [dim]

  // Device (row, col)'s part of the LM head; it may have no outputs where the vocabulary ends.
  PackedView lm_head(std::int64_t row, std::int64_t col) const;

  // All that has memory, in a fixed order.
  std::vector<PackedMatrix*> matrices();
  std::vector<std::vector<float>*> norms();
};

// Bytes that the packed matrices take on the devices of `block`.
std::int64_t packed_weight_bytes(const ModelConfig& config, const ShardPlan& plan,
                                 const DeviceBlock& block, const WeightFormats& formats);

// Told about values read so far, of all; from whichever thread, one at a time.
using LoadProgress = std::function<void(std::int64_t done, std::int64_t total)>;

// Reads what the block's devices need, once, in blocks of rows, and packs it in the wished formats.
// Blocks that are stored in the very format are taken as they are, unless a device's inputs begin
// or end inside one. Memory beyond the result: a few MiB per thread, and the file pages of the
// tensors being read (the largest are read first, while least is packed). Errors are the source's;
// kUnsupported: a shape that the kernels have no code for (odd sizes).
Result<LlamaWeights> load_weights(const TensorSource& source, const ShardPlan& plan,
                                  const DeviceBlock& block, ThreadTeam& team,
                                  WeightsWish wish = WeightsWish::kBf16,
                                  WeightOrder order = WeightOrder::kPairs,
                                  const LoadProgress& progress = {});

// The same shapes, with matrices that have no memory yet and norms of zeros.
Result<LlamaWeights> outline_weights(const TensorSource& source, const ShardPlan& plan,
                                     const DeviceBlock& block, WeightsWish wish,
                                     WeightOrder order = WeightOrder::kPairs);

// The whole model on one device, in bf16.
Result<LlamaWeights> load_weights(const TensorSource& source, ThreadTeam& team,
                                  WeightOrder order = WeightOrder::kPairs,
                                  const LoadProgress& progress = {});

}  // namespace tg
