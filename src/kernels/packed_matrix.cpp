#include "kernels/packed_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace tg {

Result<PackedMatrix> PackedMatrix::allocate(std::int64_t n, std::int64_t k, WeightFormat format) {
  if (n <= 0 || k <= 0) {
    return error(ErrorCode::kBadArgument, "a weight matrix of {} x {} has no elements", n, k);
  }
  // 2^40 elements are a hundred times the largest matrix of any model; beyond it sizes could wrap.
  if (n > (std::int64_t{1} << 40) / k) {
    return error(ErrorCode::kOutOfCapacity, "a weight matrix of {} x {} is beyond 2^40 elements", n,
                 k);
  }
  const PackedView shape{nullptr, n, k, format};
  PackedMatrix matrix;
  TG_ASSIGN(matrix.buffer_, AlignedBuffer::allocate(static_cast<std::size_t>(shape.panels()) *
                                                    static_cast<std::size_t>(shape.panel_bytes())));
  matrix.n_ = n;
  matrix.k_ = k;
  matrix.format_ = format;
  return matrix;
}

PackedMatrix PackedMatrix::over(const PackedView& view) {
  PackedMatrix matrix;
  matrix.buffer_ = AlignedBuffer::over(
      {view.data, static_cast<std::size_t>(view.panels() * view.panel_bytes())});
  matrix.n_ = view.n;
  matrix.k_ = view.k;
  matrix.format_ = view.format;
  return matrix;
}

void PackedMatrix::set_rows(std::int64_t first_row, std::int64_t row_count,
                            std::span<const float> rows) {
  TG_CHECK(rows.size() == static_cast<std::size_t>(row_count * k_));
  set_rows(first_row, row_count, rows.data(), k_);
}

void PackedMatrix::set_rows(std::int64_t first_row, std::int64_t row_count, const float* rows,
                            std::int64_t stride) {
  TG_CHECK(first_row >= 0 && row_count >= 0 && first_row + row_count <= n_ && stride >= k_);
  if (format_ == WeightFormat::kBf16) {
    set_bf16_rows(first_row, row_count, rows, stride);
    return;
  }
  std::array<std::byte, kQ8Bytes> block;
  for (std::int64_t r = 0; r < row_count; ++r) {
    for (std::int64_t first = 0; first < k_; first += kGroup) {
      const float* values = rows + r * stride + first;
      std::array<float, kGroup> padded{};
      if (k_ - first < kGroup) {
        std::copy(values, values + (k_ - first), padded.begin());
        values = padded.data();
      }
      if (format_ == WeightFormat::kInt8) {
        quantize_q8(values, block.data());
      } else {
        quantize_q4(values, block.data());
      }
      set_block(first_row + r, first / kGroup, block.data());
    }
  }
}

void PackedMatrix::set_blocks(std::int64_t first_row, std::int64_t row_count,
                              const std::byte* blocks, std::int64_t stride) {
  TG_CHECK(first_row >= 0 && row_count >= 0 && first_row + row_count <= n_ && k_ % kGroup == 0);
  const std::int64_t block_bytes = format_ == WeightFormat::kInt8 ? kQ8Bytes : kQ4Bytes;
  for (std::int64_t r = 0; r < row_count; ++r) {
    for (std::int64_t g = 0; g < k_ / kGroup; ++g) {
      set_block(first_row + r, g, blocks + r * stride + g * block_bytes);
    }
  }
}

// The block's bytes come four at a time: in both formats byte i of the codes belongs to k i (and,
// as its high nibble, to k i + 16).
void PackedMatrix::set_block(std::int64_t row, std::int64_t group, const std::byte* block) {
  const std::int64_t lane = row % kPanelWidth;
  std::byte* out =
      buffer_.data() + row / kPanelWidth * view().panel_bytes() + group * group_bytes(format_);
  std::memcpy(out + code_bytes(format_) + lane * 2, block, 2);
  std::byte* codes = out + lane / 16 * half_code_bytes(format_) + lane % 16 * 4;
  const std::int64_t count = code_bytes(format_) / kPanelWidth;
  for (std::int64_t i = 0; i < count; i += 4) std::memcpy(codes + i * 16, block + 2 + i, 4);
}

void PackedMatrix::set_bf16_rows(std::int64_t first_row, std::int64_t row_count, const float* rows,
                                 std::int64_t stride) {
  const std::int64_t pair_stride = kPanelWidth * 2;
  const std::int64_t panel_elements = (k_ + 1) / 2 * pair_stride;
  auto* data = buffer_.as<Bf16>();
  // Panel by panel, and inside a panel pair by pair: the writes of a whole panel are one stream,
  // where row by row each write would touch another line of the whole panel.
  for (std::int64_t row = first_row; row < first_row + row_count;) {
    const std::int64_t lane = row % kPanelWidth;
    const std::int64_t lanes = std::min(kPanelWidth - lane, first_row + row_count - row);
    Bf16* panel = data + row / kPanelWidth * panel_elements;
    const float* source = rows + (row - first_row) * stride;
    for (std::int64_t i = 0; i < k_; ++i) {
      Bf16* out = panel + i / 2 * pair_stride + lane * 2 + i % 2;
      for (std::int64_t r = 0; r < lanes; ++r) out[2 * r] = to_bf16(source[r * stride + i]);
    }
    row += lanes;
  }
}

}  // namespace tg
