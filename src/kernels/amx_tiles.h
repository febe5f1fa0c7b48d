// What: internal to the kernels layer: how AMX tile registers get their shapes. Like avx512.h, only
//   functions with the target attribute touch them.
// Who owns: the tile registers are the thread's. Thread: any.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define TG_AMX __attribute__((target("amx-tile,amx-bf16,avx512f")))

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

}  // namespace tg
