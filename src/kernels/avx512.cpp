// The table of CPUs with AVX-512 F, BW, VL and DQ: bf16 is widened by shifts and multiplied in f32.
#include "kernels/avx512.h"

#include <type_traits>

#include "kernels/avx512_attention.h"
#include "kernels/matmul_walk.h"

namespace tg {
namespace {

// Pairs of k per visit of a tile: a panel's part is 32 KiB, and a tile's rows as f32 24 KiB.
constexpr std::int64_t kTilePairs = 256;
constexpr std::int64_t kTileRows = 12;

template <int R, int P>
TG_AVX512 void tile_f32(const MatmulTile<float>& t) {
  __m512 sums[R][2 * P];
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int v = 0; v < 2 * P; ++v) {
      sums[r][v] = t.first ? _mm512_setzero_ps() : _mm512_load_ps(t.sums + (r * 2 * P + v) * 16);
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
      const __m512 input = _mm512_set1_ps(x[r * t.ldx]);
      TG_UNROLL
      for (int v = 0; v < 2 * P; ++v) sums[r][v] = _mm512_fmadd_ps(input, operands[v], sums[r][v]);
    }
    TG_UNROLL
    for (int v = 0; v < 2 * P; ++v) operands[v] = avx512::widen_odd(weights[v]);
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512 input = _mm512_set1_ps(x[r * t.ldx + 1]);
      TG_UNROLL
      for (int v = 0; v < 2 * P; ++v) sums[r][v] = _mm512_fmadd_ps(input, operands[v], sums[r][v]);
    }
  }
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int v = 0; v < 2 * P; ++v) _mm512_store_ps(t.sums + (r * 2 * P + v) * 16, sums[r][v]);
  }
}

// Widens the tile's rows once, so that the inner loop is that of f32.
TG_AVX512 void widen_rows(const MatmulTile<Bf16>& t, std::int64_t rows, float* out) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < 2 * t.pairs; i += 16) {
      const __mmask16 mask = avx512::first_lanes(2 * t.pairs - i);
      _mm512_store_ps(out + r * 2 * kTilePairs + i, avx512::load_masked(t.x + r * t.ldx + i, mask));
    }
  }
}

template <typename X>
struct Matmul {
  static constexpr std::int64_t kRows = kTileRows;
  static constexpr std::int64_t kPairs = kTilePairs;

  static std::int64_t panels_for(std::int64_t rows) { return rows <= 2 ? 4 : rows <= 6 ? 2 : 1; }

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

  static void tile(std::int64_t rows, std::int64_t panels, const MatmulTile<Bf16>& t) {
    alignas(64) float x[kTileRows * 2 * kTilePairs];
    widen_rows(t, rows, x);
    tile(rows, panels,
         MatmulTile<float>{x, 2 * kTilePairs, t.w, t.panel_stride, t.pairs, t.sums, t.first});
  }
};

void attention(const AttentionArgs& args) {
  if (args.kv.dtype == ComputeDType::kBf16) {
    walk_attention<avx512::Attention<Bf16>>(args);
  } else {
    walk_attention<avx512::Attention<float>>(args);
  }
}

}  // namespace

void matmul_f32_avx512(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  walk_matmul<Matmul<float>, float>(args, panel_begin, panel_end);
}

void attention_f32_avx512(const AttentionArgs& args) {
  walk_attention<avx512::Attention<float>>(args);
}

constinit const KernelTable kAvx512Kernels = {
    "avx512",           walk_matmul<Matmul<Bf16>, Bf16>,
    matmul_f32_avx512,  rms_norm_avx512,
    rope_avx512,        swiglu_avx512,
    store_kv_portable,  attention,
    embedding_portable, softmax_numerators_avx512,
};

}  // namespace tg
