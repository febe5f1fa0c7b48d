#include "checkpoint/quantize_k.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/bf16.h"
#include "tensor/k_blocks.h"

namespace tg {
namespace {

// Rounds to an f16 at `at`, and returns what it is then.
float put_half(float value, std::byte* at) {
  const std::uint16_t half = float_to_half(value);
  std::memcpy(at, &half, sizeof(half));
  return half_to_float(half);
}

// x / unit to the nearest integer of a range; 0 (or the nearest there is) for a unit of 0.
int nearest(float x, float unit, int lowest, int highest) {
  const float q = unit == 0.0F ? 0.0F : std::nearbyint(x / unit);
  return static_cast<int>(std::clamp(q, static_cast<float>(lowest), static_cast<float>(highest)));
}

void put_bits(std::byte& to, int bits) { to |= static_cast<std::byte>(bits); }

// The counterpart of scale_and_minimum().
void put_scale_and_minimum(ScaleAndMinimum v, int group, std::byte* packed) {
  if (group < 4) {
    put_bits(packed[group], v.scale);
    put_bits(packed[group + 4], v.minimum);
    return;
  }
  put_bits(packed[group + 4], (v.scale & 15) | (v.minimum & 15) << 4);
  put_bits(packed[group - 4], v.scale >> 4 << 6);
  put_bits(packed[group], v.minimum >> 4 << 6);
}

}  // namespace

void quantize_q4_k(const float* values, std::byte* block) {
  std::fill_n(block, kQ4KBytes, std::byte{0});
  std::array<float, 8> scales{};
  std::array<float, 8> minima{};
  for (std::size_t g = 0; g < 8; ++g) {
    const auto [least, largest] = std::minmax_element(values + 32 * g, values + 32 * (g + 1));
    minima[g] = std::max(0.0F, -*least);
    scales[g] = std::max(0.0F, *largest + minima[g]) / 15.0F;
  }
  const float d = put_half(*std::max_element(scales.begin(), scales.end()) / 63.0F, block);
  const float dmin = put_half(*std::max_element(minima.begin(), minima.end()) / 63.0F, block + 2);
  for (int g = 0; g < 8; ++g) {
    const auto at = static_cast<std::size_t>(g);
    const ScaleAndMinimum packed{nearest(scales[at], d, 0, 63), nearest(minima[at], dmin, 0, 63)};
    put_scale_and_minimum(packed, g, block + 4);
    const float scale = d * static_cast<float>(packed.scale);
    const float minimum = dmin * static_cast<float>(packed.minimum);
    std::byte* run = block + 16 + 32 * (g / 2);
    for (int i = 0; i < 32; ++i) {
      const int q = nearest(values[32 * g + i] + minimum, scale, 0, 15);
      put_bits(run[i], q << (4 * (g % 2)));
    }
  }
}

void quantize_q6_k(const float* values, std::byte* block) {
  std::fill_n(block, kQ6KBytes, std::byte{0});
  std::array<float, 16> scales{};
  for (std::size_t g = 0; g < 16; ++g) {
    const float* largest =
        std::max_element(values + 16 * g, values + 16 * (g + 1),
                         [](float a, float b) { return std::abs(a) < std::abs(b); });
    scales[g] = *largest / -32.0F;
  }
  const float largest = std::abs(*std::max_element(
      scales.begin(), scales.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
  const float d = put_half(largest / 127.0F, block + kQ6KD);
  for (int g = 0; g < 16; ++g) {
    const int packed = nearest(scales[static_cast<std::size_t>(g)], d, -128, 127);
    block[kQ6KScales + g] = static_cast<std::byte>(packed);
    const float scale = d * static_cast<float>(packed);
    for (int i = 16 * g; i < 16 * (g + 1); ++i) {
      const int q = nearest(values[i], scale, -32, 31) + 32;
      // As q6_k_codes() takes them apart.
      const int half = i / 128;
      const int r = i % 128 / 32;
      put_bits(block[64 * half + 32 * (r % 2) + i % 32], (q & 15) << (4 * (r / 2)));
      put_bits(block[128 + 32 * half + i % 32], q >> 4 << (2 * r));
    }
  }
}

}  // namespace tg
