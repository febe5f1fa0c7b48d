// What: an activation as integers, for the products whose weights are integers: quantised once per
//   operation, for each share of the inputs that a device of the mesh has.
// Who owns: the forward pass. Thread: one caller, which uses the team.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "kernels/kernel_table.h"
#include "mesh/mesh.h"
#include "tensor/aligned_buffer.h"

namespace tg {

class QuantizedInputs {
 public:
  // Bytes for `tokens` rows of `shares` shares of so many groups each.
  static std::int64_t bytes(std::int64_t tokens, std::int64_t shares, std::int64_t groups);

  // Room for the largest use: rows, and groups of all shares together.
  static Result<QuantizedInputs> allocate(std::int64_t tokens, std::int64_t shares,
                                          std::int64_t groups);

  // Quantises x, whose features lie over `reduced`, for the devices of this process.
  void make(const Mesh& mesh, const KernelTable& kernels, const MeshTensor& x, Axis reduced);

  // The share of the devices at this index of the block along `reduced`.
  const QuantizedRows& share(std::int64_t index) const {
    return shares_[static_cast<std::size_t>(index)];
  }

 private:
  AlignedBuffer buffer_;
  std::vector<QuantizedRows> shares_;
};

}  // namespace tg
