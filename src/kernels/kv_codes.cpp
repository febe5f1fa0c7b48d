// Codes of keys and values, made in one way for all tables: rounding a vector of a head is little
// beside the products that made it.
#include "kernels/kv_codes.h"

#include <xmmintrin.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <span>

#include "tensor/block_float.h"

namespace tg {
namespace {

// To nearest even. (std::nearbyint is a call where only the first x86-64 is asked for.)
std::int32_t rounded(float x) { return _mm_cvtss_si32(_mm_set_ss(x)); }

// The largest magnitude has the code 127, or 126 where the scale was rounded up far enough. A scale
// is bf16, not f16, because keys and values may have any size. Values below 2^-100 count as zero: 1
// / scale would be no finite number. One that is not finite makes all NaN.
Bf16 int8_scale(std::span<const float> values) {
  std::uint32_t largest = 0;
  for (const float v : values) {
    largest = std::max(largest, std::bit_cast<std::uint32_t>(v) & 0x7fffffffU);
  }
  if (largest >= 0x7f800000U) return to_bf16(std::numeric_limits<float>::quiet_NaN());
  const auto magnitude = std::bit_cast<float>(largest);
  return magnitude < 0x1p-100F ? Bf16{} : to_bf16(magnitude / 127.0F);
}

// Codes of one vector, `code_stride` apart; its scales, one for each group of positions apart.
void encode(const KvLayer& kv, const float* x, std::int8_t* codes, std::int64_t code_stride,
            std::byte* scales) {
  const std::int64_t shared = kv_values_per_scale(kv.format);
  const std::int64_t scale_stride = kKeyGroup * kv_scale_bytes(kv.format);
  for (std::int64_t d = 0; d < kv.head_dim; d += shared, scales += scale_stride) {
    const std::int64_t count = std::min(shared, kv.head_dim - d);
    const std::span<const float> values(x + d, static_cast<std::size_t>(count));
    std::int8_t* code = codes + d * code_stride;
    if (kv.format == KvFormat::kBfp8) {
      const std::uint32_t exponent = shared_exponent(values);
      *scales = static_cast<std::byte>(exponent);
      for (const float v : values) {
        *code = static_cast<std::int8_t>(bfp_integer(to_bfp(v, exponent, kBfp8Bits), kBfp8Bits));
        code += code_stride;
      }
      continue;
    }
    const Bf16 scale = int8_scale(values);
    std::memcpy(scales, &scale, sizeof(scale));
    const float worth = to_float(scale);
    const float inverse = worth > 0.0F ? 1.0F / worth : 0.0F;  // 0 of a NaN too
    for (const float v : values) {
      *code = inverse == 0.0F ? std::int8_t{0} : static_cast<std::int8_t>(rounded(v * inverse));
      code += code_stride;
    }
  }
}

}  // namespace

void store_kv_codes(const KvLayer& kv, PageId page, std::int64_t head, std::int64_t offset_in_page,
                    const float* key, const float* value) {
  const std::int64_t d = kv.head_dim;
  const std::int64_t lane = offset_in_page % kKeyGroup;
  const std::int64_t start = page * kv.page_stride + head * kv.head_stride +
                             (offset_in_page - lane) * kv_vector_bytes(kv.format, kv.dtype, d);
  // Scales lie behind the codes of the group.
  const std::int64_t scales = kKeyGroup * d + lane * kv_scale_bytes(kv.format);
  std::byte* keys = kv.keys + start;
  std::byte* values = kv.values + start;
  encode(kv, key, reinterpret_cast<std::int8_t*>(keys) + key_code_at(lane, 0), kKeyGroup,
         keys + scales);
  encode(kv, value, reinterpret_cast<std::int8_t*>(values) + value_code_at(kv, lane, 0), 1,
         values + scales);
}

float kv_scale_at(const KvLayer& kv, const std::byte* group, std::int64_t lane, std::int64_t d) {
  const std::int64_t i = d / kv_values_per_scale(kv.format) * kKeyGroup + lane;
  const std::byte* scale = group + kKeyGroup * kv.head_dim + i * kv_scale_bytes(kv.format);
  if (kv.format == KvFormat::kBfp8) return bfp_unit(std::to_integer<unsigned>(*scale), kBfp8Bits);
  Bf16 worth;
  std::memcpy(&worth, scale, sizeof(worth));
  return to_float(worth);
}

}  // namespace tg
