// Integer weights with AVX2. Without VNNI: |w| times the inputs under w's sign are added in pairs
// as 16-bit numbers, which cannot overflow (2 x 128 x 127), and those in pairs as 32-bit ones.
// Nibbles q + 8 are unsigned as they are, and 8 such pairs still fit 16 bits (8 x 2 x 15 x 127).
// With AVX-VNNI (the 256-bit form on CPUs without AVX-512): one instruction, as in avx512_vnni.cpp.
#include "kernels/avx2.h"
#include "kernels/quantized_walk.h"
#include "kernels/tables.h"

#define TG_AVX_VNNI __attribute__((target("avx2,fma,f16c,avxvnni")))
#define TG_AVX2_F16 __attribute__((target("avx2,fma,f16c")))
#define TG_AVX2_F16_INLINE inline __attribute__((always_inline, target("avx2,fma,f16c")))

namespace tg {
namespace {

TG_AVX2_F16_INLINE __m256i load_codes(const std::byte* codes) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(codes));
}

// Says that `sum` is complete here. Without, g++ 12 adds products to each other first and to the
// sum last, for which it keeps them all: in memory, as there are 16 registers (2.3 times as many
// instructions in a tile of 3 rows).
TG_AVX2_F16_INLINE void keep_order(__m256i& sum) { asm("" : "+x"(sum)); }

TG_AVX2_F16_INLINE __m256i load_inputs(const std::int8_t* x, int i) {
  std::int32_t four = 0;
  std::memcpy(&four, x + 4 * i, sizeof(four));
  return _mm256_set1_epi32(four);
}

// Sums of one group for R rows x 16 outputs, whose codes begin at `w`. The loops over k stay loops:
// a compiler that sees all of them at once keeps more products waiting than there are registers.
template <bool kInt4, int R>
TG_AVX2_F16_INLINE void dot_group(const std::int8_t* x, const std::int32_t* corrections,
                                  const std::byte* w, __m256i (&out)[R][2]) {
  const __m256i ones = _mm256_set1_epi16(1);
  TG_UNROLL
  for (int r = 0; r < R; ++r) out[r][0] = out[r][1] = _mm256_setzero_si256();
  if constexpr (kInt4) {
    const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 1
    for (int i = 0; i < 4; ++i) {
      __m256i codes[2][2];  // [k 0..15, k 16..31][outputs]
      TG_UNROLL
      for (int v = 0; v < 2; ++v) {
        const __m256i nibbles = load_codes(w + i * 64 + v * 32);
        codes[0][v] = _mm256_and_si256(nibbles, low);
        codes[1][v] = _mm256_and_si256(_mm256_srli_epi16(nibbles, 4), low);
      }
      TG_UNROLL
      for (int r = 0; r < R; ++r) {
        TG_UNROLL
        for (int part = 0; part < 2; ++part) {
          const __m256i inputs = load_inputs(x + r * kGroup, i + 4 * part);
          TG_UNROLL
          for (int v = 0; v < 2; ++v) {
            out[r][v] = _mm256_add_epi16(out[r][v], _mm256_maddubs_epi16(codes[part][v], inputs));
            keep_order(out[r][v]);
          }
        }
      }
    }
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m256i correction = _mm256_set1_epi32(corrections[r] >> 4);
      TG_UNROLL
      for (int v = 0; v < 2; ++v) {
        out[r][v] = _mm256_add_epi32(_mm256_madd_epi16(out[r][v], ones), correction);
      }
    }
  } else {
#pragma GCC unroll 1
    for (int i = 0; i < 8; ++i) {
      __m256i codes[2];
      __m256i sizes[2];
      TG_UNROLL
      for (int v = 0; v < 2; ++v) {
        codes[v] = load_codes(w + i * 64 + v * 32);
        sizes[v] = _mm256_abs_epi8(codes[v]);
      }
      TG_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m256i inputs = load_inputs(x + r * kGroup, i);
        TG_UNROLL
        for (int v = 0; v < 2; ++v) {
          const __m256i pairs = _mm256_maddubs_epi16(sizes[v], _mm256_sign_epi8(inputs, codes[v]));
          out[r][v] = _mm256_add_epi32(out[r][v], _mm256_madd_epi16(pairs, ones));
          keep_order(out[r][v]);
        }
      }
    }
  }
}

template <bool kInt4, int R>
TG_AVX_VNNI inline void dot_group_vnni(const std::int8_t* x, const std::int32_t* corrections,
                                       const std::byte* w, __m256i (&out)[R][2]) {
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    out[r][0] = out[r][1] = _mm256_set1_epi32(kInt4 ? corrections[r] >> 4 : corrections[r]);
  }
  constexpr int kQuads = kInt4 ? 4 : 8;
