#include "kernels/pack_bfp.h"

#include <algorithm>

#include "kernels/shared_words.h"
#include "tensor/block_float.h"

namespace tg {
namespace {

// Outputs that are packed together: those that share words of 4 bits.
constexpr std::int64_t kTogether = 4;

// One group of one output: exponents of its two blocks, and codes as the formats have them.
struct Group {
  std::uint8_t codes[kGroup];
  std::uint8_t exponents[kGroup / kBfpBlock];
};

// `count` values and zeros behind them.
void round_group(const float* values, std::int64_t count, WeightFormat format, Group& out) {
  const int bits = magnitude_bits(format);
  float padded[kGroup] = {};
  std::copy_n(values, count, padded);
  for_bfp_blocks(kGroup, [&](std::size_t first, std::size_t size) {
    const std::uint32_t shared = shared_exponent({padded + first, size});
    out.exponents[first / kBfpBlock] = static_cast<std::uint8_t>(shared);
    for (std::size_t i = first; i < first + size; ++i) {
      const int q = bfp_integer(to_bfp(padded[i], shared, bits), bits);
      out.codes[i] = static_cast<std::uint8_t>(format == WeightFormat::kBfp8 ? q : q + 8);
    }
  });
}

}  // namespace

void pack_bfp(const PackedView& shape, std::byte* data, const RowsOfValues& rows) {
  const bool in_words = shape.format == WeightFormat::kBfp4;
  for (std::int64_t r = 0; r < rows.count;) {
    const std::int64_t row = rows.first + r;
    const std::int64_t lane = row % kPanelWidth;
    const std::int64_t count = row % kTogether == 0 && r + kTogether <= rows.count ? kTogether : 1;
    std::byte* to = data + row / kPanelWidth * shape.panel_bytes();
    for (std::int64_t k = 0; k < shape.k; k += kGroup, to += group_bytes(shape.format)) {
      std::byte* exponents = to + code_bytes(shape.format) + lane;
      std::uint8_t codes[kTogether][kGroup];
      for (std::int64_t j = 0; j < count; ++j) {
        Group group;
        round_group(rows.values + (r + j) * rows.stride + k, std::min(kGroup, shape.k - k),
                    shape.format, group);
        exponents[j] = std::byte{group.exponents[0]};
        exponents[kPanelWidth + j] = std::byte{group.exponents[1]};
        auto* bytes =
            in_words ? codes[j] : reinterpret_cast<std::uint8_t*>(to) + (lane + j) * kGroup;
        std::copy_n(group.codes, kGroup, bytes);
      }
      if (!in_words) continue;
      if (count == kTogether) {
        put_fields<4>(codes, 0, to + lane / 4 * kGroup * 2);
      } else {
        put_field<4>(codes[0], 0, lane, to);
      }
    }
    r += count;
  }
}

}  // namespace tg
