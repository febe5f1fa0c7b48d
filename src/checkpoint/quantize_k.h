// What: f32 values to blocks of Q4_K and Q6_K, by the nearest codes of a plain choice of scales.
//   Other tools search for scales that lose less: files made so have other bits.
// Who owns: nothing. Thread: any.
#pragma once

#include <cstddef>

namespace tg {

// Rounds 256 finite values to a block of kQ4KBytes. A group of 32 has minimum = its least value, or
// 0 if that is above, and scale = (its largest - minimum) / 15; d and dmin are 1 / 63 of the
// largest of 8 scales and of minima.
void quantize_q4_k(const float* values, std::byte* block);

// The same for kQ6KBytes: a group of 16 has scale = its value of largest magnitude / -32, and d is
// 1 / 127 of the largest magnitude of 16 scales.
void quantize_q6_k(const float* values, std::byte* block);

}  // namespace tg
