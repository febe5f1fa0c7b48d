// Rows of packed matrices as f32, of whatever format: the embedding look-up of every table.
#include <algorithm>

#include "kernels/packed_codes.h"
#include "kernels/tables.h"

namespace tg {
namespace {

// What a code q stands for: scale * q - minimum.
struct Linear {
  float scale = 0.0F;
  float minimum = 0.0F;
};

// Of inputs [16 * half, 16 * half + 16) of a group, for output j of its panel.
Linear linear_of(WeightFormat format, const std::byte* group, const std::byte* header,
                 std::int64_t j, std::int64_t half) {
  const std::byte* scales = group + code_bytes(format);
  switch (format) {
    case WeightFormat::kQ4K:
      return {half_of(header, j) * static_cast<float>(std::to_integer<int>(scales[j])),
              half_of(header, kPanelWidth + j) *
                  static_cast<float>(std::to_integer<int>(scales[kPanelWidth + j]))};
    case WeightFormat::kQ6K: {
      const auto scale = static_cast<std::int8_t>(scales[half * kPanelWidth + j]);
      return {half_of(header, j) * static_cast<float>(scale), 0.0F};
    }
    case WeightFormat::kBfp8:
    case WeightFormat::kBfp4: {
      const auto exponent = std::to_integer<std::uint32_t>(scales[half * kPanelWidth + j]);
      return {bfp_unit(exponent, magnitude_bits(format)), 0.0F};
    }
    case WeightFormat::kInt8:
    case WeightFormat::kInt4:
    case WeightFormat::kBf16:
      break;
  }
  return {scale_at(format, group, j), 0.0F};
}

void row_of_bf16(const PackedView& w, std::int64_t row, float* out) {
  const std::int64_t lane = row % kPanelWidth;
  const bool in_rows = w.order == WeightOrder::kRows;
  const Bf16* panel = w.panel(row / kPanelWidth) + lane * (in_rows ? kGroup : 2);
  for (std::int64_t i = 0; i < w.k; ++i) {
    out[i] = to_float(in_rows ? panel[i / kGroup * kPanelWidth * kGroup + i % kGroup]
                              : panel[i / 2 * kPanelWidth * 2 + i % 2]);
  }
}

}  // namespace

void embedding_portable(const PackedView& w, std::int64_t row, float* out) {
  if (w.format == WeightFormat::kBf16) {
    row_of_bf16(w, row, out);
    return;
  }
  const std::int64_t lane = row % kPanelWidth;
  const std::byte* panel = w.panel_data(row / kPanelWidth);
  for (std::int64_t i = 0; i < w.k; i += 16) {
    const std::int64_t g = i / kGroup;
    const std::int64_t first = i % kGroup;
    const std::byte* group = panel + group_at(w.format, g);
    const Linear linear =
        linear_of(w.format, group, panel + header_at(w.format, g), lane, first / 16);
    const std::int64_t count = std::min<std::int64_t>(16, w.k - i);
    for (std::int64_t j = 0; j < count; ++j) {
      const int code = w.order == WeightOrder::kRows
                           ? code_in_rows(w.format, group, lane, first + j)
                           : code_in_pairs(w.format, group, lane, first + j);
      const float product = linear.scale * static_cast<float>(code);
      out[i + j] = w.format == WeightFormat::kQ4K ? product - linear.minimum : product;
    }
  }
}

}  // namespace tg
