// Integer weights with vpdpbusd: 4 products of unsigned and signed bytes are added to a 32-bit sum.
// The weights are the unsigned side (int8 becomes q + 128, nibbles are q + 8 as they are), and each
// integer sum begins at what that is too much.
#include "kernels/avx512.h"
#include "kernels/quantized_walk.h"
#include "kernels/tables.h"

#define TG_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))
#define TG_VNNI_INLINE                 \
  inline __attribute__((always_inline, \
                        target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))

namespace tg {
namespace vnni {
namespace {

// Codes of 4 k x 16 outputs, unsigned: quad `i` of 8 of a half panel.
template <bool kInt4>
TG_AVX512_INLINE __m512i weights_of(const std::byte* half, int i) {
  if constexpr (kInt4) {
    const __m512i nibbles = _mm512_load_si512(half + i % 4 * 64);
    const __m512i low = _mm512_set1_epi8(15);
    return _mm512_and_si512(i < 4 ? nibbles : _mm512_srli_epi16(nibbles, 4), low);
  } else {
    return _mm512_xor_si512(_mm512_load_si512(half + i * 64),
                            _mm512_set1_epi8(static_cast<char>(0x80)));
  }
}

// A product of few rows asks for the weights of two to four groups ahead in each of its streams:
// 7 % faster than asking for those of the next visit, and than 512 or 6528 bytes ahead.
constexpr std::int64_t kAhead = 2176;

// The integer sums of a group of one panel with every line read in the order of memory, one half
// panel after the other.
template <bool kInt4, int R>
TG_VNNI_INLINE void dot_in_order(const std::byte* w, const std::int8_t* x,
                                 const std::int32_t* corrections, __m512i (&integers)[R][2]) {
  constexpr std::int64_t kHalf = half_code_bytes(kInt4 ? WeightFormat::kInt4 : WeightFormat::kInt8);
  TG_UNROLL
  for (int h = 0; h < 2; ++h) {
    // Quads 0 to 3 and 4 to 7 each have a sum of their own, so that no sum waits for another.
    __m512i sum[R][2];
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      sum[r][0] = _mm512_set1_epi32(kInt4 ? corrections[r] >> 4 : corrections[r]);
      sum[r][1] = _mm512_setzero_si512();
    }
    TG_UNROLL
    for (int i = 0; i < 8; ++i) {
      // A line of nibbles has quads i and i + 4.
      const int quad = kInt4 ? i / 2 + i % 2 * 4 : i;
      const __m512i weights = weights_of<kInt4>(w + h * kHalf, quad);
      TG_UNROLL
      for (int r = 0; r < R; ++r) {
        std::int32_t four = 0;
        std::memcpy(&four, x + r * kGroup + 4 * quad, sizeof(four));
        sum[r][quad / 4] = _mm512_dpbusd_epi32(sum[r][quad / 4], weights, _mm512_set1_epi32(four));
      }
    }
    TG_UNROLL
    for (int r = 0; r < R; ++r) integers[r][h] = _mm512_add_epi32(sum[r][0], sum[r][1]);
  }
}

template <bool kInt4, int R, int P, bool kInOrder = false>
TG_VNNI void tile(const QuantizedTile& t) {
  constexpr int kV = 2 * P;
  constexpr WeightFormat kFormat = kInt4 ? WeightFormat::kInt4 : WeightFormat::kInt8;
  constexpr std::int64_t kHalf = half_code_bytes(kFormat);
  __m512 sums[R][kV];
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int v = 0; v < kV; ++v) {
      sums[r][v] =
          t.first ? _mm512_setzero_ps() : _mm512_load_ps(t.sums + r * kSumsStride + 16 * v);
    }
  }
  const std::int8_t* x = t.codes;
  const float* scales = t.scales;
  const std::int32_t* corrections = t.corrections;
  const std::byte* w = t.w;
  const std::byte* next = t.next;
  for (std::int64_t g = 0; g < t.groups; ++g) {
    __m512i integers[R][kV];
    if constexpr (kInOrder) {
      dot_in_order<kInt4>(w, x, corrections, integers);
    } else {
      if constexpr (P > 1) {
        for (int p = 0; p < P; ++p) {
          const std::byte* ahead = w + p * t.panel_stride + kAhead;
          for (int line = 0; line < group_bytes(kFormat) / 64; ++line) {
            _mm_prefetch(reinterpret_cast<const char*>(ahead + 64 * line), _MM_HINT_T0);
          }
        }
      } else {
        for (std::int64_t line = 0; line < t.next_lines; ++line, next += 64) {
          _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
        }
      }
      TG_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512i start = _mm512_set1_epi32(kInt4 ? corrections[r] >> 4 : corrections[r]);
        TG_UNROLL
        for (int v = 0; v < kV; ++v) integers[r][v] = start;
      }
      TG_UNROLL
      for (int i = 0; i < 8; ++i) {
        __m512i weights[kV];
        TG_UNROLL
        for (int v = 0; v < kV; ++v) {
          weights[v] = weights_of<kInt4>(w + v / 2 * t.panel_stride + v % 2 * kHalf, i);
        }
        TG_UNROLL
        for (int r = 0; r < R; ++r) {
          std::int32_t four = 0;
          std::memcpy(&four, x + r * kGroup + 4 * i, sizeof(four));
          const __m512i inputs = _mm512_set1_epi32(four);
          TG_UNROLL
          for (int v = 0; v < kV; ++v) {
            integers[r][v] = _mm512_dpbusd_epi32(integers[r][v], weights[v], inputs);
          }
        }
      }
    }
    TG_UNROLL
    for (int v = 0; v < kV; ++v) {
      const __m512 scale = _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(
          w + v / 2 * t.panel_stride + code_bytes(kFormat) + v % 2 * 32)));
      TG_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(integers[r][v]), scale);
        sums[r][v] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(scales[r]), sums[r][v]);
      }
    }
    x += t.code_stride;
    scales += t.stride;
    corrections += t.stride;
    w += group_bytes(kFormat);
  }
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int v = 0; v < kV; ++v) _mm512_store_ps(t.sums + r * kSumsStride + 16 * v, sums[r][v]);
  }
}

