// What: internal to the kernels layer: weights of each format (WeightOrder::kRows) as bf16, for the
//   tile unit: one group of a panel becomes 32 rows of 64 bytes, row = output. A weight is rounded
//   as to_bf16() does it.
// Who owns: nothing. Thread: any.
#pragma once

#include "kernels/avx512.h"

#define TG_AMX                                                                                  \
  __attribute__((                                                                               \
      target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vbmi,avx2," \
             "fma,f16c")))
#define TG_AMX_INLINE                                                                            \
  inline __attribute__((                                                                         \
      always_inline,                                                                             \
      target(                                                                                    \
          "amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vbmi,avx2,fma," \
          "f16c")))

namespace tg::amx {

inline constexpr std::int64_t kRowBytes = kGroup * 2;  // of an expanded group: 32 k
inline constexpr std::int64_t kExpandedBytes = kPanelWidth * kRowBytes;

// Asks for the line that is `ahead` bytes behind the one at `at`. expand() asks line by line
// between its work: all at once they fill the buffers of the level-1 cache and loads wait behind
// them (measured: 10 % for 8 inputs, 25 % for 32). Further ahead than some 4 KiB is slower again.
TG_AMX_INLINE void ask(const std::byte* at, std::int64_t ahead) {
  _mm_prefetch(reinterpret_cast<const char*>(at + ahead), _MM_HINT_T0);
}

TG_AMX_INLINE void store(std::byte* to, __m512i v) { _mm512_store_si512(to, v); }

// The group's 32 scales as f32 in memory, to be broadcast from there: a broadcast from a register
// would take the port that the shuffles need.
struct Scales {
  alignas(64) float at[kPanelWidth];

  TG_AMX_INLINE explicit Scales(const std::byte* halves) {
    const auto* from = reinterpret_cast<const __m256i*>(halves);
    _mm512_store_ps(at, _mm512_cvtph_ps(_mm256_load_si256(from)));
    _mm512_store_ps(at + 16, _mm512_cvtph_ps(_mm256_load_si256(from + 1)));
    __asm__ volatile("" : "+m"(at));
  }
};

struct ExpandBf16 {
  static constexpr WeightFormat kFormat = WeightFormat::kBf16;
  // How far ahead to ask for weights, with one block of inputs and with more.
  static constexpr std::int64_t kAheadOfOne = 1024;
  static constexpr std::int64_t kAheadOfTwo = 4096;

  static TG_AMX_INLINE void expand(const std::byte* group, const std::byte* /*header*/,
                                   std::byte* to, std::int64_t ahead) {
    TG_UNROLL
    for (std::int64_t i = 0; i < kPanelWidth; ++i) {
      ask(group + i * 64, ahead);
      store(to + i * 64, _mm512_load_si512(group + i * 64));
    }
  }
};

struct ExpandInt8 {
  static constexpr WeightFormat kFormat = WeightFormat::kInt8;
  static constexpr std::int64_t kAheadOfOne = 2560;
  static constexpr std::int64_t kAheadOfTwo = 2560;

  static TG_AMX_INLINE __m512 values(const std::byte* codes, __m512 scale) {
    const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(codes));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), scale);
  }

  static TG_AMX_INLINE void expand(const std::byte* group, const std::byte* /*header*/,
                                   std::byte* to, std::int64_t ahead) {
    ask(group + code_bytes(kFormat), ahead);
    const Scales scales(group + code_bytes(kFormat));
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < kPanelWidth; ++i) {
      if (i % 2 == 0) ask(group + i * kGroup, ahead);
      const __m512 scale = _mm512_set1_ps(scales.at[i]);
      const __m512 low = values(group + i * kGroup, scale);
      const __m512 high = values(group + i * kGroup + 16, scale);
      store(to + i * kRowBytes, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
  }
};

// The 16 values of an output's codes are a table, looked up for 32 k in one instruction; the tables
// of two outputs share a register, so that one conversion makes both: tables.of_two(output) has
// those of `output` and the next.
template <typename Tables>
TG_AMX_INLINE void look_up_nibbles(const std::byte* group, const Tables& tables, std::byte* to,
                                   std::int64_t ahead) {
  const __m512i low = _mm512_set1_epi16(15);
  const __m512i second = _mm512_set1_epi16(16);
  constexpr int kAndOr = 0xea;  // (a & b) | c
  for (std::int64_t i = 0; i < kPanelWidth / 4; ++i) {
    ask(group + i * 64, ahead);
    const __m512i q = _mm512_load_si512(group + i * 64);
    const __m512i first_two = tables.of_two(4 * i);
    const __m512i last_two = tables.of_two(4 * i + 2);
    const __m512i q0 = _mm512_and_si512(q, low);
    const __m512i q1 = _mm512_ternarylogic_epi32(_mm512_srli_epi16(q, 4), low, second, kAndOr);
    const __m512i q2 = _mm512_and_si512(_mm512_srli_epi16(q, 8), low);
    const __m512i q3 = _mm512_or_si512(_mm512_srli_epi16(q, 12), second);
    std::byte* rows = to + 4 * i * kRowBytes;
    store(rows, _mm512_permutexvar_epi16(q0, first_two));
    store(rows + kRowBytes, _mm512_permutexvar_epi16(q1, first_two));
    store(rows + 2 * kRowBytes, _mm512_permutexvar_epi16(q2, last_two));
    store(rows + 3 * kRowBytes, _mm512_permutexvar_epi16(q3, last_two));
  }
}

// The bf16 nearest to scale * q is, but for sign and exponent, that of scale * 1, 3, 5 or 7. These
// four are rounded for all outputs at once; an output's table of 16 is then the row {1 1 1 1 3 3 5
// 7} of its own, twice, plus what an addition to sign and exponent makes of it (kInt4Values is in
// that order). 0 is masked; a scale of 0 has no other code (packed_matrix.h).
struct ExpandInt4 {
  static constexpr WeightFormat kFormat = WeightFormat::kInt4;
  static constexpr std::int64_t kAheadOfOne = 2048;
  static constexpr std::int64_t kAheadOfTwo = 2560;

  // The 16 bytes of output o at [o % 8][o / 8].
  struct RowsOfEight {
    alignas(64) std::byte at[8][64];

    TG_AMX_INLINE explicit RowsOfEight(const std::byte* halves) {
      const auto* from = reinterpret_cast<const __m256i*>(halves);
      const __m512 low = _mm512_cvtph_ps(_mm256_load_si256(from));
      const __m512 high = _mm512_cvtph_ps(_mm256_load_si256(from + 1));
      const __m512i one = times(low, high, 1.0F);
      const __m512i three = times(low, high, 3.0F);
      const __m512i five = times(low, high, 5.0F);
      const __m512i seven = times(low, high, 7.0F);
      // Each 128 bits have eight outputs; "low" and "high" are four of them.
      four(_mm512_unpacklo_epi16(one, one), _mm512_unpacklo_epi16(three, three),
           _mm512_unpacklo_epi16(five, seven), at[0]);
      four(_mm512_unpackhi_epi16(one, one), _mm512_unpackhi_epi16(three, three),
           _mm512_unpackhi_epi16(five, seven), at[4]);
      __asm__ volatile("" : "+m"(at));
    }

    static TG_AMX_INLINE __m512i times(__m512 low, __m512 high, float q) {
      const __m512 by = _mm512_set1_ps(q);
      return (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(high, by), _mm512_mul_ps(low, by));
    }

    static TG_AMX_INLINE void four(__m512i ones, __m512i threes, __m512i rest, std::byte* to) {
      const __m512i first[2] = {_mm512_unpacklo_epi32(ones, ones),
                                _mm512_unpackhi_epi32(ones, ones)};
      const __m512i second[2] = {_mm512_unpacklo_epi32(threes, rest),
                                 _mm512_unpackhi_epi32(threes, rest)};
      for (int i = 0; i < 2; ++i) {
        store(to + 128 * i, _mm512_unpacklo_epi64(first[i], second[i]));
        store(to + 128 * i + 64, _mm512_unpackhi_epi64(first[i], second[i]));
      }
    }

    TG_AMX_INLINE __m512i table(std::int64_t output) const {
      // Units of the exponent (128), and the sign.
      const __m256i once = _mm256_setr_epi16(0, 128, 256, 0, 0, 128, 0, 0, -32768, -32640, -32512,
                                             -32384, -32768, -32640, -32768, -32768);
      constexpr __mmask32 kNotZero = 0xfff7fff7;
      const auto* row = reinterpret_cast<const __m128i*>(at[output % 8] + output / 8 * 16);
      return _mm512_maskz_add_epi16(kNotZero, _mm512_broadcast_i32x4(_mm_load_si128(row)),
                                    _mm512_broadcast_i64x4(once));
    }
  };

  static TG_AMX_INLINE void expand(const std::byte* group, const std::byte* /*header*/,
                                   std::byte* to, std::int64_t ahead) {
    ask(group + code_bytes(kFormat), ahead);
    const RowsOfEight rows(group + code_bytes(kFormat));
#pragma GCC unroll 8
    for (std::int64_t i = 0; i < kPanelWidth / 4; ++i) {
      ask(group + i * 64, ahead);
      // A look-up reads five bits; the table says the same whatever the fifth is.
      const __m512i q = _mm512_load_si512(group + i * 64);
      std::byte* out = to + 4 * i * kRowBytes;
      store(out, _mm512_permutexvar_epi16(q, rows.table(4 * i)));
      store(out + kRowBytes,
            _mm512_permutexvar_epi16(_mm512_srli_epi16(q, 4), rows.table(4 * i + 1)));
      store(out + 2 * kRowBytes,
            _mm512_permutexvar_epi16(_mm512_srli_epi16(q, 8), rows.table(4 * i + 2)));
      store(out + 3 * kRowBytes,
            _mm512_permutexvar_epi16(_mm512_srli_epi16(q, 12), rows.table(4 * i + 3)));
    }
  }
};

// Group g of the panel, which begins with a header.
template <typename Expand>
TG_AMX_INLINE void expand_group(const std::byte* panel, std::int64_t g, std::byte* to,
                                std::int64_t ahead) {
  constexpr WeightFormat kFormat = Expand::kFormat;
  const std::byte* header = panel + header_at(kFormat, g);
  if constexpr (header_bytes(kFormat) > 0) {
    if (g % kHeaderGroups == 0) {
      for (std::int64_t line = 0; line < header_bytes(kFormat); line += 64) {
        ask(header + line, ahead);
      }
    }
  }
  Expand::expand(panel + group_at(kFormat, g), header, to, ahead);
}

}  // namespace tg::amx
