// What: internal to the kernels layer: GGUF's formats of blocks of 256 as bf16 for the tile unit
//   (see amx_expand.h). The operations on f32 are those of checkpoint/dequantize.cpp, so the values
//   are bit for bit what reading the tensor as f32 and rounding it gives.
// Who owns: nothing. Thread: any.
#pragma once

#include "kernels/amx_expand.h"

namespace tg::amx {

TG_AMX_INLINE __m512 halves_at(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
}

TG_AMX_INLINE __m128i bytes_at(const std::byte* p) {
  return _mm_load_si128(reinterpret_cast<const __m128i*>(p));
}

// As of int4, with a minimum that is taken from each of the 16 values.
struct ExpandQ4K {
  static constexpr WeightFormat kFormat = WeightFormat::kQ4K;
  static constexpr std::int64_t kAheadOfOne = 2560;
  static constexpr std::int64_t kAheadOfTwo = 4096;

  struct Tables {
    alignas(64) float scale[kPanelWidth];
    alignas(64) float minimum[kPanelWidth];

    TG_AMX_INLINE Tables(const std::byte* group, const std::byte* header) {
      const std::byte* scales = group + code_bytes(kFormat);
      TG_UNROLL
      for (std::int64_t i = 0; i < kPanelWidth; i += 16) {
        const __m512 s = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes_at(scales + i)));
        const __m512 m =
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes_at(scales + kPanelWidth + i)));
        _mm512_store_ps(scale + i, _mm512_mul_ps(halves_at(header + 2 * i), s));
        _mm512_store_ps(minimum + i, _mm512_mul_ps(halves_at(header + 2 * (kPanelWidth + i)), m));
      }
      __asm__ volatile("" : "+m"(scale), "+m"(minimum));
    }

    TG_AMX_INLINE __m512 values(std::int64_t output) const {
      const __m512 codes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      return _mm512_sub_ps(_mm512_mul_ps(codes, _mm512_set1_ps(scale[output])),
                           _mm512_set1_ps(minimum[output]));
    }
    TG_AMX_INLINE __m512i of_two(std::int64_t output) const {
      return (__m512i)_mm512_cvtne2ps_pbh(values(output + 1), values(output));
    }
  };

  static TG_AMX_INLINE void expand(const std::byte* group, const std::byte* header, std::byte* to,
                                   std::int64_t ahead) {
    ask(group + code_bytes(kFormat), ahead);
    look_up_nibbles(group, Tables(group, header), to, ahead);
  }
};

// A code of 6 bits looks up q - 32 as bf16, which holds it exactly, in a table that all share; two
// shifts make f32 of it. Words are in the order k 0, 16, 1, 17, ... : low halves are the first 16
// k, high ones the others, each with a scale of its own.
struct ExpandQ6K {
  static constexpr WeightFormat kFormat = WeightFormat::kQ6K;
  static constexpr std::int64_t kAheadOfOne = 2560;
  static constexpr std::int64_t kAheadOfTwo = 2560;
  static constexpr std::int64_t kHigh = kGroup * kPanelWidth / 2;  // where the words of 2 bits are

  struct Scales16 {
    alignas(64) float at[2][kPanelWidth];

    TG_AMX_INLINE Scales16(const std::byte* group, const std::byte* header) {
      const std::byte* scales = group + code_bytes(kFormat);
      TG_UNROLL
      for (std::int64_t i = 0; i < kPanelWidth; i += 16) {
        const __m512 d = halves_at(header + 2 * i);
        TG_UNROLL
        for (std::int64_t half = 0; half < 2; ++half) {
          const __m512i s = _mm512_cvtepi8_epi32(bytes_at(scales + half * kPanelWidth + i));
          _mm512_store_ps(at[half] + i, _mm512_mul_ps(d, _mm512_cvtepi32_ps(s)));
        }
      }
      __asm__ volatile("" : "+m"(at));
    }
  };

  // The integers from `first` on as bf16.
  static TG_AMX_INLINE __m512i integers_from(int first) {
    const __m512i steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i low = _mm512_add_epi32(steps, _mm512_set1_epi32(first));
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(16));
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_cvtepi32_ps(high), _mm512_cvtepi32_ps(low));
  }

  // A row of output `output` from its fields: 4 bits of `low` from bit 4 * (output % 4), 2 of
  // `high` from bit 2 * (output % 8).
  static TG_AMX_INLINE void row(__m512i low, __m512i high, const Scales16& scales,
                                std::int64_t output, std::byte* to) {
    const auto shift = static_cast<unsigned>(output % 4 * 4);
    const int pair = static_cast<int>(output % 8 * 2) - 4;
    const __m512i nibbles = _mm512_srli_epi16(low, shift);
    const __m512i pairs = pair < 0 ? _mm512_slli_epi16(high, static_cast<unsigned>(-pair))
                                   : _mm512_srli_epi16(high, static_cast<unsigned>(pair));
    // The look-up takes 6 bits and ignores those above.
    constexpr int kFirstWhereThird = 0xe4;  // c ? a : b
    const __m512i codes =
        _mm512_ternarylogic_epi32(nibbles, pairs, _mm512_set1_epi16(15), kFirstWhereThird);
    const __m512i q = _mm512_permutex2var_epi16(integers_from(-32), codes, integers_from(0));
    const __m512 first = _mm512_castsi512_ps(_mm512_slli_epi32(q, 16));
    const __m512 second =
        _mm512_castsi512_ps(_mm512_and_si512(q, _mm512_set1_epi32(static_cast<int>(0xffff0000U))));
    store(to + output * kRowBytes,
          (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(second, _mm512_set1_ps(scales.at[1][output])),
                                       _mm512_mul_ps(first, _mm512_set1_ps(scales.at[0][output]))));
  }

  static TG_AMX_INLINE void expand(const std::byte* group, const std::byte* header, std::byte* to,
                                   std::int64_t ahead) {
    ask(group + code_bytes(kFormat), ahead);
    const Scales16 scales(group, header);
    for (std::int64_t i = 0; i < kPanelWidth; i += 8) {
      ask(group + kHigh + i * 8, ahead);
      const __m512i high = _mm512_load_si512(group + kHigh + i * 8);
      TG_UNROLL
      for (std::int64_t j = 0; j < 8; j += 4) {
        ask(group + (i + j) * 16, ahead);
        const __m512i low = _mm512_load_si512(group + (i + j) * 16);
        TG_UNROLL
        for (std::int64_t output = 0; output < 4; ++output) {
          row(low, high, scales, i + j + output, to);
        }
      }
    }
  }
};

}  // namespace tg::amx
