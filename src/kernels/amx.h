// What: internal to the kernels layer: what the users of the tile unit share.
// Who owns: nothing. Thread: any; tile registers are a thread's own.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/kernel_table.h"

namespace tg {

// What ldtilecfg reads: for each tile register its rows and the bytes of a row. A register that is
// not used has zeros.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

// The intrinsic of g++ 12 tells the compiler that 8 bytes are read; the rest of the stores would be
// free to go.
__attribute__((always_inline, target("amx-tile"))) inline void load_shapes(
    const TileShapes& shapes) {
  __asm__ volatile("" : : "r"(&shapes) : "memory");
  _tile_loadconfig(&shapes);
}

}  // namespace tg
