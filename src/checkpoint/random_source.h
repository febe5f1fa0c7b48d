// What: a model without a checkpoint: weights that are a function of seed, tensor and place, so
//   that any part of any tensor is the same on every machine, thread, rank and mesh. Value (row,
//   column) = a * (2 u - 1) rounded to bf16, where u is 16 bits of SplitMix64's mixer (Steele, Lea,
//   Flood, 2014) over the tensor's key and the place; a is chosen so that the standard deviation of
//   a matrix is 1 / sqrt(columns), of wo and w2 that over sqrt(2 layers) (as GPT-2 starts its
//   residual branches), of the embedding 1: activations stay of order 1 at any depth. Norms are 1
//   +- 1/16.
// Who owns: the caller. Thread: any.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "checkpoint/tensor_source.h"

namespace tg {

// kBadArgument for a shape without layers, heads or values.
Result<std::unique_ptr<TensorSource>> open_random(ModelConfig config, std::uint64_t seed);

}  // namespace tg
