// What: a weight matrix W[n][k] in the order the kernels read it: panels of 32 outputs, and inside
//   a panel pairs of k, so that one 64-byte load brings 16 outputs x 2 k for a bf16 dot product:
//     data[panel][k / 2][output % 32][k % 2]     outputs and k padded with zeros to 32 and 2
//   Int8 and int4 weights will be further WeightFormats of the same panel shape.
// Who owns: PackedMatrix owns its memory; kernels take PackedView.
// Thread: packing of different rows from any thread; reading from any.
#pragma once

#include <cstdint>
#include <span>

#include "base/bf16.h"
#include "base/result.h"
#include "tensor/aligned_buffer.h"

namespace tg {

inline constexpr std::int64_t kPanelWidth = 32;  // outputs: 2 zmm or 4 ymm of f32 accumulators

enum class WeightFormat : std::uint8_t { kBf16 };

struct PackedView {
  const std::byte* data = nullptr;
  std::int64_t n = 0;  // outputs
  std::int64_t k = 0;  // inputs
  WeightFormat format = WeightFormat::kBf16;

  std::int64_t panels() const { return (n + kPanelWidth - 1) / kPanelWidth; }
  std::int64_t k_pairs() const { return (k + 1) / 2; }
  std::int64_t panel_bytes() const { return k_pairs() * kPanelWidth * 2 * 2; }
  // Outputs [first, first + count) as a matrix of their own; `first` at the border of a panel.
  PackedView outputs(std::int64_t first, std::int64_t count) const {
    return {data + first / kPanelWidth * panel_bytes(), count, k, format};
  }
  const Bf16* panel(std::int64_t p) const {
    return reinterpret_cast<const Bf16*>(data + p * panel_bytes());
  }
};

class PackedMatrix {
 public:
  // Room for n x k, all zero.
  static Result<PackedMatrix> allocate(std::int64_t n, std::int64_t k,
                                       WeightFormat format = WeightFormat::kBf16);

  // Rounds rows [first_row, first_row + row_count) of W, given as f32 [row_count][k], to bf16 and
  // puts them in place. Different rows may come from different threads, also of one panel.
  void set_rows(std::int64_t first_row, std::int64_t row_count, std::span<const float> rows);
  // The same from rows that are `stride` >= k values apart: a column range of wider ones.
  void set_rows(std::int64_t first_row, std::int64_t row_count, const float* rows,
                std::int64_t stride);

  PackedView view() const { return {buffer_.data(), n_, k_, format_}; }
  std::size_t bytes() const { return buffer_.size(); }

 private:
  AlignedBuffer buffer_;
  std::int64_t n_ = 0;
  std::int64_t k_ = 0;
  WeightFormat format_ = WeightFormat::kBf16;
};

}  // namespace tg
