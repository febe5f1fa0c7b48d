#include "kernels/pack_k.h"

#include <array>
#include <cstring>

#include "kernels/shared_words.h"

namespace tg {
namespace {

// Outputs that are packed together: those that share words of 2 bits.
constexpr std::int64_t kTogether = 8;

using Codes = std::uint8_t[kTogether][kGroup];
using Blocks = std::array<const std::byte*, kTogether>;

// Each format: what a block has for itself, what a group has, and the words.
struct Q4K {
  static constexpr std::int64_t kBytes = kQ4KBytes;

  static void put_header(const std::byte* block, std::byte* header, std::int64_t lane) {
    std::memcpy(header + 2 * lane, block, 2);
    std::memcpy(header + 2 * (kPanelWidth + lane), block + 2, 2);
  }
  static void put_scales(const std::byte* block, int group, std::byte* to, std::int64_t lane) {
    const ScaleAndMinimum packed =
        scale_and_minimum(reinterpret_cast<const std::uint8_t*>(block + 4), group);
    to += code_bytes(WeightFormat::kQ4K) + lane;
    to[0] = static_cast<std::byte>(packed.scale);
    to[kPanelWidth] = static_cast<std::byte>(packed.minimum);
  }
  static void get_codes(const std::byte* block, int group, std::uint8_t* codes) {
    q4_k_codes(block, group, codes);
  }
  static void put_all(const Codes& codes, std::byte* to, std::int64_t lane) {
    put_fields<4>(codes, 0, to + lane / 4 * kGroup * 2);
    put_fields<4>(codes + 4, 0, to + (lane / 4 + 1) * kGroup * 2);
  }
  static void put_one(const std::uint8_t* codes, std::byte* to, std::int64_t lane) {
    put_field<4>(codes, 0, lane, to);
  }
};

struct Q6K {
  static constexpr std::int64_t kBytes = kQ6KBytes;
  static constexpr std::int64_t kHigh = kGroup * kPanelWidth / 2;  // where the words of 2 bits are

  static void put_header(const std::byte* block, std::byte* header, std::int64_t lane) {
    std::memcpy(header + 2 * lane, block + kQ6KD, 2);
  }
  static void put_scales(const std::byte* block, int group, std::byte* to, std::int64_t lane) {
    to += code_bytes(WeightFormat::kQ6K) + lane;
    to[0] = block[kQ6KScales + 2 * group];
    to[kPanelWidth] = block[kQ6KScales + 2 * group + 1];
  }
  // In the order of the words: k 0, 16, 1, 17, ...
  static void get_codes(const std::byte* block, int group, std::uint8_t* codes) {
    std::uint8_t by_k[kGroup];
    q6_k_codes(block, group, by_k);
    for (std::int64_t i = 0; i < kGroup / 2; ++i) {
      codes[2 * i] = by_k[i];
      codes[2 * i + 1] = by_k[i + kGroup / 2];
    }
  }
  static void put_all(const Codes& codes, std::byte* to, std::int64_t lane) {
    put_fields<4>(codes, 0, to + lane / 4 * kGroup * 2);
    put_fields<4>(codes + 4, 0, to + (lane / 4 + 1) * kGroup * 2);
    put_fields<2>(codes, 4, to + kHigh + lane / 8 * kGroup * 2);
  }
  static void put_one(const std::uint8_t* codes, std::byte* to, std::int64_t lane) {
    put_field<4>(codes, 0, lane, to);
    put_field<2>(codes, 4, lane, to + kHigh);
  }
};

// A block of each of `count` outputs from `lane` on: kTogether that share words, or one.
template <typename Format>
void pack_blocks(const Blocks& blocks, std::int64_t count, std::int64_t lane, WeightFormat format,
                 std::byte* header) {
  for (std::int64_t j = 0; j < count; ++j) {
    Format::put_header(blocks[static_cast<std::size_t>(j)], header, lane + j);
  }
  std::byte* to = header + header_bytes(format);
  for (int group = 0; group < kHeaderGroups; ++group, to += group_bytes(format)) {
    Codes codes;
    for (std::int64_t j = 0; j < count; ++j) {
      const std::byte* block = blocks[static_cast<std::size_t>(j)];
      Format::put_scales(block, group, to, lane + j);
      Format::get_codes(block, group, codes[j]);
    }
    if (count == kTogether) {
      Format::put_all(codes, to, lane);
    } else {
      Format::put_one(codes[0], to, lane);
    }
  }
}

template <typename Format>
void pack_rows(const PackedView& shape, std::byte* data, const RowsOfBlocks& rows) {
  for (std::int64_t r = 0; r < rows.count;) {
    const std::int64_t row = rows.first + r;
    const std::int64_t count = row % kTogether == 0 && r + kTogether <= rows.count ? kTogether : 1;
    std::byte* panel = data + row / kPanelWidth * shape.panel_bytes();
    for (std::int64_t b = 0; b < shape.k / kKBlockWeights; ++b) {
      Blocks blocks{};
      for (std::int64_t j = 0; j < count; ++j) {
        blocks[static_cast<std::size_t>(j)] =
            rows.blocks + (r + j) * rows.stride + b * Format::kBytes;
      }
      pack_blocks<Format>(blocks, count, row % kPanelWidth, shape.format,
                          panel + header_at(shape.format, b * kHeaderGroups));
    }
    r += count;
  }
}

}  // namespace

void pack_k_blocks(const PackedView& shape, std::byte* data, const RowsOfBlocks& rows) {
  if (shape.format == WeightFormat::kQ4K) {
    pack_rows<Q4K>(shape, data, rows);
  } else {
    pack_rows<Q6K>(shape, data, rows);
  }
}

}  // namespace tg