#pragma GCC unroll 1
  for (int i = 0; i < kQuads; ++i) {
    __m256i codes[kInt4 ? 2 : 1][2];
    TG_UNROLL
    for (int v = 0; v < 2; ++v) {
      const __m256i stored = load_codes(w + i * 64 + v * 32);
      if constexpr (kInt4) {
        const __m256i low = _mm256_set1_epi8(15);
        codes[0][v] = _mm256_and_si256(stored, low);
        codes[1][v] = _mm256_and_si256(_mm256_srli_epi16(stored, 4), low);
      } else {
        codes[0][v] = _mm256_xor_si256(stored, _mm256_set1_epi8(static_cast<char>(0x80)));
      }
    }
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      TG_UNROLL
      for (int part = 0; part < (kInt4 ? 2 : 1); ++part) {
        const __m256i inputs = load_inputs(x + r * kGroup, i + 4 * part);
        TG_UNROLL
        for (int v = 0; v < 2; ++v) {
          out[r][v] = _mm256_dpbusd_avx_epi32(out[r][v], codes[part][v], inputs);
        }
      }
    }
  }
}

// Where a single row asks for weights: so many bytes ahead in each stream. (512 and 1024 reach 0.81
// and 0.89 of the read speed of two cores of a Zen 3; 256 to 4096 lie within 0.1 of that, none at
// 0.7.)
constexpr std::int64_t kInt8Ahead = 512;
constexpr std::int64_t kInt4Ahead = 1024;

// Sums stay in the level-1 cache: with them in registers too, the integer sums of 4 rows x 2
// vectors (8 of 16 registers) would not. Both halves of a group follow each other, so that memory
// is read in order.
#define TG_QUANTIZED_TILE(Name, target, dot)                                                      \
  template <bool kInt4, int R>                                                                    \
  target void Name(const QuantizedTile& t, std::int64_t panels) {                                 \
    constexpr WeightFormat kFormat = kInt4 ? WeightFormat::kInt4 : WeightFormat::kInt8;           \
    constexpr std::int64_t kBytes = group_bytes(kFormat);                                         \
    const std::int8_t* x = t.codes;                                                               \
    const float* scales = t.scales;                                                               \
    const std::int32_t* corrections = t.corrections;                                              \
    const std::byte* next = t.next;                                                               \
    for (std::int64_t g = 0; g < t.groups; ++g) {                                                 \
      const bool first_sum = t.first && g == 0;                                                   \
      if constexpr (R > 1) {                                                                      \
        for (std::int64_t line = 0; line < t.next_lines; ++line, next += 64) {                    \
          _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);                         \
        }                                                                                         \
      }                                                                                           \
      for (std::int64_t p = 0; p < panels; ++p) {                                                 \
        const std::byte* w = t.w + p * t.panel_stride + g * kBytes;                               \
        if constexpr (R == 1) {                                                                   \
          const char* ahead =                                                                     \
              reinterpret_cast<const char*>(w) + (kInt4 ? kInt4Ahead : kInt8Ahead);               \
          TG_UNROLL                                                                               \
          for (std::int64_t at = 0; at < kBytes; at += 64) _mm_prefetch(ahead + at, _MM_HINT_T0); \
        }                                                                                         \
        TG_UNROLL                                                                                 \
        for (int first = 0; first < 4; first += 2) {                                              \
          const std::byte* half = w + first / 2 * half_code_bytes(kFormat);                       \
          __m256i integers[R][2];                                                                 \
          dot;                                                                                    \
          TG_UNROLL                                                                               \
          for (int v = 0; v < 2; ++v) {                                                           \
            const __m256 scale = _mm256_cvtph_ps(_mm_load_si128(                                  \
                reinterpret_cast<const __m128i*>(w + code_bytes(kFormat) + 16 * (first + v))));   \
            TG_UNROLL                                                                             \
            for (int r = 0; r < R; ++r) {                                                         \
              float* sum = t.sums + r * kSumsStride + p * kPanelWidth + 8 * (first + v);          \
              const __m256 before = first_sum ? _mm256_setzero_ps() : _mm256_load_ps(sum);        \
              const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(integers[r][v]), scale);     \
              _mm256_store_ps(sum, _mm256_fmadd_ps(scaled, _mm256_set1_ps(scales[r]), before));   \
            }                                                                                     \
          }                                                                                       \
        }                                                                                         \
      }                                                                                           \
      x += t.code_stride;                                                                         \
      scales += t.stride;                                                                         \
      corrections += t.stride;                                                                    \
    }                                                                                             \
  }

