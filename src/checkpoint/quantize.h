// What: f32 values to stored tensor elements, the counterpart of dequantize.h, for the formats that
//   this program writes: F32, BF16, Q8_0, Q4_0, Q4_K and Q6_K.
// Who owns: nothing. Thread: any.
#pragma once

#include <cstddef>
#include <span>

#include "tensor/dtype.h"

namespace tg {

// Whether quantize() knows the format.
bool can_quantize(DType dtype);

// Fills `blocks` with the stored form of `values`: values.size() / block_size(dtype).values whole
// blocks. BF16 is rounded to nearest even. A block of 32 values becomes, with each step in f32 as
// the format's reference does it (so the stored bits are the same as those of other tools):
//   Q8_0: d = (largest magnitude) / 127,      q = x * (1 / d) rounded, halves away from zero
//   Q4_0: d = (value of largest magnitude) / -8, the first of several equal ones,
//         q = min(15, floor(x * (1 / d) + 8.5)), of which dequantize() takes 8 away
// d is stored as float16, rounded to nearest even; the q are made with the unrounded one. A block
// of zeros has d = 0. Q4_K and Q6_K: see quantize_k.h. Values must be finite and, for d, below
// 65520 * 127 (Q8_0) or * 8 (Q4_0).
void quantize(DType dtype, std::span<const float> values, std::span<std::byte> blocks);

}  // namespace tg
