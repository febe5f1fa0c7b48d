// What: internal to the kernels layer: the order in which every vector table walks a product with
//   integer weights. As in matmul_walk.h, cutting does not show: a sum is one f32 accumulator that
//   takes the groups in order; when the walk leaves it, it is stored as it is and taken up again.
// Who owns: nothing; sums are on the stack. Thread: any.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kernel_table.h"
#include "kernels/matmul_walk.h"

namespace tg {

// One call of the inner tile: rows x (panels * kPanelWidth) sums over `groups` groups of k.
struct QuantizedTile {
  const std::int8_t* codes = nullptr;  // of group g: rows at codes + g * code_stride, kGroup each
  std::int64_t code_stride = 0;
  const float* scales = nullptr;              // of group g at scales + g * stride
  const std::int32_t* corrections = nullptr;  // likewise
  std::int64_t stride = 0;
  const std::byte* w = nullptr;  // the first group; panel p at w + p * panel_stride
  std::int64_t panel_stride = 0;
  std::int64_t groups = 0;
  float* sums = nullptr;  // row r at sums + r * kSumsStride, 64-byte aligned
  bool first = true;      // the sums start at zero instead of where they are
  // Of the weights that come next (panels as in w), what this call asks for: so many lines per
  // group. A product of several tiles of rows computes on weights from the cache while memory is
  // idle; spread over them all, the requests keep it busy.
  const std::byte* next = nullptr;
  std::int64_t next_lines = 0;
};

// Groups per visit of a panel: 17 KiB of int8 codes, which stay in the level-1 cache together with
// 8 KiB of 16 rows' codes while all rows go over them (twice as many were 5 % slower).
inline constexpr std::int64_t kTileGroups = 16;
// Rows that share one visit; their sums take 240 KiB of stack.
inline constexpr std::int64_t kQuantizedRowGroup = 480;

// Isa: kRows = most rows of a tile; panels_for(rows) = panels that a tile of so few rows takes at
// once, at most kPanelGroup; tile(format, rows, panels, tile).
template <typename Isa>
void walk_quantized(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  alignas(64) float sums[kQuantizedRowGroup * kSumsStride];
  const QuantizedRows& x = args.quantized;
  const WeightFormat format = args.w.format;
  const std::int64_t bytes = group_bytes(format);
  QuantizedTile tile;
  tile.code_stride = x.rows * kGroup;
  tile.stride = x.rows;
  tile.panel_stride = args.w.panel_bytes();
  const std::int64_t visits = (args.m + kQuantizedRowGroup - 1) / kQuantizedRowGroup;
  for (std::int64_t v = 0; v < visits; ++v) {
    const std::int64_t row = args.m * v / visits;
    const std::int64_t rows = args.m * (v + 1) / visits - row;
    const std::int64_t blocks = (rows + Isa::kRows - 1) / Isa::kRows;
    const std::int64_t at_once = Isa::panels_for(blocks == 1 ? rows : Isa::kRows);
    for (std::int64_t p = panel_begin; p < panel_end;) {
      const std::int64_t panels = p + at_once <= panel_end ? at_once : 1;
      for (std::int64_t g = 0; g < args.w.groups(); g += kTileGroups) {
        tile.groups = std::min(kTileGroups, args.w.groups() - g);
        tile.first = g == 0;
        tile.w = args.w.panel_data(p) + g * bytes;
        tile.next_lines = (bytes / 64 + blocks - 1) / blocks;
        const bool more = g + tile.groups < args.w.groups();
        const std::byte* next = more ? tile.w + tile.groups * bytes : args.w.panel_data(p + panels);
        for (std::int64_t b = 0; b < blocks; ++b) {
          const std::int64_t begin = rows * b / blocks;
          const std::int64_t end = rows * (b + 1) / blocks;
          const std::int64_t at = g * x.rows + row + begin;
          tile.codes = x.codes + at * kGroup;
          tile.scales = x.scales + at;
          tile.corrections = x.corrections + at;
          tile.sums = sums + begin * kSumsStride;
          tile.next = next + tile.groups * b * tile.next_lines * 64;
          Isa::tile(format, end - begin, panels, tile);
        }
      }
      deliver_sums(args, sums, row, rows, p, panels);
      p += panels;
    }
  }
}

}  // namespace tg
