// What: one tensor as it lies in a file, and its widening to f32: what the .pth and safetensors
//   readers have in common.
// Who owns: plain values; the bytes belong to the mapped file. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace tg {

// Contiguous and row-major. The reader that made it has checked that [offset, offset + bytes) lies
// inside its file and that bytes is the product of shape times the size of dtype.
struct StoredTensor {
  std::string name = {};       // as in the file
  DType dtype = DType::kBf16;  // F32, F16 or BF16
  bool big_endian = false;
  std::vector<std::int64_t> shape = {};
  std::size_t offset = 0;  // bytes from the start of the file
  std::size_t bytes = 0;
};

// "[4096, 1024]", for messages.
std::string shape_text(std::span<const std::int64_t> shape);

// Converts out.size() values of F32, F16 or BF16 that start at `from` (no alignment needed) to f32;
// exact. `from` must hold as many.
void widen(DType dtype, bool big_endian, const std::byte* from, std::span<float> out);

}  // namespace tg
