// What: reads the ends of every tensor that a reader accepted, so that the sanitizers see a place
//   that is outside the file.
// Who owns: plain function. Thread: any.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "checkpoint/stored_tensor.h"

namespace tg::fuzz {

inline void read_ends(std::span<const std::byte> file, const StoredTensor& tensor) {
  TG_CHECK(tensor.offset <= file.size() && tensor.bytes <= file.size() - tensor.offset);
  const auto width = static_cast<std::size_t>(block_size(tensor.dtype).bytes);
  TG_CHECK(tensor.bytes % width == 0);
  const std::size_t n = std::min<std::size_t>(tensor.bytes / width, 64);
  std::vector<float> values(n);
  const std::byte* first = file.data() + tensor.offset;
  widen(tensor.dtype, tensor.big_endian, first, values);
  widen(tensor.dtype, tensor.big_endian, first + tensor.bytes - n * width, values);
}

}  // namespace tg::fuzz
