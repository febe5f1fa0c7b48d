// Products of bf16 weights with AVX2: weights are widened by shifts and multiplied in f32. A sum is
// one accumulator that takes k in ascending order, however rows and panels are cut (see
// matmul_walk.h), so both ways below give the same bits:
//   1 or 2 rows    several panels at once, as many streams of memory: nothing but reading counts
//   more           tiles of up to 6 rows, which widen weights in registers
#include <array>

#include "kernels/avx2.h"
#include "kernels/matmul_walk.h"

namespace tg {
namespace {

using avx2::load_first;
using avx2::widen_even;
using avx2::widen_odd;

constexpr std::int64_t kPairWeights = 2 * kPanelWidth;  // bf16 of a panel per pair of k
constexpr std::int64_t kHalfPanel = 16;                 // outputs of a tile
// k of a visit: 16 KiB of a panel, half a level-1 cache.
constexpr std::int64_t kVisitPairs = 128;
constexpr std::int64_t kVisitK = 2 * kVisitPairs;
// Rows of inputs, widened, lie this far apart: the odd 32 spread them over the sets of a level-1
// cache.
constexpr std::int64_t kInputStride = kVisitK + 32;
// 6 rows x 2 vectors = 12 sums + 2 weights + 1 input = 15 of 16 registers.
constexpr std::int64_t kTileRows = 6;
// Rows that share one visit of a group of panels: their inputs and sums take 195 KiB of stack and
// of a level-2 cache of 512.
constexpr std::int64_t kRowsOfVisit = 120;

TG_AVX2_INLINE __m256i load_pairs(const Bf16* w) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
}

// ---------------------------------------------------------------- 1 or 2 rows

// Where S panels are read from, and how far ahead lines are asked for. 4 streams and 256 bytes
// reach 0.99 of the read speed of two cores of a Zen 3, 2 streams 0.9, one 0.75 and less.
template <int S>
struct Streams {
  const Bf16* w[S];
};
constexpr std::int64_t kAheadBytes = 256;

// sums[s][r][32] += of `pairs` pairs of k; a turn of two pairs per stream keeps the sums of a
// stream in registers for 256 bytes.
template <int R, int S>
TG_AVX2 void stream_panels(const float* x, const Streams<S>& streams, std::int64_t pairs,
                           float* sums) {
  constexpr int kTurn = 2;
  const auto turn = [&](std::int64_t pair, int s,
                        int count) TG_AVX2 __attribute__((always_inline)) {
    float* at = sums + s * R * kPanelWidth;
    __m256 sum[R][4];
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      TG_UNROLL
      for (int v = 0; v < 4; ++v) sum[r][v] = _mm256_load_ps(at + r * kPanelWidth + 8 * v);
    }
    for (int i = 0; i < count; ++i) {
      const Bf16* w = streams.w[s] + (pair + i) * kPairWeights;
      const char* ahead = reinterpret_cast<const char*>(w) + kAheadBytes;
      _mm_prefetch(ahead, _MM_HINT_T0);
      _mm_prefetch(ahead + 64, _MM_HINT_T0);
      TG_UNROLL
      for (int v = 0; v < 4; ++v) {
        const __m256i both = load_pairs(w + 16 * v);
        TG_UNROLL
        for (int r = 0; r < R; ++r) {
          const float* input = x + r * kInputStride + 2 * (pair + i);
          sum[r][v] = _mm256_fmadd_ps(_mm256_broadcast_ss(input), widen_even(both), sum[r][v]);
          sum[r][v] = _mm256_fmadd_ps(_mm256_broadcast_ss(input + 1), widen_odd(both), sum[r][v]);
        }
      }
    }
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      TG_UNROLL
      for (int v = 0; v < 4; ++v) _mm256_store_ps(at + r * kPanelWidth + 8 * v, sum[r][v]);
    }
  };
  std::int64_t pair = 0;
  for (; pair + kTurn <= pairs; pair += kTurn) {
    TG_UNROLL
    for (int s = 0; s < S; ++s) turn(pair, s, kTurn);
  }
  for (; pair < pairs; ++pair) {
    TG_UNROLL
    for (int s = 0; s < S; ++s) turn(pair, s, 1);
  }
}

template <typename X>
TG_AVX2 void widen_row(const X* x, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; i += 8) {
    _mm256_store_ps(out + i, load_first(x + i, count - i));
  }
}

