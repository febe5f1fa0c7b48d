// What: products on tiles for the tests: inputs made into tiles, and a whole product of them.
// Who owns: each test its own. Thread: none shared.
#pragma once

#include <utility>

#include "kernel_inputs.h"
#include "tensor/aligned_buffer.h"

namespace tg {

// Rows of x as tiles, garbage first.
struct Tiles {
  AlignedBuffer room;
  InputTiles tiles;

  Tiles(const KernelTable& kernels, const Row& x, std::int64_t first, std::int64_t rows,
        std::int64_t k) {
    const std::int64_t groups = (k + kGroup - 1) / kGroup;
    const std::int64_t bytes = InputTiles::bytes(rows, groups);
    auto made = AlignedBuffer::allocate(static_cast<std::size_t>(bytes));
    TG_CHECK(made);
    room = std::move(*made);
    std::memset(room.data(), 0x7f, room.size());
    tiles = {room.as<Bf16>(), rows, groups};
    for (std::int64_t b = 0; b < tiles.blocks(); ++b) {
      kernels.make_tiles(static_cast<const Bf16*>(x.data(first * k)), k, k, tiles, b);
    }
  }
};

inline std::vector<float> product(const KernelTable& kernels, const PackedMatrix& w, const Tiles& x,
                                  std::vector<std::int64_t> cuts = {}, bool add = false) {
  auto scratch = AlignedBuffer::allocate(kTileScratchFloats * sizeof(float));
  TG_CHECK(scratch);
  MatmulArgs args;
  args.m = x.tiles.rows;
  args.w = w.view();
  args.tiles = x.tiles;
  args.scratch = scratch->as<float>();
  return whole_product(args, std::move(cuts), add, kernels.matmul_tiles);
}

inline std::vector<const KernelTable*> tables_with_tiles() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : available_kernels()) {
    if (table->order == WeightOrder::kRows) tables.push_back(table);
  }
  return tables;
}

}  // namespace tg