TG_QUANTIZED_TILE(tile_plain, TG_AVX2_F16, (dot_group<kInt4, R>(x, corrections, half, integers)))
TG_QUANTIZED_TILE(tile_vnni, TG_AVX_VNNI,
                  (dot_group_vnni<kInt4, R>(x, corrections, half, integers)))
#undef TG_QUANTIZED_TILE

template <bool kVnni, bool kInt4>
void tile_of(std::int64_t rows, std::int64_t panels, const QuantizedTile& t) {
  using Function = void (*)(const QuantizedTile&, std::int64_t);
  static constexpr Function kPlain[] = {tile_plain<kInt4, 1>, tile_plain<kInt4, 2>,
                                        tile_plain<kInt4, 3>, tile_plain<kInt4, 4>};
  static constexpr Function kWithVnni[] = {tile_vnni<kInt4, 1>, tile_vnni<kInt4, 2>,
                                           tile_vnni<kInt4, 3>, tile_vnni<kInt4, 4>};
  (kVnni ? kWithVnni : kPlain)[rows - 1](t, panels);
}

template <bool kVnni>
struct Avx2 {
  static constexpr std::int64_t kRows = 4;
  // One row waits for memory: two panels are two streams of it.
  static std::int64_t panels_for(std::int64_t rows) { return rows == 1 ? 2 : 1; }
  static void tile(WeightFormat format, std::int64_t rows, std::int64_t panels,
                   const QuantizedTile& t) {
    (format == WeightFormat::kInt4 ? tile_of<kVnni, true> : tile_of<kVnni, false>)(rows, panels, t);
  }
};

template <typename X>
TG_AVX2 void quantize(const X* x, std::int64_t k, const QuantizedRows& out, std::int64_t row) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  for (std::int64_t g = 0; g < out.groups; ++g, x += kGroup) {
    __m256 values[4];
    __m256i largest = _mm256_setzero_si256();
    TG_UNROLL
    for (int i = 0; i < 4; ++i) {
      const std::int64_t left = k - g * kGroup - 8 * i;
      values[i] = left > 0 ? avx2::load_first(x + 8 * i, left) : _mm256_setzero_ps();
      const __m256i bits = _mm256_and_si256(_mm256_castps_si256(values[i]), magnitude);
      largest = _mm256_max_epi32(largest, bits);
    }
    alignas(32) std::uint32_t lanes[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), largest);
    const GroupScale scale = group_scale(*std::max_element(lanes, lanes + 8));
    const __m256 inverse = _mm256_set1_ps(scale.inverse);
    const __m256i valid = _mm256_set1_epi32(scale.inverse == 0.0F ? 0 : -1);
    __m256i codes[4];
    __m256i sum = _mm256_setzero_si256();
    TG_UNROLL
    for (int i = 0; i < 4; ++i) {
      codes[i] = _mm256_and_si256(_mm256_cvtps_epi32(_mm256_mul_ps(values[i], inverse)), valid);
      sum = _mm256_add_epi32(sum, codes[i]);
    }
    // Packing works in 128-bit halves; the permutation puts its pieces in order.
    const __m256i bytes =
        _mm256_permutevar8x32_epi32(_mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]),
                                                       _mm256_packs_epi32(codes[2], codes[3])),
                                    _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    const std::int64_t at = g * out.rows + row;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.codes + at * kGroup), bytes);
    out.scales[at] = scale.scale;
    alignas(32) std::int32_t sums[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums), sum);
    std::int32_t total = 0;
    for (const std::int32_t s : sums) total += s;
    out.corrections[at] = -128 * total;
  }
}

}  // namespace

void matmul_quantized_avx2(const MatmulArgs& args, std::int64_t panel_begin,
                           std::int64_t panel_end) {
  if (__builtin_cpu_supports("avxvnni")) {
    walk_quantized<Avx2<true>>(args, panel_begin, panel_end);
  } else {
    walk_quantized<Avx2<false>>(args, panel_begin, panel_end);
  }
}

void quantize_avx2(const void* x, ComputeDType dtype, std::int64_t k, const QuantizedRows& out,
                   std::int64_t row) {
  if (dtype == ComputeDType::kBf16) {
    quantize(static_cast<const Bf16*>(x), k, out, row);
  } else {
    quantize(static_cast<const float*>(x), k, out, row);
  }
}

}  // namespace tg