using TileFunction = void (*)(const QuantizedTile&);

// By rows less one.
template <bool kInt4>
constexpr TileFunction kOnePanel[] = {tile<kInt4, 1, 1>, tile<kInt4, 2, 1>, tile<kInt4, 3, 1>,
                                      tile<kInt4, 4, 1>, tile<kInt4, 5, 1>, tile<kInt4, 6, 1>,
                                      tile<kInt4, 7, 1>};
template <bool kInt4>
constexpr TileFunction kMorePanels[] = {tile<kInt4, 1, 4>, tile<kInt4, 2, 2>, tile<kInt4, 3, 2>};
template <bool kInt4>
constexpr TileFunction kInOrder[] = {tile<kInt4, 1, 1, true>, tile<kInt4, 2, 1, true>};

constexpr std::int64_t kFewRows = 2;  // these do nothing but wait for memory

// For the table avx512, which Intel's CPUs take: their few requests of the first cache have to be
// spread. Few rows leave registers free for more panels, hence more streams of memory side by side.
struct Streams {
  // 6 rows x 2 vectors = 12 integer and 12 f32 sums, 2 weights, 1 broadcast and 1 constant = 28 of
  // 32 registers.
  static constexpr std::int64_t kRows = 6;
  static std::int64_t panels_for(std::int64_t rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }
  static void tile(WeightFormat format, std::int64_t rows, std::int64_t panels,
                   const QuantizedTile& t) {
    const auto at = static_cast<std::size_t>(rows - 1);
    if (format == WeightFormat::kInt4) {
      (panels == 1 ? kOnePanel<true> : kMorePanels<true>)[at](t);
    } else {
      (panels == 1 ? kOnePanel<false> : kMorePanels<false>)[at](t);
    }
  }
};

// For the table avx512bf16, which AMD's take: their own reading ahead is at its best with one
// stream in order and nothing asked for: 0.94 (int8) and 1.0 (int4) of the speed of plain reads by
// both cores of a Zen 4 with one row, where two to four streams, or lines asked for, gave 0.6 to
// 0.9.
struct OneStream {
  // 7 rows take all registers; 32 rows are 5 tiles instead of 6, 3 % faster with int8.
  static constexpr std::int64_t kRows = 7;
  static std::int64_t panels_for(std::int64_t /*rows*/) { return 1; }
  static void tile(WeightFormat format, std::int64_t rows, std::int64_t /*panels*/,
                   const QuantizedTile& t) {
    const auto at = static_cast<std::size_t>(rows - 1);
    const bool int4 = format == WeightFormat::kInt4;
    if (rows <= kFewRows) {
      (int4 ? kInOrder<true> : kInOrder<false>)[at](t);
    } else {
      (int4 ? kOnePanel<true> : kOnePanel<false>)[at](t);
    }
  }
};

}  // namespace
}  // namespace vnni

void matmul_quantized_vnni(const MatmulArgs& args, std::int64_t panel_begin,
                           std::int64_t panel_end) {
  walk_quantized<vnni::Streams>(args, panel_begin, panel_end);
}

void matmul_quantized_vnni_in_order(const MatmulArgs& args, std::int64_t panel_begin,
                                    std::int64_t panel_end) {
  walk_quantized<vnni::OneStream>(args, panel_begin, panel_end);
}

namespace {

template <typename X>
TG_AVX512 void quantize(const X* x, std::int64_t k, const QuantizedRows& out, std::int64_t row) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (std::int64_t g = 0; g < out.groups; ++g, x += kGroup) {
    const std::int64_t left = k - g * kGroup;
    const __m512 low = avx512::load_masked(x, avx512::first_lanes(left));
    const __m512 high = avx512::load_masked(x + 16, avx512::first_lanes(left - 16));
    // As integers, magnitudes keep their order, and what is not a number comes above all.
    const auto largest = static_cast<std::uint32_t>(_mm512_reduce_max_epu32(
        _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(low), magnitude),
                         _mm512_and_si512(_mm512_castps_si512(high), magnitude))));
    const GroupScale scale = group_scale(largest);
    const __m512 inverse = _mm512_set1_ps(scale.inverse);
    const __mmask16 valid =
        scale.inverse == 0.0F ? static_cast<__mmask16>(0) : static_cast<__mmask16>(0xffff);
    const __m512i a = _mm512_maskz_cvtps_epi32(valid, _mm512_mul_ps(low, inverse));
    const __m512i b = _mm512_maskz_cvtps_epi32(valid, _mm512_mul_ps(high, inverse));
    const std::int64_t at = g * out.rows + row;
    auto* codes = reinterpret_cast<__m128i*>(out.codes + at * kGroup);
    _mm_storeu_si128(codes, _mm512_cvtepi32_epi8(a));
    _mm_storeu_si128(codes + 1, _mm512_cvtepi32_epi8(b));
    out.scales[at] = scale.scale;
    out.corrections[at] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
  }
}

}  // namespace

void quantize_avx512(const void* x, ComputeDType dtype, std::int64_t k, const QuantizedRows& out,
                     std::int64_t row) {
  if (dtype == ComputeDType::kBf16) {
    quantize(static_cast<const Bf16*>(x), k, out, row);
  } else {
    quantize(static_cast<const float*>(x), k, out, row);
  }
}

}  // namespace tg
