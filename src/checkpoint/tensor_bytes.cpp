#include "checkpoint/tensor_bytes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/bf16.h"

namespace tg {
namespace {

constexpr std::int64_t kReadValues = std::int64_t{1} << 18;

// The float16 that half_to_float() made this of.
std::uint16_t half_bits(float x) {
  const auto u = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (u >> 16) & 0x8000U;
  const std::uint32_t exponent = (u >> 23) & 0xffU;
  const std::uint32_t fraction = (u >> 13) & 0x3ffU;
  std::uint32_t magnitude = 0;
  if (exponent == 0xffU) {
    magnitude = 0x7c00U | fraction;
  } else if (exponent >= 113) {  // 2^-14, the smallest normal number, and above
    magnitude = ((exponent - 112) << 10) | fraction;
  } else {
    magnitude = static_cast<std::uint32_t>(std::fabs(x) * 0x1p24F);
  }
  return static_cast<std::uint16_t>(sign | magnitude);
}

template <typename Convert>
void store_as_16_bits(std::span<const float> values, std::byte* out, Convert convert) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t bits = convert(values[i]);
    std::memcpy(out + 2 * i, &bits, 2);
  }
}

// Where row `row` of Hugging Face's order is in Meta's: of a head, first the even rows, then the
// odd ones.
std::int64_t meta_row(std::int64_t row, std::int64_t rows, std::int64_t heads) {
  const std::int64_t head_dim = rows / heads;
  const std::int64_t head = row / head_dim;
  const std::int64_t within = row % head_dim;
  const std::int64_t half = head_dim / 2;
  return head * head_dim + (within < half ? 2 * within : 2 * (within - half) + 1);
}

}  // namespace

void store_values(DType dtype, bool is_exact, std::span<const float> values,
                  std::vector<std::byte>& out) {
  out.resize(values.size() * static_cast<std::size_t>(block_size(dtype).bytes));
  if (values.empty()) return;
  if (dtype == DType::kF32) {
    std::memcpy(out.data(), values.data(), out.size());
  } else if (dtype == DType::kF16) {
    TG_CHECK(is_exact);
    store_as_16_bits(values, out.data(), half_bits);
  } else if (is_exact) {
    store_as_16_bits(values, out.data(), [](float x) {
      return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16);
    });
  } else {
    store_as_16_bits(values, out.data(), [](float x) { return to_bf16(x).bits; });
  }
}

Status TensorBytes::for_each_block(const PlannedTensor& tensor, const Sink& sink) {
  const TensorInfo& source = tensor.source;
  const std::int64_t rows = source.rows();
  const std::int64_t columns = source.columns();
  const std::int64_t block = std::max<std::int64_t>(1, kReadValues / columns);
  for (std::int64_t row = 0; row < rows; row += block) {
    const std::int64_t count = std::min(block, rows - row);
    values_.resize(static_cast<std::size_t>(count * columns));
    if (tensor.half_split_heads == 0) {
      TG_RETURN_IF_ERROR(source_.read_rows(source, row, count, values_));
    } else {
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t from = meta_row(row + i, rows, tensor.half_split_heads);
        const auto out = std::span(values_).subspan(static_cast<std::size_t>(i * columns),
                                                    static_cast<std::size_t>(columns));
        TG_RETURN_IF_ERROR(source_.read_rows(source, from, 1, out));
      }
    }
    store_values(tensor.dtype, source.dtype == tensor.dtype, values_, bytes_);
    TG_RETURN_IF_ERROR(sink(bytes_));
  }
  source_.release(source);
  return {};
}

}  // namespace tg
