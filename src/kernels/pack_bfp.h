// What: internal to the kernels layer: rows of values rounded to block float and put into the
//   groups of a packed matrix in kBfp8 or kBfp4.
// Who owns: nothing. Thread: any; different rows may come from different threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/packed_matrix.h"

namespace tg {

// Rows [first, first + count) of the matrix; row r's values begin at values + (r - first) * stride.
struct RowsOfValues {
  std::int64_t first = 0;
  std::int64_t count = 0;
  const float* values = nullptr;
  std::int64_t stride = 0;
};

// `shape` says format and size of what is at `data`.
void pack_bfp(const PackedView& shape, std::byte* data, const RowsOfValues& rows);

}  // namespace tg
