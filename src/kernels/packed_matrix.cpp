#include "kernels/packed_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "kernels/pack_bfp.h"
#include "kernels/pack_k.h"
#include "kernels/shared_words.h"

namespace tg {
namespace {

// A block of Q4_0 as places in kInt4Values.
void places_of(const std::byte* block, std::uint8_t* places) {
  static constexpr auto kPlaceOfNibble = [] {
    std::array<std::uint8_t, 16> place{};
    for (std::size_t i = 0; i < place.size(); ++i) {
      place[static_cast<std::size_t>(kInt4Values[i] + 8)] = static_cast<std::uint8_t>(i);
    }
    return place;
  }();
  std::uint16_t scale = 0;
  std::memcpy(&scale, block, sizeof(scale));
  const bool zero = (scale & 0x7fff) == 0;
  const bool finite = (scale & 0x7c00) != 0x7c00;
  if (zero || !finite) {
    std::fill_n(places, kGroup, kPlaceOfNibble[zero ? 8 : 9]);
    return;
  }
  for (std::size_t i = 0; i < 16; ++i) {
    const auto byte = std::to_integer<std::uint8_t>(block[2 + i]);
    places[i] = kPlaceOfNibble[byte & 15U];
    places[i + 16] = kPlaceOfNibble[byte >> 4];
  }
}

}  // namespace

Result<PackedMatrix> PackedMatrix::allocate(std::int64_t n, std::int64_t k, WeightFormat format,
                                            WeightOrder order) {
  if (n <= 0 || k <= 0) {
    return error(ErrorCode::kBadArgument, "a weight matrix of {} x {} has no elements", n, k);
  }
  // 2^40 elements are a hundred times the largest matrix of any model; beyond it sizes could wrap.
  if (n > (std::int64_t{1} << 40) / k) {
    return error(ErrorCode::kOutOfCapacity, "a weight matrix of {} x {} is beyond 2^40 elements", n,
                 k);
  }
  if (format > WeightFormat::kInt4 && order != WeightOrder::kRows) {
    return error(ErrorCode::kBadArgument, "a weight matrix in {} has to be in rows", name(format));
  }
  if (is_k_format(format) && k % kKBlockWeights != 0) {
    return error(ErrorCode::kBadArgument,
                 "a weight matrix in {} has blocks of {} inputs: {} inputs leave a rest of {}",
                 name(format), kKBlockWeights, k, k % kKBlockWeights);
  }
  const PackedView shape{nullptr, n, k, format, order};
  PackedMatrix matrix;
  TG_ASSIGN(matrix.buffer_, AlignedBuffer::allocate(static_cast<std::size_t>(shape.panels()) *
                                                    static_cast<std::size_t>(shape.panel_bytes())));
  matrix.n_ = n;
  matrix.k_ = k;
  matrix.format_ = format;
  matrix.order_ = order;
  return matrix;
}

PackedMatrix PackedMatrix::over(const PackedView& view) {
  PackedMatrix matrix;
  matrix.buffer_ = AlignedBuffer::over(
      {view.data, static_cast<std::size_t>(view.panels() * view.panel_bytes())});
  matrix.n_ = view.n;
  matrix.k_ = view.k;
  matrix.format_ = view.format;
  matrix.order_ = view.order;
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
  TG_CHECK(!is_k_format(format_));
  if (format_ == WeightFormat::kBf16) {
    if (order_ == WeightOrder::kPairs) {
      set_bf16_pairs(first_row, row_count, rows, stride);
    } else {
      set_bf16_rows(first_row, row_count, rows, stride);
    }
    return;
  }
  if (is_bfp(format_)) {
    pack_bfp(view(), buffer_.data(), {first_row, row_count, rows, stride});
    return;
  }
  // Rounds group g of row r into `room`.
  put_blocks(first_row, row_count, [&](std::int64_t r, std::int64_t g, std::byte* room) {
    const float* values = rows + r * stride + g * kGroup;
    std::array<float, kGroup> padded{};
    if (k_ - g * kGroup < kGroup) {
      std::copy(values, values + (k_ - g * kGroup), padded.begin());
      values = padded.data();
    }
    if (format_ == WeightFormat::kInt8) {
      quantize_q8(values, room);
    } else {
      quantize_q4(values, room);
    }
    return static_cast<const std::byte*>(room);
  });
}

void PackedMatrix::set_blocks(std::int64_t first_row, std::int64_t row_count,
                              const std::byte* blocks, std::int64_t stride) {
  TG_CHECK(first_row >= 0 && row_count >= 0 && first_row + row_count <= n_ && k_ % kGroup == 0);
  TG_CHECK(format_ != WeightFormat::kBf16 && !is_bfp(format_));
  if (is_k_format(format_)) {
    pack_k_blocks(view(), buffer_.data(), {first_row, row_count, blocks, stride});
    return;
  }
  const std::int64_t block_bytes = format_ == WeightFormat::kInt8 ? kQ8Bytes : kQ4Bytes;
  put_blocks(first_row, row_count, [&](std::int64_t r, std::int64_t g, std::byte*) {
    return blocks + r * stride + g * block_bytes;
  });
}

// block_at(r, g, room): the block of GGUF for group g of row first_row + r, in `room` or elsewhere.
template <typename BlockAt>
void PackedMatrix::put_blocks(std::int64_t first_row, std::int64_t row_count,
                              const BlockAt& block_at) {
  std::array<std::array<std::byte, kQ8Bytes>, 4> room;
  const bool four_at_once = format_ == WeightFormat::kInt4 && order_ == WeightOrder::kRows;
  const std::int64_t groups = view().groups();
  for (std::int64_t r = 0; r < row_count;) {
    const std::int64_t row = first_row + r;
    if (four_at_once && row % 4 == 0 && r + 4 <= row_count) {
      for (std::int64_t g = 0; g < groups; ++g) {
        std::array<const std::byte*, 4> blocks{};
        for (std::size_t i = 0; i < 4; ++i) {
          blocks[i] = block_at(r + static_cast<std::int64_t>(i), g, room[i].data());
        }
        set_four_blocks(row, g, blocks);
      }
      r += 4;
    } else {
      for (std::int64_t g = 0; g < groups; ++g) set_block(row, g, block_at(r, g, room[0].data()));
      r += 1;
    }
  }
}

std::byte* PackedMatrix::group_of(std::int64_t row, std::int64_t group) {
  return buffer_.data() + row / kPanelWidth * view().panel_bytes() + group_at(format_, group);
}

// All outputs that share words: as set_block() does, without waiting for other threads.
void PackedMatrix::set_four_blocks(std::int64_t row, std::int64_t group,
                                   const std::array<const std::byte*, 4>& blocks) {
  const std::int64_t lane = row % kPanelWidth;
  std::byte* out = group_of(row, group);
  std::uint8_t codes[4][kGroup];
  for (std::size_t j = 0; j < 4; ++j) places_of(blocks[j], codes[j]);
  put_fields<4>(codes, 0, out + lane / 4 * kGroup * 2);
  for (std::size_t j = 0; j < 4; ++j) {
    std::memcpy(out + code_bytes(format_) + (lane + static_cast<std::int64_t>(j)) * 2, blocks[j],
                2);
  }
}

void PackedMatrix::set_block(std::int64_t row, std::int64_t group, const std::byte* block) {
  const std::int64_t lane = row % kPanelWidth;
  std::byte* out = group_of(row, group);
  std::memcpy(out + code_bytes(format_) + lane * 2, block, 2);
  if (order_ == WeightOrder::kPairs) {
    // The block's bytes come four at a time: in both formats byte i of the codes belongs to k i
    // (and, as its high nibble, to k i + 16).
    std::byte* codes = out + lane / 16 * half_code_bytes(format_) + lane % 16 * 4;
    const std::int64_t count = code_bytes(format_) / kPanelWidth;
    for (std::int64_t i = 0; i < count; i += 4) std::memcpy(codes + i * 16, block + 2 + i, 4);
  } else if (format_ == WeightFormat::kInt8) {
    std::memcpy(out + lane * kGroup, block + 2, kGroup);
  } else {
    std::uint8_t codes[kGroup];
    places_of(block, codes);
    put_field<4>(codes, 0, lane, out);
  }
}

void PackedMatrix::set_bf16_pairs(std::int64_t first_row, std::int64_t row_count, const float* rows,
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

void PackedMatrix::set_bf16_rows(std::int64_t first_row, std::int64_t row_count, const float* rows,
                                 std::int64_t stride) {
  auto* data = buffer_.as<Bf16>();
  for (std::int64_t r = 0; r < row_count; ++r) {
    const std::int64_t row = first_row + r;
    const float* source = rows + r * stride;
    Bf16* out =
        data + (row / kPanelWidth * view().groups() * kPanelWidth + row % kPanelWidth) * kGroup;
    for (std::int64_t i = 0; i < k_; i += kGroup, out += kPanelWidth * kGroup) {
      const std::int64_t count = std::min(kGroup, k_ - i);
      for (std::int64_t j = 0; j < count; ++j) out[j] = to_bf16(source[i + j]);
    }
  }
}

}  // namespace tg
