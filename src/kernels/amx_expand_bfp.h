// What: internal to the kernels layer: block float as bf16 for the tile unit (see amx_expand.h).
//   The values are exact.
// Who owns: nothing. Thread: any.
#pragma once

#include "kernels/amx_expand_k.h"
#include "tensor/block_float.h"

namespace tg::amx {

// What a code of 1 is worth in the two blocks of the group of each output: bfp_unit().
template <int kMagnitudeBits>
struct Units {
  alignas(64) float at[2][kPanelWidth];

  TG_AMX_INLINE explicit Units(const std::byte* exponents) {
    constexpr int kLess = kMagnitudeBits - 1;
    const __m512i less = _mm512_set1_epi32(kLess);
    for (std::int64_t i = 0; i < 2 * kPanelWidth; i += 16) {
      const __m512i e = _mm512_cvtepu8_epi32(bytes_at(exponents + i));
      const __m512i subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(1 << (22 - kLess)), e);
      const __m512i unit = _mm512_mask_slli_epi32(subnormal, _mm512_cmpgt_epi32_mask(e, less),
                                                  _mm512_sub_epi32(e, less), 23);
      _mm512_store_si512(at[0] + i, _mm512_maskz_mov_epi32(_mm512_test_epi32_mask(e, e), unit));
    }
    __asm__ volatile("" : "+m"(at));
  }
};

// As int8, with a scale per 16 k.
struct ExpandBfp8 {
  static constexpr WeightFormat kFormat = WeightFormat::kBfp8;
  static constexpr std::int64_t kAheadOfOne = ExpandInt8::kAheadOfOne;
  static constexpr std::int64_t kAheadOfTwo = ExpandInt8::kAheadOfTwo;

  static TG_AMX_INLINE void expand(const std::byte* group, const std::byte* /*header*/,
                                   std::byte* to, std::int64_t ahead) {
    ask(group + code_bytes(kFormat), ahead);
    const Units<kBfp8Bits> units(group + code_bytes(kFormat));
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < kPanelWidth; ++i) {
      if (i % 2 == 0) ask(group + i * kGroup, ahead);
      const std::byte* codes = group + i * kGroup;
      const __m512 low = ExpandInt8::values(codes, _mm512_set1_ps(units.at[0][i]));
      const __m512 high = ExpandInt8::values(codes + 16, _mm512_set1_ps(units.at[1][i]));
      store(to + i * kRowBytes, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
  }
};

// A table of 32 per output: the 16 values of the codes of its first 16 k, and of the others.
struct ExpandBfp4 {
  static constexpr WeightFormat kFormat = WeightFormat::kBfp4;
  static constexpr std::int64_t kAheadOfOne = ExpandInt4::kAheadOfOne;
  static constexpr std::int64_t kAheadOfTwo = ExpandInt4::kAheadOfTwo;

  static TG_AMX_INLINE __m512i table(const Units<kBfp4Bits>& units, std::int64_t output) {
    const __m512 codes = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(codes, _mm512_set1_ps(units.at[1][output])),
                                        _mm512_mul_ps(codes, _mm512_set1_ps(units.at[0][output])));
  }

  static TG_AMX_INLINE void expand(const std::byte* group, const std::byte* /*header*/,
                                   std::byte* to, std::int64_t ahead) {
    ask(group + code_bytes(kFormat), ahead);
    const Units<kBfp4Bits> units(group + code_bytes(kFormat));
    const __m512i low = _mm512_set1_epi16(15);
    // The second half of the table for the second half of the words.
    const __m512i second = _mm512_maskz_set1_epi16(0xffff0000U, 16);
    constexpr int kAndOr = 0xea;  // (a & b) | c
    for (std::int64_t i = 0; i < kPanelWidth / 4; ++i) {
      ask(group + i * 64, ahead);
      const __m512i q = _mm512_load_si512(group + i * 64);
      TG_UNROLL
      for (std::int64_t j = 0; j < 4; ++j) {
        const __m512i field = _mm512_srli_epi16(q, static_cast<unsigned>(4 * j));
        const __m512i at = _mm512_ternarylogic_epi32(field, low, second, kAndOr);
        store(to + (4 * i + j) * kRowBytes, _mm512_permutexvar_epi16(at, table(units, 4 * i + j)));
      }
    }
  }
};

}  // namespace tg::amx
