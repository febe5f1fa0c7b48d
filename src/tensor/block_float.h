// What: Tenstorrent's block float of 8 bits (bfp8): 16 values share the largest exponent among them
//   (8 bits) and keep a sign and 7 bits of magnitude each, rounded to nearest even. Here a code is
//   a signed integer; whoever stores it chooses the bytes.
// Who owns: plain values. Thread: any.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

namespace tg {

inline constexpr std::int64_t kBlockFloatValues = 16;  // that share an exponent
inline constexpr std::uint32_t kBlockFloatBits = 7;    // of magnitude
inline constexpr std::uint32_t kBlockFloatMost = (1U << kBlockFloatBits) - 1;

inline std::uint32_t exponent_field(float x) {
  return (std::bit_cast<std::uint32_t>(x) >> 23) & 0xffU;
}

inline std::uint32_t shared_exponent(std::span<const float> block) {
  std::uint32_t largest = 0;
  for (const float x : block) largest = std::max(largest, exponent_field(x));
  return largest;
}

// -127..127. Bits that fall out when the significand is aligned are lost before rounding; a
// magnitude that would round up to 2^7 stays at 127.
inline std::int32_t block_float_code(float x, std::uint32_t shared) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t exponent = exponent_field(x);
  if (exponent == 0) return 0;  // subnormals count as zero
  const std::uint32_t shift = shared - exponent;
  if (shift > 24) return 0;
  constexpr std::uint32_t kDropped = 24 - kBlockFloatBits;
  const std::uint32_t significand = ((bits & 0x7fffffU) | 0x800000U) >> shift;
  const std::uint32_t rest = significand & ((1U << kDropped) - 1);
  std::uint32_t magnitude = significand >> kDropped;
  constexpr std::uint32_t kHalf = 1U << (kDropped - 1);
  if (rest > kHalf || (rest == kHalf && (magnitude & 1U) != 0)) ++magnitude;
  const auto code = static_cast<std::int32_t>(std::min(magnitude, kBlockFloatMost));
  return (bits >> 31) != 0 ? -code : code;
}

// What a code of 1 is worth: 2^(shared - 127 - 6), a subnormal number for the smallest exponents.
// A code times this is exact, or infinite.
inline float block_float_scale(std::uint32_t shared) {
  constexpr std::uint32_t kLess = kBlockFloatBits - 1;
  return std::bit_cast<float>(shared > kLess ? (shared - kLess) << 23
                                             : 1U << (23 - 1 - kLess + shared));
}

}  // namespace tg
