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
  static constexpr std::int64_t kAheadOfOne = 4096;
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

struct ExpandInt4 {
  static constexpr WeightFormat kFormat = WeightFormat::kInt4;
  static constexpr std::int64_t kAheadOfOne = 4096;
  static constexpr std::int64_t kAheadOfTwo = 2560;

  struct Tables {
    Scales scales;

    TG_AMX_INLINE explicit Tables(const std::byte* halves) : scales(halves) {}
    TG_AMX_INLINE __m512i of_two(std::int64_t output) const {
      const __m512 codes = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
      const float* at = scales.at + output;
      return (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(codes, _mm512_set1_ps(at[1])),
                                          _mm512_mul_ps(codes, _mm512_set1_ps(at[0])));
    }
  };

  static TG_AMX_INLINE void expand(const std::byte* group, const std::byte* /*header*/,
                                   std::byte* to, std::int64_t ahead) {
    ask(group + code_bytes(kFormat), ahead);
    look_up_nibbles(group, Tables(group + code_bytes(kFormat)), to, ahead);
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
