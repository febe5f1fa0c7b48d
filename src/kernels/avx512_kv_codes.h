// What: internal to the kernels layer: keys and values that are codes (kv_format.h) as bf16, in
//   AVX-512: the bits of kv_decoded().
// Who owns: nothing. Thread: any.
#pragma once

#include "kernels/avx512.h"
#include "kernels/next_step.h"

namespace tg::avx512 {

// The scales of 16 positions.
template <KvFormat F>
TG_AVX512_INLINE __m512 load_kv_scales(const std::byte* scales) {
  if constexpr (F == KvFormat::kInt8) {
    return widen_even(
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales))));
  }
  // See bfp_unit(): 6 less in the exponent, and a bit alone where that is none.
  const __m512i shared =
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
  const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(shared, _mm512_set1_epi32(6)), 23);
  const __m512i subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(1 << 16), shared);
  const __mmask16 is_normal = _mm512_cmpgt_epi32_mask(shared, _mm512_set1_epi32(6));
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(subnormal, is_normal, normal));
}

// kv_decoded() of 16 codes, in the upper half of each lane. Of bfp8 nothing is left to round.
template <KvFormat F>
TG_AVX512_INLINE __m512i decode_16(__m128i codes, __m512 scale) {
  const __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), scale);
  const __m512i bits = _mm512_castps_si512(value);
  return F == KvFormat::kBfp8 ? bits : _mm512_add_epi32(bits, _mm512_set1_epi32(0x8000));
}

// 16 pairs of bf16 of what decode_16() gives.
TG_AVX512_INLINE __m512i join_pairs(__m512i even, __m512i odd) {
  return _mm512_mask_blend_epi16(0xaaaaaaaaU, _mm512_srli_epi32(even, 16), odd);
}

// A lane is a position: its dimensions lie in pairs.
template <KvFormat F>
TG_AVX512 void expand_keys(std::int64_t head_dim, const std::byte* group, NextStep& ahead,
                           Bf16* to) {
  constexpr std::int64_t kShared = kv_values_per_scale(F);
  const std::byte* scales = group + kKeyGroup * head_dim;
  const auto* codes = reinterpret_cast<const __m128i*>(group);
  for (std::int64_t first = 0; first < head_dim; first += kShared) {
    const __m512 scale = load_kv_scales<F>(scales);
    scales += kKeyGroup * kv_scale_bytes(F);
    const std::int64_t end = std::min(first + kShared, head_dim);
    for (std::int64_t d = first; d < end; d += 2) {
      if (d * kKeyGroup % kAskCodes == 0) ahead.ask(1);
      _mm512_storeu_si512(to + d * kKeyGroup,
                          join_pairs(decode_16<F>(_mm_loadu_si128(codes + d), scale),
                                     decode_16<F>(_mm_loadu_si128(codes + d + 1), scale)));
    }
  }
}

// A lane is a dimension: positions lie in pairs.
template <KvFormat F>
TG_AVX512 void expand_values(std::int64_t head_dim, const std::byte* group, NextStep& ahead,
                             Bf16* to) {
  constexpr std::int64_t kShared = kv_values_per_scale(F);
  const std::byte* stored = group + kKeyGroup * head_dim;
  float scales[kMaxHeadDim];  // [scales][kKeyGroup]; at most one for 16 dimensions
  for (std::int64_t i = 0; i < kv_scales(F, head_dim) * kKeyGroup; i += kKeyGroup) {
    _mm512_storeu_ps(scales + i, load_kv_scales<F>(stored + i * kv_scale_bytes(F)));
  }
  for (std::int64_t p = 0; p < kKeyGroup; p += 2) {
    const std::byte* even = group + p * head_dim;
    const std::byte* odd = even + head_dim;
    Bf16* pairs = to + p * head_dim;
    std::int64_t d = 0;
    for (; d + 16 <= head_dim; d += 16) {
      if ((p * head_dim + 2 * d) % kAskCodes == 0) ahead.ask(1);
      const float* scale = scales + d / kShared * kKeyGroup + p;
      _mm512_storeu_si512(
          pairs + 2 * d,
          join_pairs(decode_16<F>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(even + d)),
                                  _mm512_set1_ps(scale[0])),
                     decode_16<F>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(odd + d)),
                                  _mm512_set1_ps(scale[1]))));
    }
    if (d == head_dim) continue;
    const __mmask16 mask = first_lanes(head_dim - d);
    const float* scale = scales + d / kShared * kKeyGroup + p;
    _mm512_mask_storeu_epi32(
        pairs + 2 * d, mask,
        join_pairs(decode_16<F>(_mm_maskz_loadu_epi8(mask, even + d), _mm512_set1_ps(scale[0])),
                   decode_16<F>(_mm_maskz_loadu_epi8(mask, odd + d), _mm512_set1_ps(scale[1]))));
  }
}

}  // namespace tg::avx512
