// What: Tenstorrent's block float: 16 values share the largest exponent among them (8 bits), each
//   keeps a sign and a magnitude of 7 bits (bfp8) or 3 (bfp4), rounded to nearest even. Every value
//   of it is one of bf16 too, infinity where its exponent is beyond what f32 has.
// Who owns: pure functions. Thread: any.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tg {

inline constexpr std::int64_t kBfpBlock = 16;  // values that share an exponent
inline constexpr int kBfp8Bits = 7;            // of the magnitude
inline constexpr int kBfp4Bits = 3;

inline std::uint32_t exponent_field(float x) {
  return (std::bit_cast<std::uint32_t>(x) >> 23) & 0xffU;
}

inline std::uint32_t shared_exponent(std::span<const float> block) {
  std::uint32_t largest = 0;
  for (const float x : block) largest = std::max(largest, exponent_field(x));
  return largest;
}

// Sign and magnitude of a value under a shared exponent, the sign in front. Bits that fall out when
// the significand is aligned are lost before rounding; a magnitude that would round up to
// 2^magnitude_bits stays below it. There is no -0, and subnormals count as zero.
inline std::uint8_t to_bfp(float x, std::uint32_t shared, int magnitude_bits) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t exponent = exponent_field(x);
  if (exponent == 0) return 0;  // subnormals count as zero
  const std::uint32_t shift = shared - exponent;
  if (shift > 24) return 0;
  const int dropped = 24 - magnitude_bits;
  const std::uint32_t significand = ((bits & 0x7fffffU) | 0x800000U) >> shift;
  const std::uint32_t rest = significand & ((1U << dropped) - 1);
  std::uint32_t magnitude = significand >> dropped;
  const std::uint32_t half = 1U << (dropped - 1);
  if (rest > half || (rest == half && (magnitude & 1U) != 0)) ++magnitude;
  magnitude = std::min(magnitude, (1U << magnitude_bits) - 1);
  if (magnitude == 0) return 0;
  return static_cast<std::uint8_t>((bits >> 31 << magnitude_bits) | magnitude);
}

// What a magnitude of 1 is worth.
inline float bfp_unit(std::uint32_t shared, int magnitude_bits) {
  // 2^(shared - 127 - (magnitude_bits - 1)), a subnormal for the least exponents.
  const std::uint32_t less = static_cast<std::uint32_t>(magnitude_bits) - 1;
  if (shared == 0) return 0.0F;
  return std::bit_cast<float>(shared > less ? (shared - less) << 23 : 1U << (22 - less + shared));
}

inline float from_bfp(std::uint8_t code, std::uint32_t shared, int magnitude_bits) {
  const int magnitude = code & ((1 << magnitude_bits) - 1);
  const float value = static_cast<float>(magnitude) * bfp_unit(shared, magnitude_bits);
  return code >> magnitude_bits != 0 ? -value : value;
}

// The code as an integer.
constexpr int bfp_integer(std::uint8_t code, int magnitude_bits) {
  const int magnitude = code & ((1 << magnitude_bits) - 1);
  return code >> magnitude_bits != 0 ? -magnitude : magnitude;
}

// Rounds a row, whose first block begins where it does, in place.
void round_to_bfp(std::span<float> row, int magnitude_bits);

// f(first value, count) for each block of a row of so many values.
template <typename F>
void for_bfp_blocks(std::size_t values, const F& f) {
  for (std::size_t i = 0; i < values; i += kBfpBlock) {
    f(i, std::min<std::size_t>(kBfpBlock, values - i));
  }
}

}  // namespace tg
