// What: a weight matrix W[n][k] in the order the kernels read it: panels of 32 outputs, each one
//   stream of memory, in one of two orders.
// Who owns: PackedMatrix owns its memory, unless made over another's; kernels take PackedView.
// Thread: packing of different rows from any thread; reading from any.
//
//   WeightOrder::kPairs, for vectors whose lanes are outputs:
//     kBf16   pairs of k: data[panel][k / 2][output % 32][k % 2]
//     kInt8   groups of 32 k with a scale per output, the codes of GGUF's Q8_0:
//             data[panel][k / 32] = { int8 q[2][8][16][4], f16 scale[32] }
//     kInt4   the same with the codes of Q4_0 (value = scale * (q - 8)):
//             data[panel][k / 32] = { nibbles q[2][4][16][4], f16 scale[32] }
//             low nibbles hold k 0..15 of the group, high nibbles k 16..31
//     where q is [half of the panel][4 k][output][k]: one 64-byte load brings 16 outputs x 4 k for
//     an integer dot product.
//   WeightOrder::kRows, for tiles whose rows are outputs:
//     kBf16   data[panel][k / 32][output % 32][k % 32]
//     kInt8   data[panel][k / 32] = { int8 q[32 outputs][32 k], f16 scale[32] }
//     kInt4   data[panel][k / 32] = { u16 q[8][32 k], f16 scale[32] }
//             nibble j (from the low end) of q[i] belongs to output 4 i + j and is the place of
//             value / scale in kInt4Values. With a scale of 0 all are 0; with one that is no
//             finite number all are 1, so that none gets lost.
//     Formats of blocks of 256, whose k is a multiple of that; a header per 8 groups:
//     kQ4K    data[panel][k / 256] = { f16 d[32], f16 dmin[32], 8 groups of
//                                      { u16 q[8][32 k], u8 scale[32], u8 minimum[32] } }
//             words shared as those of kInt4; value = d * scale * q - dmin * minimum
//     kQ6K    data[panel][k / 256] = { f16 d[32], 8 groups of
//                                      { u16 low[8][32], u16 high[4][32], i8 scale[2][32] } }
//             word i is k i / 2 + i % 2 * 16 of the group, field j of low[i] (4 bits) output
//             4 i + j, of high[i] (2 bits) 8 i + j; scale[k / 16]; value = d * scale * (q - 32)
//     Tenstorrent's block float, value = q * 2^(exponent - 133), or 2^(exponent - 129) of kBfp4:
//     kBfp8   data[panel][k / 32] = { i8 q[32 outputs][32 k], u8 exponent[2][32] }
//             exponent[k / 16] of the group
//     kBfp4   data[panel][k / 32] = { u16 q[8][32 k], u8 exponent[2][32] }
//             words shared as those of kInt4, with q + 8
//   Outputs and k are padded with zero weights.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/bf16.h"
#include "base/result.h"
#include "tensor/aligned_buffer.h"
#include "tensor/block_codes.h"
#include "tensor/block_float.h"
#include "tensor/k_blocks.h"

namespace tg {

inline constexpr std::int64_t kPanelWidth = 32;  // outputs: 2 zmm or 4 ymm of f32 accumulators
inline constexpr std::int64_t kGroup = kBlockWeights;  // k that share a scale

// Those behind kInt4 are for WeightOrder::kRows only.
enum class WeightFormat : std::uint8_t { kBf16, kInt8, kInt4, kQ4K, kQ6K, kBfp8, kBfp4 };
inline constexpr std::size_t kWeightFormats = 7;
enum class WeightOrder : std::uint8_t { kPairs, kRows };

constexpr std::string_view name(WeightFormat f) {
  constexpr std::array<std::string_view, kWeightFormats> kNames = {"bf16", "int8", "int4", "q4_k",
                                                                   "q6_k", "bfp8", "bfp4"};
  return kNames[static_cast<std::size_t>(f)];
}

// Whether it is GGUF's of blocks of 256.
constexpr bool is_k_format(WeightFormat f) {
  return f == WeightFormat::kQ4K || f == WeightFormat::kQ6K;
}

// Whether it is block float.
constexpr bool is_bfp(WeightFormat f) {
  return f == WeightFormat::kBfp8 || f == WeightFormat::kBfp4;
}
constexpr int magnitude_bits(WeightFormat f) {
  return f == WeightFormat::kBfp8 ? kBfp8Bits : kBfp4Bits;
}

// Codes of a group of a panel: all of them, and those of half its outputs.
constexpr std::int64_t code_bytes(WeightFormat f) {
  constexpr std::array<std::int64_t, kWeightFormats> kBits = {16, 8, 4, 4, 6, 8, 4};
  return kGroup * kPanelWidth * kBits[static_cast<std::size_t>(f)] / 8;
}
constexpr std::int64_t half_code_bytes(WeightFormat f) { return code_bytes(f) / 2; }
// With the scales behind them, if there are any: 32, 17, 9 or 13 cache lines.
constexpr std::int64_t group_bytes(WeightFormat f) {
  return code_bytes(f) + (f == WeightFormat::kBf16 ? 0 : kPanelWidth * 2);
}
// In front of every kHeaderGroups groups.
inline constexpr std::int64_t kHeaderGroups = kKBlockWeights / kGroup;
constexpr std::int64_t header_bytes(WeightFormat f) {
  return f == WeightFormat::kQ4K ? kPanelWidth * 4 : f == WeightFormat::kQ6K ? kPanelWidth * 2 : 0;
}
// Bytes of the first `count` groups of a panel with the headers in front of them.
constexpr std::int64_t groups_bytes(WeightFormat f, std::int64_t count) {
  return count * group_bytes(f) + (count + kHeaderGroups - 1) / kHeaderGroups * header_bytes(f);
}
// Where group g of a panel is, and its header.
constexpr std::int64_t group_at(WeightFormat f, std::int64_t g) {
  return g * group_bytes(f) + (g / kHeaderGroups + 1) * header_bytes(f);
}
constexpr std::int64_t header_at(WeightFormat f, std::int64_t g) {
  return groups_bytes(f, g / kHeaderGroups * kHeaderGroups);
}

// In the order in which kernels/amx_expand.h makes a table of them.
inline constexpr std::array<std::int8_t, 16> kInt4Values = {1,  2,  4,  0,  3,  6,  5,  7,
                                                            -1, -2, -4, -8, -3, -6, -5, -7};

struct PackedView {
  const std::byte* data = nullptr;
  std::int64_t n = 0;  // outputs
  std::int64_t k = 0;  // inputs
  WeightFormat format = WeightFormat::kBf16;
  WeightOrder order = WeightOrder::kPairs;

