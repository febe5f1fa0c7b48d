// What: one logical activation [tokens, features] over the whole mesh, as far as this process holds
//   it. Devices of one process share a buffer: a replica is stored once, shards lie side by side at
//   their place in the whole (so gathering them moves nothing), only summands have a slice each.
//   Feature shards over rows are kept for the rows this process owns, so a collective over columns
//   finds them; only where a collective over rows scatters or gathers them is the buffer as wide
//   as the whole. Over columns it always is. Other processes' parts are filled by a gather.
// Who owns: the buffer's owner is the forward pass; a MeshTensor is a view. Thread: as the buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "mesh/mesh_shape.h"
#include "mesh/placement.h"
#include "tensor/dtype.h"

namespace tg {

struct MeshTensor {
  const char* name = "";
  std::byte* data = nullptr;
  ComputeDType dtype = ComputeDType::kF32;
  std::int64_t tokens = 0;  // rows in use
  std::int64_t width = 0;   // features in the buffer = elements from one token to the next
  Placement rows;           // over Axis::kRows
  Placement cols;           // over Axis::kCols
  std::int64_t slice = 0;   // elements from one summand to the next; 0 unless partial
  // Of cols == Shard(tokens): column c holds tokens [token_cuts[c], token_cuts[c + 1]).
  std::span<const std::int64_t> token_cuts = {};

  Placement placement(Axis axis) const { return axis == Axis::kRows ? rows : cols; }
  void place(Axis axis, Placement p) { (axis == Axis::kRows ? rows : cols) = p; }
  std::int64_t element_bytes() const { return dtype == ComputeDType::kBf16 ? 2 : 4; }
  std::byte* at(std::int64_t token, std::int64_t feature, std::int64_t summand = 0) const {
    return data + (summand * slice + token * width + feature) * element_bytes();
  }
  float* f32(std::int64_t token, std::int64_t feature, std::int64_t summand = 0) const {
    return reinterpret_cast<float*>(at(token, feature, summand));
  }
};

// Our own mistake (it aborts with the tensor's name) when a tensor does not lie as an operation
// needs it.
void expect_placement(const MeshTensor& tensor, Placement rows, Placement cols);

}  // namespace tg
