#include "tensor/block_codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bf16.h"

namespace tg {
namespace {

void put_scale(float scale, std::byte* block) {
  const std::uint16_t half = float_to_half(scale);
  std::memcpy(block, &half, sizeof(half));
}

// 0 for a block of zeros, and for one so small that its scale is 0 as f16 and 1 / scale infinite.
float inverse_of(float scale) { return std::abs(scale) < 0x1p-126F ? 0.0F : 1.0F / scale; }

// A value that is not a number, or too large for a scale in f16, has no code; 0 keeps the cast
// defined, and the scale says that something is wrong.
double in_range(double q, double lowest, double highest) {
  return std::isnan(q) ? 0.0 : std::clamp(q, lowest, highest);
}

}  // namespace

void quantize_q8(const float* values, std::byte* block) {
  float largest = 0.0F;
  for (int i = 0; i < kBlockWeights; ++i) largest = std::max(largest, std::abs(values[i]));
  const float scale = largest / 127.0F;
  const float inverse = inverse_of(scale);
  put_scale(scale, block);
  for (int i = 0; i < kBlockWeights; ++i) {
    // Halves away from zero; in f64 the sum with a half is exact.
    const double q = in_range(static_cast<double>(values[i] * inverse), -127.0, 127.0);
    block[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(q + std::copysign(0.5, q)));
  }
}

void quantize_q4(const float* values, std::byte* block) {
  float largest = 0.0F;
  for (int i = 0; i < kBlockWeights; ++i) {
    if (std::abs(values[i]) > std::abs(largest)) largest = values[i];
  }
  const float scale = largest / -8.0F;
  const float inverse = inverse_of(scale);
  put_scale(scale, block);
  const auto code = [&](float v) {
    return static_cast<unsigned>(in_range(static_cast<double>(v * inverse + 8.5F), 0.0, 15.0));
  };
  for (int i = 0; i < kBlockWeights / 2; ++i) {
    block[2 + i] = static_cast<std::byte>(code(values[i]) | code(values[i + 16]) << 4);
  }
}

}  // namespace tg