// The inputs of pairs [pair, pair + count) of rows [row, row + rows), as f32.
template <typename X>
void widen_rows(const MatmulArgs& args, std::int64_t row, std::int64_t rows, std::int64_t pair,
                std::int64_t count, float* out) {
  for (std::int64_t r = 0; r < rows; ++r) {
    widen_row(static_cast<const X*>(args.x) + (row + r) * args.ldx + 2 * pair, 2 * count,
              out + r * kInputStride);
  }
}

template <typename X, int R, int S>
void stream_some(const MatmulArgs& args, const std::int64_t (&panels)[S]) {
  alignas(64) float sums[S * R * kPanelWidth] = {};
  alignas(64) float inputs[R * kInputStride];
  const std::int64_t pairs = args.w.k_pairs();
  for (std::int64_t k = 0; k < pairs; k += kVisitPairs) {
    const std::int64_t count = std::min(kVisitPairs, pairs - k);
    widen_rows<X>(args, 0, R, k, count, inputs);
    Streams<S> streams;
    for (int s = 0; s < S; ++s) streams.w[s] = args.w.panel(panels[s]) + k * kPairWeights;
    stream_panels<R, S>(inputs, streams, count, sums);
  }
  for (int s = 0; s < S; ++s) {
    for (int r = 0; r < R; ++r) {
      deliver_row(args, sums + (s * R + r) * kPanelWidth, r, panels[s]);
    }
  }
}

// The streams are a quarter of the piece apart.
template <typename X, int R>
void stream_piece(const MatmulArgs& args, std::int64_t begin, std::int64_t end) {
  const std::int64_t quarter = (end - begin) / 4;
  for (std::int64_t p = begin; p < begin + quarter; ++p) {
    stream_some<X, R, 4>(args, {p, p + quarter, p + 2 * quarter, p + 3 * quarter});
  }
  for (std::int64_t p = begin + 4 * quarter; p < end; ++p) stream_some<X, R, 1>(args, {p});
}

// ---------------------------------------------------------------- tiles

// One call of a tile: rows x half a panel, over `pairs` pairs of k.
struct HalfTile {
  const float* x = nullptr;  // row r at x + r * kInputStride
  const Bf16* w = nullptr;   // the first of the half's 16 outputs; kPairWeights to the next pair
  std::int64_t pairs = 0;
  float* sums = nullptr;  // row r at sums + r * kSumsStride
  bool first = true;      // the sums start at zero instead of where they are
  // A line is asked for per pair, the next one so many bytes further. Asking for the same line
  // again costs an instruction, not memory.
  const char* next = nullptr;
  std::int64_t next_step = 0;
};

alignas(32) constexpr std::array<std::uint32_t, 8> kUpperHalves = {
    0xffff0000U, 0xffff0000U, 0xffff0000U, 0xffff0000U,
    0xffff0000U, 0xffff0000U, 0xffff0000U, 0xffff0000U};

// widen_odd() for a tile of R rows. The mask of the largest one stays in memory: beside 12 sums, 2
// weights and an input it would leave no register to work with. (5 rows lose a tenth by that.)
template <int R>
TG_AVX2_INLINE __m256 widen_odd_of(__m256i pairs) {
  if constexpr (R < kTileRows) return widen_odd(pairs);
  __m256 upper;
  asm("vpand %1, %2, %0"
      : "=x"(upper)
      : "m"(*reinterpret_cast<const __m256i*>(kUpperHalves.data())), "x"(pairs));
  return upper;
}

// sum += a * b, rounded once, in the register that holds the sum. Given the choice, g++ 12 puts the
// result where `a` was, and then has to keep sums of a tile in memory: 62 in place of 88 GFLOP/s
// with 12 of them.
TG_AVX2_INLINE void add_product(__m256 a, __m256 b, __m256& sum) {
  asm volatile("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
}

template <int R>
TG_AVX2 void half_tile(const HalfTile& t) {
  __m256 sums[R][2];
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int v = 0; v < 2; ++v) {
      sums[r][v] = t.first ? _mm256_setzero_ps() : _mm256_load_ps(t.sums + r * kSumsStride + 8 * v);
    }
  }
  const float* x = t.x;
  const Bf16* w = t.w;
  const char* next = t.next;
  for (std::int64_t i = 0; i < t.pairs; ++i, x += 2, w += kPairWeights, next += t.next_step) {
    _mm_prefetch(next, _MM_HINT_T1);
    TG_UNROLL
    for (int odd = 0; odd < 2; ++odd) {
      __m256 weights[2];
      TG_UNROLL
      for (int v = 0; v < 2; ++v) {
        const __m256i both = load_pairs(w + 16 * v);
        weights[v] = odd == 0 ? widen_even(both) : widen_odd_of<R>(both);
      }
      TG_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m256 input = _mm256_broadcast_ss(x + r * kInputStride + odd);
        TG_UNROLL
        for (int v = 0; v < 2; ++v) add_product(input, weights[v], sums[r][v]);
      }
    }
  }
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int v = 0; v < 2; ++v) _mm256_store_ps(t.sums + r * kSumsStride + 8 * v, sums[r][v]);
  }
}

