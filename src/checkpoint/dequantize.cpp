#include "checkpoint/dequantize.h"

#include <cstdint>
#include <cstring>

#include "base/bf16.h"
#include "base/result.h"
#include "tensor/k_blocks.h"

namespace tg {
namespace {

// One function per block format: reads one block at `b`, writes its values to `y`. Layouts are in
// the order of the bytes. In the 32-value formats the low nibbles of the 16 packed bytes are values
// 0..15 and the high nibbles values 16..31.

float half_at(const std::uint8_t* p) {
  std::uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return half_to_float(bits);
}

float to_f32(int q) { return static_cast<float>(q); }

// f16 d, int8 q[32]
void q8_0(const std::uint8_t* b, float* y) {
  const float d = half_at(b);
  for (int i = 0; i < 32; ++i) y[i] = d * to_f32(static_cast<std::int8_t>(b[2 + i]));
}

// f16 d, nibbles[16]
void q4_0(const std::uint8_t* b, float* y) {
  const float d = half_at(b);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * to_f32((b[2 + i] & 15) - 8);
    y[i + 16] = d * to_f32((b[2 + i] >> 4) - 8);
  }
}

// f16 d, f16 m, nibbles[16]
void q4_1(const std::uint8_t* b, float* y) {
  const float d = half_at(b);
  const float m = half_at(b + 2);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * to_f32(b[4 + i] & 15) + m;
    y[i + 16] = d * to_f32(b[4 + i] >> 4) + m;
  }
}

// Bit i of the 4 bytes at `high` as bit 4 of value i.
int fifth_bit(const std::uint8_t* high, int i) { return ((high[i / 8] >> (i % 8)) & 1) << 4; }

// f16 d, high bits[4], nibbles[16]
void q5_0(const std::uint8_t* b, float* y) {
  const float d = half_at(b);
  const std::uint8_t* high = b + 2;
  const std::uint8_t* low = b + 6;
  for (int i = 0; i < 16; ++i) {
    y[i] = d * to_f32(((low[i] & 15) | fifth_bit(high, i)) - 16);
    y[i + 16] = d * to_f32(((low[i] >> 4) | fifth_bit(high, i + 16)) - 16);
  }
}

// f16 d, f16 m, high bits[4], nibbles[16]
void q5_1(const std::uint8_t* b, float* y) {
  const float d = half_at(b);
  const float m = half_at(b + 2);
  const std::uint8_t* high = b + 4;
  const std::uint8_t* low = b + 8;
  for (int i = 0; i < 16; ++i) {
    y[i] = d * to_f32((low[i] & 15) | fifth_bit(high, i)) + m;
    y[i + 16] = d * to_f32((low[i] >> 4) | fifth_bit(high, i + 16)) + m;
  }
}

// The shared shape of Q4_K and Q5_K: 4 runs of 32 bytes, whose low nibbles are one group of 32
// values and whose high nibbles the next. `high` (or nullptr) has 32 bytes: bit g of byte i is the
// fifth bit of value i of group g.
void k_with_minimum(const std::uint8_t* b, const std::uint8_t* high, const std::uint8_t* low,
                    float* y) {
  const float d = half_at(b);
  const float dmin = half_at(b + 2);
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum packed = scale_and_minimum(b + 4, group);
    const float scale = d * to_f32(packed.scale);
    const float minimum = dmin * to_f32(packed.minimum);
    const std::uint8_t* run = low + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int i = 0; i < 32; ++i) {
      int q = (run[i] >> shift) & 15;
      if (high != nullptr) q |= ((high[i] >> group) & 1) << 4;
      y[32 * group + i] = scale * to_f32(q) - minimum;
    }
  }
}

// f16 d, f16 dmin, scales[12], nibbles[128]
void q4_k(const std::uint8_t* b, float* y) { k_with_minimum(b, nullptr, b + 16, y); }

// f16 d, f16 dmin, scales[12], high bits[32], nibbles[128]
void q5_k(const std::uint8_t* b, float* y) { k_with_minimum(b, b + 16, b + 48, y); }

// low nibbles[128], high pairs[64], int8 scales[16], f16 d. Each half of 128 values has 64 bytes of
// nibbles and 32 bytes of pairs: value 32 * r + i takes its pair from bits 2r of byte i, and its
// nibble from byte i (r = 0 and 2) or 32 + i (r = 1 and 3), low for r < 2. One scale per 16 values.
void q6_k(const std::uint8_t* b, float* y) {
  const float d = half_at(b + 208);
  for (int half = 0; half < 2; ++half) {
    const std::uint8_t* low = b + 64 * half;
    const std::uint8_t* high = b + 128 + 32 * half;
    const std::uint8_t* scales = b + 192 + 8 * half;
    for (int r = 0; r < 4; ++r) {
      for (int i = 0; i < 32; ++i) {
        const int nibble = (low[i + 32 * (r % 2)] >> (4 * (r / 2))) & 15;
        const int q = (nibble | (((high[i] >> (2 * r)) & 3) << 4)) - 32;
        const float scale = d * to_f32(static_cast<std::int8_t>(scales[2 * r + i / 16]));
        y[128 * half + 32 * r + i] = scale * to_f32(q);
      }
    }
  }
}

template <typename OneBlock>
void each_block(DType dtype, const std::uint8_t* p, std::span<float> out, OneBlock one_block) {
  const BlockSize size = block_size(dtype);
  const auto values = static_cast<std::size_t>(size.values);
  for (std::size_t i = 0; i < out.size(); i += values, p += size.bytes) one_block(p, &out[i]);
}

}  // namespace

void dequantize(DType dtype, std::span<const std::byte> blocks, std::span<float> out) {
  const BlockSize size = block_size(dtype);
  const auto values = static_cast<std::size_t>(size.values);
  TG_CHECK(out.size() % values == 0);
  TG_CHECK(blocks.size() == out.size() / values * static_cast<std::size_t>(size.bytes));
  if (out.empty()) return;
  const auto* p = reinterpret_cast<const std::uint8_t*>(blocks.data());
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out.data(), p, blocks.size());
      return;
    case DType::kF16:
      each_block(dtype, p, out, [](const std::uint8_t* b, float* y) { *y = half_at(b); });
      return;
    case DType::kBf16:
      each_block(dtype, p, out, [](const std::uint8_t* b, float* y) {
        Bf16 x;
        std::memcpy(&x.bits, b, sizeof x.bits);
        *y = to_float(x);
      });
      return;
    case DType::kQ8_0:
      each_block(dtype, p, out, q8_0);
      return;
    case DType::kQ4_0:
      each_block(dtype, p, out, q4_0);
      return;
    case DType::kQ4_1:
      each_block(dtype, p, out, q4_1);
      return;
    case DType::kQ5_0:
      each_block(dtype, p, out, q5_0);
      return;
    case DType::kQ5_1:
      each_block(dtype, p, out, q5_1);
      return;
    case DType::kQ4K:
      each_block(dtype, p, out, q4_k);
      return;
    case DType::kQ5K:
      each_block(dtype, p, out, q5_k);
      return;
    case DType::kQ6K:
      each_block(dtype, p, out, q6_k);
      return;
  }
}

}  // namespace tg
