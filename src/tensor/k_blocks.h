// What: where things are in the blocks of 256 weights that GGUF calls Q4_K and Q6_K: the codes and
//   scales of a block by groups of 32. Their values are checkpoint/dequantize.cpp's matter.
//     Q4_K: f16 d, f16 dmin, scales[12], nibbles[128]
//     Q6_K: low nibbles[128], high pairs[64], int8 scales[16], f16 d
// Who owns: pure functions. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tg {

inline constexpr std::int64_t kKBlockWeights = 256;
inline constexpr std::int64_t kQ4KBytes = 144;
inline constexpr std::int64_t kQ6KBytes = 210;
inline constexpr std::int64_t kQ6KScales = 192;  // where they begin in the block
inline constexpr std::int64_t kQ6KD = 208;

// The 6-bit scale and minimum of each of 8 groups of 32 values, packed in 12 bytes: groups 0..3
// have theirs in the low 6 bits of bytes 0..3 and 4..7; groups 4..7 have 4 bits each in bytes 8..11
// and their top 2 bits in the top of bytes 0..3 (scale) and 4..7 (minimum).
struct ScaleAndMinimum {
  int scale;
  int minimum;
};

inline ScaleAndMinimum scale_and_minimum(const std::uint8_t* packed, int group) {
  if (group < 4) return {packed[group] & 63, packed[group + 4] & 63};
  const int low = packed[group + 4];
  return {(low & 15) | ((packed[group - 4] >> 6) << 4), (low >> 4) | ((packed[group] >> 6) << 4)};
}

// The codes of 32 weights: 0..15 of Q4_K, 0..63 (32 more than what the scale multiplies) of Q6_K.
void q4_k_codes(const std::byte* block, int group, std::uint8_t* codes);
void q6_k_codes(const std::byte* block, int group, std::uint8_t* codes);

}  // namespace tg