void run_half_tile(std::int64_t rows, const HalfTile& t) {
  using Function = void (*)(const HalfTile&);
  static constexpr Function kTiles[kTileRows] = {half_tile<1>, half_tile<2>, half_tile<3>,
                                                 half_tile<4>, half_tile<5>, half_tile<6>};
  kTiles[rows - 1](t);
}

// A visit: all rows over kVisitPairs pairs of one panel.
struct Visit {
  const float* inputs = nullptr;
  const Bf16* w = nullptr;
  const char* next = nullptr;  // the weights of the visit after this
  std::int64_t pairs = 0;
  std::int64_t rows = 0;
  float* sums = nullptr;
  bool first = true;
};

// The first tiles ask for the next visit's weights, evenly: all lines during the first tile alone
// are more than memory gives, and the other tiles leave it idle (8 rows: 0.8 of the speed).
constexpr std::int64_t kAskingTiles = 4;

void visit_panel(const Visit& v) {
  const std::int64_t blocks = (v.rows + kTileRows - 1) / kTileRows;
  const std::int64_t asking = std::min(blocks, kAskingTiles);
  const std::int64_t step = (64 + asking - 1) / asking;
  HalfTile tile;
  tile.pairs = v.pairs;
  tile.first = v.first;
  for (int half = 0; half < 2; ++half) {
    tile.w = v.w + half * kHalfPanel * 2;
    for (std::int64_t b = 0; b < blocks; ++b) {
      // Tiles of nearly equal size: a rest of one row would cost as much as a full one.
      const std::int64_t begin = v.rows * b / blocks;
      const std::int64_t end = v.rows * (b + 1) / blocks;
      tile.x = v.inputs + begin * kInputStride;
      tile.sums = v.sums + begin * kSumsStride + half * kHalfPanel;
      const bool asks = b < asking;
      tile.next =
          asks ? v.next + (64 * half + step * b) * v.pairs : reinterpret_cast<const char*>(tile.x);
      tile.next_step = asks ? step : 0;
      run_half_tile(end - begin, tile);
    }
  }
}

template <typename X>
void tile_piece(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  alignas(64) float sums[kRowsOfVisit * kSumsStride];
  alignas(64) float inputs[kRowsOfVisit * kInputStride];
  const std::int64_t pairs = args.w.k_pairs();
  const std::int64_t groups = (args.m + kRowsOfVisit - 1) / kRowsOfVisit;
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t row = args.m * g / groups;
    Visit visit;
    visit.inputs = inputs;
    visit.rows = args.m * (g + 1) / groups - row;
    for (std::int64_t p = panel_begin; p < panel_end; p += kPanelGroup) {
      const std::int64_t panels = std::min(kPanelGroup, panel_end - p);
      for (std::int64_t k = 0; k < pairs; k += kVisitPairs) {
        visit.pairs = std::min(kVisitPairs, pairs - k);
        visit.first = k == 0;
        widen_rows<X>(args, row, visit.rows, k, visit.pairs, inputs);
        for (std::int64_t q = 0; q < panels; ++q) {
          visit.w = args.w.panel(p + q) + k * kPairWeights;
          visit.sums = sums + q * kPanelWidth;
          const Bf16* next = q + 1 < panels ? args.w.panel(p + q + 1) + k * kPairWeights
                             : k + visit.pairs < pairs
                                 ? args.w.panel(p) + (k + visit.pairs) * kPairWeights
                                 : args.w.panel(p + panels);
          visit.next = reinterpret_cast<const char*>(next);
          visit_panel(visit);
        }
      }
      deliver_sums(args, sums, row, visit.rows, p, panels);
    }
  }
}

template <typename X>
void matmul_wide(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  if (args.m == 1) {
    stream_piece<X, 1>(args, panel_begin, panel_end);
  } else if (args.m == 2) {
    stream_piece<X, 2>(args, panel_begin, panel_end);
  } else {
    tile_piece<X>(args, panel_begin, panel_end);
  }
}

}  // namespace

void matmul_bf16_avx2(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  matmul_wide<Bf16>(args, panel_begin, panel_end);
}

void matmul_f32_avx2(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  matmul_wide<float>(args, panel_begin, panel_end);
}

}  // namespace tg
