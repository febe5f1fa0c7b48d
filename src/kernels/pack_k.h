// What: internal to the kernels layer: rows of GGUF's blocks of 256 (Q4_K, Q6_K) put into the
//   groups of a packed matrix, bit for bit.
// Who owns: nothing. Thread: any; different rows may come from different threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/packed_matrix.h"

namespace tg {

// Rows [first, first + count) of the matrix; row r's blocks begin at blocks + (r - first) * stride.
struct RowsOfBlocks {
  std::int64_t first = 0;
  std::int64_t count = 0;
  const std::byte* blocks = nullptr;
  std::int64_t stride = 0;
};

// `shape` says format and size of what is at `data`.
void pack_k_blocks(const PackedView& shape, std::byte* data, const RowsOfBlocks& rows);

}  // namespace tg
