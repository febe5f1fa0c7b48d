// What: internal to the kernels layer: single codes and scales of packed integer weights, one at a
//   time, for the oracle and for looking up rows.
// Who owns: nothing. Thread: any.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/bf16.h"
#include "kernels/packed_matrix.h"

namespace tg {

// Code of input i of a group for output j of its panel, in WeightOrder::kPairs.
inline int code_in_pairs(WeightFormat format, const std::byte* group, std::int64_t j,
                         std::int64_t i) {
  const std::byte* half = group + j / 16 * half_code_bytes(format);
  if (format == WeightFormat::kInt8) {
    return static_cast<std::int8_t>(half[i / 4 * 64 + j % 16 * 4 + i % 4]);
  }
  const auto nibbles = std::to_integer<int>(half[i % 16 / 4 * 64 + j % 16 * 4 + i % 4]);
  return (i < 16 ? nibbles & 15 : nibbles >> 4) - 8;
}

// Field of so many bits of output j in words that outputs share (shared_words.h).
inline int field(const std::byte* words, int bits, std::int64_t j, std::int64_t word) {
  const int share = 16 / bits;
  std::uint16_t v = 0;
  std::memcpy(&v, words + (j / share * kGroup + word) * 2, sizeof(v));
  return v >> (j % share * bits) & ((1 << bits) - 1);
}

// As code_in_pairs(), in WeightOrder::kRows.
inline int code_in_rows(WeightFormat format, const std::byte* group, std::int64_t j,
                        std::int64_t i) {
  switch (format) {
    case WeightFormat::kInt8:
    case WeightFormat::kBfp8:
      return static_cast<std::int8_t>(group[j * kGroup + i]);
    case WeightFormat::kInt4:
      return kInt4Values[static_cast<std::size_t>(field(group, 4, j, i))];
    case WeightFormat::kBfp4:
      return field(group, 4, j, i) - 8;
    case WeightFormat::kQ4K:
      return field(group, 4, j, i);
    case WeightFormat::kQ6K: {
      const std::int64_t word = i % 16 * 2 + i / 16;
      return (field(group, 4, j, word) | field(group + kGroup * kPanelWidth / 2, 2, j, word) << 4) -
             32;
    }
    case WeightFormat::kBf16:
      break;
  }
  return 0;
}

inline float half_of(const std::byte* halves, std::int64_t j) {
  std::uint16_t half = 0;
  std::memcpy(&half, halves + 2 * j, sizeof(half));
  return half_to_float(half);
}

// The f16 scale behind a group's codes.
inline float scale_at(WeightFormat format, const std::byte* group, std::int64_t j) {
  return half_of(group + code_bytes(format), j);
}

}  // namespace tg
