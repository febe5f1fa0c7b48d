// What: internal to the kernels layer: the order in which every vector table walks a matmul. It
// cuts the
//   work so that the operands of the inner tile stay in the caches, and keeps the promise that
//   cutting does not show: a sum lives in one f32 accumulator that goes over k once, ascending;
//   when the walk leaves it, it is stored as it is and taken up again.
// Who owns: nothing; sums are on the stack. Thread: any.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kernel_table.h"

namespace tg {

// One call of the inner tile: rows x (panels * kPanelWidth) sums over `pairs` pairs of k.
template <typename X>
struct MatmulTile {
  const X* x = nullptr;  // row r at x + r * ldx
  std::int64_t ldx = 0;
  const Bf16* w = nullptr;  // panel p at w + p * panel_stride
  std::int64_t panel_stride = 0;
  std::int64_t pairs = 0;
  float* sums = nullptr;  // [rows][panels * kPanelWidth], 64-byte aligned
  bool first = true;      // the sums start at zero instead of where they are
};

// Rows that share one visit of a panel. At 120 rows a panel is fetched from memory once per
// 120 * 32 * k products, a thousandth of the speed of arithmetic, and a block of x (120 rows of
// kPairs pairs) stays in a level-2 cache.
inline constexpr std::int64_t kRowGroup = 120;

// Adds finished sums to y, or puts them there; columns past the last output are dropped.
inline void deliver_sums(const MatmulArgs& args, const float* sums, std::int64_t row,
                         std::int64_t rows, std::int64_t panel, std::int64_t panels) {
  const std::int64_t stride = panels * kPanelWidth;
  const std::int64_t column = panel * kPanelWidth;
  const std::int64_t width = std::min(stride, args.w.n - column);
  for (std::int64_t r = 0; r < rows; ++r, sums += stride) {
    float* y = args.y + (row + r) * args.ldy + column;
    if (args.add) {
      for (std::int64_t j = 0; j < width; ++j) y[j] += sums[j];
    } else {
      std::copy(sums, sums + width, y);
    }
  }
}

// Isa: kRows = most rows of a tile; kPairs = pairs of k per visit of a tile; panels_for(rows) =
// panels a tile of so few rows takes at once (rows * panels <= kRowGroup); tile(rows, panels,
// MatmulTile).
template <typename Isa, typename X>
void walk_matmul(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  alignas(64) float sums[kRowGroup * kPanelWidth];
  const std::int64_t pairs = args.w.k_pairs();
  const std::int64_t panel_stride = pairs * kPanelWidth * 2;
  // Groups and tiles of nearly equal size: a rest of one row would cost as much as a full one.
  const std::int64_t groups = (args.m + kRowGroup - 1) / kRowGroup;
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t row = args.m * g / groups;
    const std::int64_t rows = args.m * (g + 1) / groups - row;
    const std::int64_t blocks = (rows + Isa::kRows - 1) / Isa::kRows;
    std::int64_t panels = blocks == 1 ? Isa::panels_for(rows) : 1;
    for (std::int64_t p = panel_begin; p < panel_end; p += panels) {
      if (p + panels > panel_end) panels = 1;
      for (std::int64_t k = 0; k < pairs; k += Isa::kPairs) {
        for (std::int64_t b = 0; b < blocks; ++b) {
          const std::int64_t begin = rows * b / blocks;
          MatmulTile<X> tile;
          tile.x = static_cast<const X*>(args.x) + (row + begin) * args.ldx + 2 * k;
          tile.ldx = args.ldx;
          tile.w = args.w.panel(p) + k * kPanelWidth * 2;
          tile.panel_stride = panel_stride;
          tile.pairs = std::min(Isa::kPairs, pairs - k);
          tile.sums = sums + begin * panels * kPanelWidth;
          tile.first = k == 0;
          Isa::tile(rows * (b + 1) / blocks - begin, panels, tile);
        }
      }
      deliver_sums(args, sums, row, rows, p, panels);
    }
  }
}

}  // namespace tg
