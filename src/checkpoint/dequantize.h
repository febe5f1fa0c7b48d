// What: stored tensor elements to f32, for every DType: the exact value that the format defines.
// Who owns: nothing. Thread: any.
#pragma once

#include <cstddef>
#include <span>

#include "tensor/dtype.h"

namespace tg {

// Writes the f32 values of whole blocks. `blocks` holds out.size() / block_size(dtype).values
// blocks of block_size(dtype).bytes bytes each, anywhere in memory (no alignment needed).
//
// Plain types are subsets of f32. A quantised value is computed in f32 in the order of the format's
// reference, and no product is fused with a sum, so the result is the same to the bit everywhere:
//   Q4_0 Q5_0 Q8_0:  d * q                          (q centred: -8.., -16.., -128..)
//   Q4_1 Q5_1:       d * q + m
//   Q4_K Q5_K:       (d * scale) * q - (dmin * minimum)
//   Q6_K:            (d * scale) * q
void dequantize(DType dtype, std::span<const std::byte> blocks, std::span<float> out);

}  // namespace tg