  std::int64_t panels() const { return (n + kPanelWidth - 1) / kPanelWidth; }
  std::int64_t k_pairs() const { return (k + 1) / 2; }
  std::int64_t groups() const { return (k + kGroup - 1) / kGroup; }
  std::int64_t panel_bytes() const {
    if (format == WeightFormat::kBf16 && order == WeightOrder::kPairs) {
      return k_pairs() * kPanelWidth * 2 * 2;
    }
    return groups_bytes(format, groups());
  }
  // Outputs [first, first + count) as a matrix of their own; `first` at the border of a panel.
  PackedView outputs(std::int64_t first, std::int64_t count) const {
    return {data + first / kPanelWidth * panel_bytes(), count, k, format, order};
  }
  const std::byte* panel_data(std::int64_t p) const { return data + p * panel_bytes(); }
  const Bf16* panel(std::int64_t p) const { return reinterpret_cast<const Bf16*>(panel_data(p)); }
};

class PackedMatrix {
 public:
  // Room for n x k. Of bf16 all zero; integers are 0 times a scale of 0. kBadArgument: a format
  // that the order or k does not go with.
  static Result<PackedMatrix> allocate(std::int64_t n, std::int64_t k,
                                       WeightFormat format = WeightFormat::kBf16,
                                       WeightOrder order = WeightOrder::kPairs);

  // A matrix packed before, in memory that stays another's and must outlive it. Without data it has
  // a shape only. It cannot be written to.
  static PackedMatrix over(const PackedView& view);

  // Rounds rows [first_row, first_row + row_count) of W, given as f32 [row_count][k], to the format
  // and puts them in place. Different rows may come from different threads, also of one panel. Not
  // for kQ4K and kQ6K, which nothing is rounded to.
  void set_rows(std::int64_t first_row, std::int64_t row_count, std::span<const float> rows);
  // The same from rows that are `stride` >= k values apart: a column range of wider ones.
  void set_rows(std::int64_t first_row, std::int64_t row_count, const float* rows,
                std::int64_t stride);
  // Puts rows of GGUF blocks in place as they are: Q8_0 in a matrix of kInt8, Q4_0 in one of kInt4,
  // Q4_K and Q6_K in theirs. Row r's blocks begin at blocks + r * stride.
  void set_blocks(std::int64_t first_row, std::int64_t row_count, const std::byte* blocks,
                  std::int64_t stride);

  PackedView view() const { return {buffer_.data(), n_, k_, format_, order_}; }
  std::size_t bytes() const { return buffer_.size(); }

 private:
  void set_bf16_pairs(std::int64_t first_row, std::int64_t row_count, const float* rows,
                      std::int64_t stride);
  void set_bf16_rows(std::int64_t first_row, std::int64_t row_count, const float* rows,
                     std::int64_t stride);
  template <typename BlockAt>
  void put_blocks(std::int64_t first_row, std::int64_t row_count, const BlockAt& block_at);
  std::byte* group_of(std::int64_t row, std::int64_t group);
  void set_block(std::int64_t row, std::int64_t group, const std::byte* block);
  void set_four_blocks(std::int64_t row, std::int64_t group,
                       const std::array<const std::byte*, 4>& blocks);

  AlignedBuffer buffer_;
  std::int64_t n_ = 0;
  std::int64_t k_ = 0;
  WeightFormat format_ = WeightFormat::kBf16;
  WeightOrder order_ = WeightOrder::kPairs;
};

}  // namespace tg
