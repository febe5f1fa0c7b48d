// What: internal to the kernels layer: the order in which every vector table walks a matmul. It
//   cuts the work so that the operands of the inner tile stay in the caches, and keeps the promise
//   that cutting does not show: a sum lives in one f32 accumulator that goes over k once,
//   ascending; when the walk leaves it, it is stored as it is and taken up again.
// Who owns: nothing; sums are on the stack. Thread: any.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "kernels/kernel_table.h"

namespace tg {

// Panels that share one copy of a tile's rows. The rows are fetched once per so many panels: with
// one panel each, the stream of rows from the level-3 cache is what a product of many rows waits
// for.
inline constexpr std::int64_t kPanelGroup = 4;
inline constexpr std::int64_t kSumsStride = kPanelGroup * kPanelWidth;

// One call of the inner tile: rows x (panels * kPanelWidth) sums over `pairs` pairs of k.
template <typename Input>
struct MatmulTile {
  const Input* x = nullptr;  // row r at x + r * kTileStride
  const Bf16* w = nullptr;   // panel p at w + p * panel_stride
  std::int64_t panel_stride = 0;
  std::int64_t pairs = 0;
  float* sums = nullptr;  // row r at sums + r * kSumsStride, 64-byte aligned
  bool first = true;      // the sums start at zero instead of where they are
  // Weights that come next, if this call is to ask for them (Isa::kAsks: those of the next panel,
  // while the first rows use this one): as many lines as it reads. Null: it asks for nothing.
  const Bf16* next = nullptr;
};

// Pairs of k per call of a tile: its part of a panel is 32 KiB.
inline constexpr std::int64_t kTilePairs = 256;
// A tile's rows are copied (and widened, if the table multiplies in f32) to this stride. Being a
// constant, it makes the address of every row an offset from one register; 12 strides unknown to
// the compiler cost a load each for their addresses. The odd 32 spread the rows over the sets of
// the level-1 cache.
inline constexpr std::int64_t kTileStride = 2 * kTilePairs + 32;

// Rows that share one visit of a panel group, for vectors. Its first use waits for memory, which
// costs about as much as the arithmetic of 30 rows; with 240 rows that is a small part (120 were 15
// % slower), and 240 rows of kTilePairs pairs (240 KiB of bf16) still stay in a level-2 cache.
inline constexpr std::int64_t kVectorRowGroup = 240;

// A whole panel of a row. In vectors that every x86-64 has: left to itself, the compiler calls
// memmove for each row and adds one by one, which was a twentieth of a product of 32 rows.
inline void deliver_panel(const float* sums, bool add, float* y) {
  for (std::int64_t j = 0; j < kPanelWidth; j += 4) {
    const __m128 sum = _mm_load_ps(sums + j);
    _mm_storeu_ps(y + j, add ? _mm_add_ps(_mm_loadu_ps(y + j), sum) : sum);
  }
}

// Adds the finished sums of a row and a panel, or of several panels from that on, to y, or puts
// them there; columns past the last output are dropped.
inline void deliver_row(const MatmulArgs& args, const float* sums, std::int64_t row,
                        std::int64_t panel, std::int64_t panels = 1) {
  const std::int64_t column = panel * kPanelWidth;
  const std::int64_t width = std::min(panels * kPanelWidth, args.w.n - column);
  float* y = args.y + row * args.ldy + column;
  std::int64_t j = 0;
  for (; j + kPanelWidth <= width; j += kPanelWidth) deliver_panel(sums + j, args.add, y + j);
  for (; j < width; ++j) y[j] = args.add ? y[j] + sums[j] : sums[j];
}

inline void deliver_sums(const MatmulArgs& args, const float* sums, std::int64_t row,
                         std::int64_t rows, std::int64_t panel, std::int64_t panels) {
  for (std::int64_t r = 0; r < rows; ++r, sums += kSumsStride) {
    deliver_row(args, sums, row + r, panel, panels);
  }
}

// Isa: kAsks = whether its tiles look at `next`; panels_in_turn(rows) = panels between which tiles
// of so few rows change within a visit, at most kPanelGroup; Input = what its tile multiplies;
// kRows = most rows of a tile; kRowGroup = most rows per visit of a panel group; panels_for(rows) =
// panels a tile of so few rows takes at once, at most kPanelGroup; copy_row(x, count, Input* out);
// on have; tile(rows, panels, MatmulTile<Input>), where `panels` is panels_for(rows) or 1.
template <typename Isa, typename X>
void walk_matmul(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  using Input = typename Isa::Input;
  alignas(64) float sums[Isa::kRowGroup * kSumsStride];
  alignas(64) Input inputs[Isa::kRows * kTileStride];
  const std::int64_t pairs = args.w.k_pairs();
  MatmulTile<Input> tile;
  tile.x = inputs;
  tile.panel_stride = pairs * kPanelWidth * 2;
  const auto weights = [&args](std::int64_t panel, std::int64_t pair) {
    return args.w.panel(panel) + pair * kPanelWidth * 2;
  };
  // Groups and tiles of nearly equal size: a rest of one row would cost as much as a full one.
  const std::int64_t groups = (args.m + Isa::kRowGroup - 1) / Isa::kRowGroup;
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t row = args.m * g / groups;
    const std::int64_t rows = args.m * (g + 1) / groups - row;
    const std::int64_t blocks = (rows + Isa::kRows - 1) / Isa::kRows;
    const std::int64_t in_turn = Isa::panels_in_turn(rows);
    for (std::int64_t p = panel_begin; p < panel_end; p += in_turn) {
      const std::int64_t panels = std::min(in_turn, panel_end - p);
      for (std::int64_t k = 0; k < pairs; k += kTilePairs) {
        tile.pairs = std::min(kTilePairs, pairs - k);
        tile.first = k == 0;
        for (std::int64_t b = 0; b < blocks; ++b) {
          const std::int64_t begin = rows * b / blocks;
          const std::int64_t end = rows * (b + 1) / blocks;
          for (std::int64_t r = begin; r < end; ++r) {
            const X* x = static_cast<const X*>(args.x) + (row + r) * args.ldx + 2 * k;
            Isa::copy_row(x, 2 * tile.pairs, inputs + (r - begin) * kTileStride);
          }
          std::int64_t at_once = Isa::panels_for(end - begin);
          for (std::int64_t q = 0; q < panels; q += at_once) {
            if (q + at_once > panels) at_once = 1;
            tile.w = weights(p + q, k);
            tile.sums = sums + begin * kSumsStride + q * kPanelWidth;
            if (Isa::kAsks && b == 0) {
              tile.next = q + at_once < panels     ? weights(p + q + at_once, k)
                          : k + tile.pairs < pairs ? weights(p, k + tile.pairs)
                                                   : weights(p + panels, 0);
            } else {
              tile.next = nullptr;
            }
            Isa::tile(end - begin, at_once, tile);
          }
        }
      }
      deliver_sums(args, sums, row, rows, p, panels);
    }
  }
}

}  // namespace tg
