// What: 32 weights as one block of integers with a common scale, by the definitions of GGUF's Q8_0
//   and Q4_0: the same codes and the same bytes.
//     Q8_0: f16 scale, 32 x int8;           value = scale * q
//     Q4_0: f16 scale, 16 bytes of nibbles; value = scale * (q - 8); byte i holds values i and i +
//     16
// Who owns: pure functions. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tg {

inline constexpr std::int64_t kBlockWeights = 32;
inline constexpr std::int64_t kQ8Bytes = 34;
inline constexpr std::int64_t kQ4Bytes = 18;

// Rounds 32 values to a block of kQ8Bytes: scale = largest magnitude / 127.
void quantize_q8(const float* values, std::byte* block);

// The same for kQ4Bytes: scale = the value of largest magnitude / -8, so that it is met exactly.
void quantize_q4(const float* values, std::byte* block);

}  // namespace tg
