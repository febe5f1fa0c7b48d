// What: a tensor of a source as the bytes that a repacked file holds, a block at a time, so that
//   no tensor is ever in memory whole.
// Who owns: two buffers of about a MiB; the source is the caller's. Thread: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "checkpoint/repack_plan.h"
#include "checkpoint/tensor_source.h"

namespace tg {

// The values in the stored form of F32, F16 or BF16. Exact, NaN payloads included, when the values
// came from that form (`is_exact`); otherwise dtype must be BF16 and they are rounded.
void store_values(DType dtype, bool is_exact, std::span<const float> values,
                  std::vector<std::byte>& out);

class TensorBytes {
 public:
  // Takes the next bytes of the tensor, some whole rows; an error ends the walk.
  using Sink = std::function<Status(std::span<const std::byte>)>;

  explicit TensorBytes(const TensorSource& source) : source_(source) {}

  // Reads the tensor from its first row to its last in the written order; releases it afterwards.
  Status for_each_block(const PlannedTensor& tensor, const Sink& sink);

 private:
  const TensorSource& source_;
  std::vector<float> values_;
  std::vector<std::byte> bytes_;
};

}  // namespace tg
