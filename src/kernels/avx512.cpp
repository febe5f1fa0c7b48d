// The table of CPUs with AVX-512 F, BW, VL and DQ: bf16 is widened by shifts and multiplied in f32.
#include "kernels/avx512.h"

#include "kernels/avx2.h"
#include "kernels/avx512_attention.h"
#include "kernels/matmul_walk.h"

namespace tg {
namespace {

template <int R, int P>
TG_AVX512 void tile_f32(const MatmulTile<float>& t) {
  __m512 sums[R][2 * P];
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int v = 0; v < 2 * P; ++v) {
      sums[r][v] =
          t.first ? _mm512_setzero_ps() : _mm512_load_ps(t.sums + r * kSumsStride + 16 * v);
    }
  }
  const float* x = t.x;
  const Bf16* w = t.w;
  for (std::int64_t i = 0; i < t.pairs; ++i, x += 2, w += 2 * kPanelWidth) {
    __m512i weights[2 * P];
    __m512 operands[2 * P];
    TG_UNROLL
    for (int v = 0; v < 2 * P; ++v) {
      weights[v] = _mm512_load_si512(w + v / 2 * t.panel_stride + v % 2 * 32);
      operands[v] = avx512::widen_even(weights[v]);
    }
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512 input = _mm512_set1_ps(x[r * kTileStride]);
      TG_UNROLL
      for (int v = 0; v < 2 * P; ++v) sums[r][v] = _mm512_fmadd_ps(input, operands[v], sums[r][v]);
    }
    TG_UNROLL
    for (int v = 0; v < 2 * P; ++v) operands[v] = avx512::widen_odd(weights[v]);
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512 input = _mm512_set1_ps(x[r * kTileStride + 1]);
      TG_UNROLL
      for (int v = 0; v < 2 * P; ++v) sums[r][v] = _mm512_fmadd_ps(input, operands[v], sums[r][v]);
    }
  }
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int v = 0; v < 2 * P; ++v) _mm512_store_ps(t.sums + r * kSumsStride + 16 * v, sums[r][v]);
  }
}

// Both products multiply in f32: rows of bf16 are widened once per tile.
struct Matmul {
  using Input = float;
  // 12 rows x 2 vectors = 24 sums + 2 widened weights + 1 broadcast = 27 of 32 registers.
  static constexpr std::int64_t kRows = 12;
  static constexpr std::int64_t kRowGroup = kVectorRowGroup;

  // Few rows leave registers free for more panels: more loads in flight, more chains side by side.
  static std::int64_t panels_for(std::int64_t rows) { return rows <= 2 ? 4 : rows <= 6 ? 2 : 1; }
  static std::int64_t panels_in_turn(std::int64_t /*rows*/) { return kPanelGroup; }
  static constexpr bool kAsks = false;

  template <typename X>
  TG_AVX512 static void copy_row(const X* x, std::int64_t count, float* out) {
    for (std::int64_t i = 0; i < count; i += 16) {
      _mm512_store_ps(out + i, avx512::load_masked(x + i, avx512::first_lanes(count - i)));
    }
  }

  static void tile(std::int64_t rows, std::int64_t panels, const MatmulTile<float>& t) {
    using Function = void (*)(const MatmulTile<float>&);
    static constexpr Function kOnePanel[] = {tile_f32<1, 1>,  tile_f32<2, 1>,  tile_f32<3, 1>,
                                             tile_f32<4, 1>,  tile_f32<5, 1>,  tile_f32<6, 1>,
                                             tile_f32<7, 1>,  tile_f32<8, 1>,  tile_f32<9, 1>,
                                             tile_f32<10, 1>, tile_f32<11, 1>, tile_f32<12, 1>};
    static constexpr Function kMorePanels[] = {tile_f32<1, 4>, tile_f32<2, 4>, tile_f32<3, 2>,
                                               tile_f32<4, 2>, tile_f32<5, 2>, tile_f32<6, 2>};
    (panels == 1 ? kOnePanel : kMorePanels)[rows - 1](t);
  }
};

}  // namespace

void matmul_f32_avx512(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  walk_matmul<Matmul, float>(args, panel_begin, panel_end);
}

void matmul_quantized_avx512(const MatmulArgs& args, std::int64_t panel_begin,
                             std::int64_t panel_end) {
  // The first CPUs with AVX-512 have no integer dot product.
  (__builtin_cpu_supports("avx512vnni") ? matmul_quantized_vnni : matmul_quantized_avx2)(
      args, panel_begin, panel_end);
}

void attention_avx512(const AttentionArgs& args) {
  if (args.kv.dtype == ComputeDType::kBf16) {
    walk_attention<avx512::Attention<Bf16>>(args);
  } else {
    walk_attention<avx512::Attention<float>>(args);
  }
}

void merge_attention_avx512(const AttentionArgs& args) {
  if (args.kv.dtype == ComputeDType::kBf16) {
    walk_merge<avx512::Attention<Bf16>>(args);
  } else {
    walk_merge<avx512::Attention<float>>(args);
  }
}

constinit const KernelTable kAvx512Kernels = {
    "avx512",
    walk_matmul<Matmul, Bf16>,
    matmul_f32_avx512,
    matmul_quantized_avx512,
    quantize_avx512,
    rms_norm_avx512,
    sum_of_squares_avx512,
    scale_avx512,
    rope_avx512,
    swiglu_avx512,
    store_kv_portable,
    attention_avx512,
    merge_attention_avx512,
    embedding_portable,
    softmax_numerators_avx512,
};

}  // namespace tg
