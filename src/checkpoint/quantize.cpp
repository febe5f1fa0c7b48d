#include "checkpoint/quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/bf16.h"
#include "base/result.h"

namespace tg {
namespace {

constexpr std::size_t kGroup = 32;  // values of a block of Q8_0 and Q4_0

// IEEE binary16, nearest even; what is too large becomes infinity.
std::uint16_t to_half(float x) {
  const auto u = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000U);
  const float magnitude = std::fabs(x);
  if (magnitude >= 65520.0F) return static_cast<std::uint16_t>(sign | 0x7c00U);
  // Adding a power of two whose unit in the last place is the wanted one rounds as the FPU does.
  // 2^-14 is the smallest normal number; below it the unit is 2^-24.
  if (magnitude < 0x1p-14F) {
    const float rounded = magnitude + 0.5F;  // 0.5 has 2^-24 as its unit
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(rounded) - 0x3f000000U));
  }
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(magnitude);
  const std::uint32_t rounded = bits + 0xfffU + ((bits >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | ((rounded >> 13) - (112U << 10)));
}

// 1 / d; 0 for a block of zeros, and for one so small that its d is 0 as float16 and 1 / d
// infinite.
float inverse_of(float d) { return std::fabs(d) < 0x1p-126F ? 0.0F : 1.0F / d; }

void put_half(float d, std::byte* out) {
  const std::uint16_t bits = to_half(d);
  std::memcpy(out, &bits, sizeof bits);
}

void q8_0(const float* x, std::byte* out) {
  float largest = 0.0F;
  for (std::size_t i = 0; i < kGroup; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float d = largest / 127.0F;
  const float inverse = inverse_of(d);
  put_half(d, out);
  for (std::size_t i = 0; i < kGroup; ++i) {
    // Half is added to what is behind the point only: added to all of it, the sum would round.
    const float scaled = x[i] * inverse;
    const float whole = std::trunc(scaled);
    const float rest = scaled - whole;
    const float step = std::fabs(rest) >= 0.5F ? std::copysign(1.0F, scaled) : 0.0F;
    out[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(whole + step));
  }
}

void q4_0(const float* x, std::byte* out) {
  float largest = 0.0F;
  float value = 0.0F;
  for (std::size_t i = 0; i < kGroup; ++i) {
    if (std::fabs(x[i]) <= largest) continue;
    largest = std::fabs(x[i]);
    value = x[i];
  }
  const float d = value / -8.0F;
  const float inverse = inverse_of(d);
  put_half(d, out);
  // x / d is -8 at least, so the sum is above 0 and truncation is floor.
  const auto code = [inverse](float v) {
    return std::min(15, static_cast<int>(v * inverse + 8.5F));
  };
  for (std::size_t i = 0; i < kGroup / 2; ++i) {
    out[2 + i] = static_cast<std::byte>(code(x[i]) | (code(x[i + kGroup / 2]) << 4));
  }
}

}  // namespace

bool can_quantize(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBf16 || dtype == DType::kQ8_0 ||
         dtype == DType::kQ4_0;
}

void quantize(DType dtype, std::span<const float> values, std::span<std::byte> blocks) {
  TG_CHECK(can_quantize(dtype));
  const BlockSize size = block_size(dtype);
  const auto block_values = static_cast<std::size_t>(size.values);
  const auto block_bytes = static_cast<std::size_t>(size.bytes);
  TG_CHECK(values.size() % block_values == 0);
  TG_CHECK(blocks.size() == values.size() / block_values * block_bytes);
  if (values.empty()) return;
  if (dtype == DType::kF32) {
    std::memcpy(blocks.data(), values.data(), blocks.size());
    return;
  }
  std::byte* out = blocks.data();
  if (dtype == DType::kBf16) {
    for (const float x : values) {
      const Bf16 rounded = to_bf16(x);
      std::memcpy(out, &rounded.bits, sizeof rounded.bits);
      out += sizeof rounded.bits;
    }
    return;
  }
  const auto one_block = dtype == DType::kQ8_0 ? q8_0 : q4_0;
  for (std::size_t i = 0; i < values.size(); i += block_values, out += block_bytes) {
    one_block(&values[i], out);
  }
}

}  // namespace tg
