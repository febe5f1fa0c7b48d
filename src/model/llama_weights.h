// What: the weights of a Llama model in the form the kernels read, and how they get there: rows
// from
//   a TensorSource, packed by all threads.
// Who owns: the caller of load_weights, then the runner. Thread: loading from one; reading from
// any.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.h"
#include "base/thread_team.h"
#include "checkpoint/tensor_source.h"
#include "kernels/packed_matrix.h"

namespace tg {

struct LayerWeights {
  std::vector<float> attention_norm;  // [dim]
  PackedMatrix wqkv;                  // [(heads + 2 kv_heads) head_dim, dim]: q, k, v rows
  PackedMatrix wo;                    // [dim, heads head_dim]
  std::vector<float> ffn_norm;        // [dim]
  PackedMatrix w1;                    // [ffn_dim, dim], the gate
  PackedMatrix w3;                    // [ffn_dim, dim]
  PackedMatrix w2;                    // [dim, ffn_dim]
};

struct LlamaWeights {
  ModelConfig config;
  PackedMatrix embedding;  // [vocab, dim]
  std::vector<LayerWeights> layers;
  std::vector<float> norm;  // [dim]
  PackedMatrix output;      // [vocab, dim]; empty when config.tied_embeddings

  PackedView lm_head() const { return config.tied_embeddings ? embedding.view() : output.view(); }
};

// Bytes that the packed matrices of a model take.
std::int64_t packed_weight_bytes(const ModelConfig& config);

// Told about values read so far, of all; from whichever thread, one at a time.
using LoadProgress = std::function<void(std::int64_t done, std::int64_t total)>;

// Reads every tensor once, in blocks of rows. Weights that are not bf16 are rounded to it. Memory
// beyond the result: a few MiB per thread, and the file pages of the tensors being read (the
// largest are read first, while least is packed). Errors are the source's; kUnsupported: a shape
// that the kernels have no code for (odd sizes).
Result<LlamaWeights> load_weights(const TensorSource& source, ThreadTeam& team,
                                  const LoadProgress& progress = {});

}  // namespace tg
