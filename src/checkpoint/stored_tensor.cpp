#include "checkpoint/stored_tensor.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "base/bf16.h"
#include "base/result.h"

namespace tg {
namespace {

static_assert(std::endian::native == std::endian::little, "files are read as they lie");

// The value of type T (an unsigned integer) at `from`, which need not be aligned.
template <typename T, bool kBigEndian>
T load(const std::byte* from) {
  T bits;
  std::memcpy(&bits, from, sizeof(T));
  if constexpr (kBigEndian && sizeof(T) == 2) bits = __builtin_bswap16(bits);
  if constexpr (kBigEndian && sizeof(T) == 4) bits = __builtin_bswap32(bits);
  return bits;
}

template <bool kBigEndian>
void widen_all(DType dtype, const std::byte* from, std::span<float> out) {
  const std::size_t n = out.size();
  switch (dtype) {
    case DType::kF32:
      for (std::size_t i = 0; i < n; ++i) {
        out[i] = std::bit_cast<float>(load<std::uint32_t, kBigEndian>(from + 4 * i));
      }
      return;
    case DType::kF16:
      for (std::size_t i = 0; i < n; ++i) {
        out[i] = half_to_float(load<std::uint16_t, kBigEndian>(from + 2 * i));
      }
      return;
    case DType::kBf16:
      for (std::size_t i = 0; i < n; ++i) {
        out[i] = to_float(Bf16{load<std::uint16_t, kBigEndian>(from + 2 * i)});
      }
      return;
    default:
      TG_CHECK(block_size(dtype).values == 1);  // quantised formats are GGUF's
  }
}

}  // namespace

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

void widen(DType dtype, bool big_endian, const std::byte* from, std::span<float> out) {
  if (big_endian) {
    widen_all<true>(dtype, from, out);
  } else {
    widen_all<false>(dtype, from, out);
  }
}

}  // namespace tg
