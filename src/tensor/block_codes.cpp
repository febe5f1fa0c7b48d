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

// A value that is not a number, or too large for a scale in f16, has no code; 0 keeps the cast
// defined, and the scale says that something is wrong.
float in_range(float q, float lowest, float highest) {
  return std::isnan(q) ? 0.0F : std::clamp(q, lowest, highest);
}

}  // namespace

void quantize_q8(const float* values, std::byte* block) {
  float largest = 0.0F;
  for (int i = 0; i < kBlockWeights; ++i) largest = std::max(largest, std::abs(values[i]));
  const float scale = largest / 127.0F;
  const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
  put_scale(scale, block);
  for (int i = 0; i < kBlockWeights; ++i) {
    // The definition rounds halves away from zero.
    const float q = in_range(std::round(values[i] * inverse), -127.0F, 127.0F);
    block[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(q));
  }
}

void quantize_q4(const float* values, std::byte* block) {
  float largest = 0.0F;
  for (int i = 0; i < kBlockWeights; ++i) {
    if (std::abs(values[i]) > std::abs(largest)) largest = values[i];
  }
  const float scale = largest / -8.0F;
  const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
  put_scale(scale, block);
  const auto code = [&](float v) {
    return static_cast<unsigned>(in_range(v * inverse + 8.5F, 0.0F, 15.0F));
  };
  for (int i = 0; i < kBlockWeights / 2; ++i) {
    block[2 + i] = static_cast<std::byte>(code(values[i]) | code(values[i + 16]) << 4);
  }
}

}  // namespace tg
