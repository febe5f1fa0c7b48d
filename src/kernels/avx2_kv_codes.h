// What: internal to the kernels layer: keys and values that are codes (kv_format.h) as bf16, in
//   AVX2: the bits of kv_decoded().
// Who owns: nothing. Thread: any.
#pragma once

#include "kernels/avx2.h"
#include "kernels/next_step.h"

namespace tg::avx2 {

// The scales of 8 positions.
template <KvFormat F>
TG_AVX2_INLINE __m256 load_kv_scales(const std::byte* scales) {
  if constexpr (F == KvFormat::kInt8) {
    return widen_even(
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales))));
  }
  // See bfp_unit(): 6 less in the exponent, and a bit alone where that is none.
  const __m256i shared =
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales)));
  const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(shared, _mm256_set1_epi32(6)), 23);
  const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(1 << 16), shared);
  const __m256i is_normal = _mm256_cmpgt_epi32(shared, _mm256_set1_epi32(6));
  return _mm256_castsi256_ps(_mm256_blendv_epi8(subnormal, normal, is_normal));
}

// kv_decoded() of 8 codes, in the upper half of each lane.
TG_AVX2_INLINE __m256i decode_8(const std::byte* codes, __m256 scale) {
  const __m256i wide =
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)));
  const __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(wide), scale);
  return _mm256_add_epi32(_mm256_castps_si256(value), _mm256_set1_epi32(0x8000));
}

// Stores 8 pairs of bf16 of what decode_8() gives.
TG_AVX2_INLINE void store_pairs(__m256i even, __m256i odd, Bf16* to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xaa));
}

// A lane is a position: its dimensions lie in pairs.
template <KvFormat F>
TG_AVX2 void expand_keys(std::int64_t head_dim, const std::byte* group, NextStep& ahead, Bf16* to) {
  constexpr std::int64_t kShared = kv_values_per_scale(F);
  constexpr std::int64_t kScaleBytes = kKeyGroup * kv_scale_bytes(F);
  const std::byte* scales = group + kKeyGroup * head_dim;
  for (std::int64_t first = 0; first < head_dim; first += kShared, scales += kScaleBytes) {
    const __m256 low = load_kv_scales<F>(scales);
    const __m256 high = load_kv_scales<F>(scales + kScaleBytes / 2);
    const std::int64_t end = std::min(first + kShared, head_dim);
    for (std::int64_t d = first; d < end; d += 2) {
      if (d * kKeyGroup % kAskCodes == 0) ahead.ask(1);
      const std::byte* even = group + d * kKeyGroup;
      const std::byte* odd = even + kKeyGroup;
      Bf16* pairs = to + d * kKeyGroup;
      store_pairs(decode_8(even, low), decode_8(odd, low), pairs);
      store_pairs(decode_8(even + 8, high), decode_8(odd + 8, high), pairs + 16);
    }
  }
}

// A lane is a dimension: positions lie in pairs. Past the last dimension codes of the next position
// are read, or scales, and written where the next pair comes, or behind the last.
template <KvFormat F>
TG_AVX2 void expand_values(std::int64_t head_dim, const std::byte* group, NextStep& ahead,
                           Bf16* to) {
  constexpr std::int64_t kShared = kv_values_per_scale(F);
  const std::byte* stored = group + kKeyGroup * head_dim;
  float scales[kMaxHeadDim];  // [scales][kKeyGroup]; at most one for 16 dimensions
  for (std::int64_t i = 0; i < kv_scales(F, head_dim) * kKeyGroup; i += 8) {
    _mm256_storeu_ps(scales + i, load_kv_scales<F>(stored + i * kv_scale_bytes(F)));
  }
  for (std::int64_t p = 0; p < kKeyGroup; p += 2) {
    const std::byte* even = group + p * head_dim;
    const std::byte* odd = even + head_dim;
    for (std::int64_t d = 0; d < head_dim; d += 8) {
      if ((p * head_dim + 2 * d) % kAskCodes == 0) ahead.ask(1);
      const float* scale = scales + d / kShared * kKeyGroup + p;
      store_pairs(decode_8(even + d, _mm256_set1_ps(scale[0])),
                  decode_8(odd + d, _mm256_set1_ps(scale[1])), to + (p * head_dim + 2 * d));
    }
  }
}

}  // namespace tg::avx2
