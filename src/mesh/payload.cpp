#include "mesh/payload.h"

#include <algorithm>
#include <cstring>

#include "base/bf16.h"
#include "tensor/block_float.h"

namespace tg {
namespace {

constexpr std::int64_t kBlock = kBlockFloatValues;

// A byte has the sign in its top bit and the magnitude below.
std::uint8_t to_bfp8(float x, std::uint32_t shared) {
  const std::int32_t code = block_float_code(x, shared);
  return static_cast<std::uint8_t>(code < 0 ? (1 << kBlockFloatBits) - code : code);
}

float from_bfp8(std::uint8_t value, std::uint32_t shared) {
  const float magnitude = static_cast<float>(value & kBlockFloatMost) * block_float_scale(shared);
  return (value >> kBlockFloatBits) != 0 ? -magnitude : magnitude;
}

// f(first value, count, its exponent's place in the encoded row) for each block of a row.
template <typename F>
void for_blocks(std::size_t values, const F& f) {
  for (std::size_t i = 0; i < values; i += kBlock) {
    f(i, std::min<std::size_t>(kBlock, values - i));
  }
}

}  // namespace

Result<PayloadDType> parse_payload_dtype(std::string_view text) {
  for (const PayloadDType dtype : {PayloadDType::kF32, PayloadDType::kBf16, PayloadDType::kBfp8}) {
    if (text == name(dtype)) return dtype;
  }
  return error(ErrorCode::kBadArgument, "'{}' is none of f32, bf16, bfp8", text);
}

const char* name(PayloadDType dtype) {
  switch (dtype) {
    case PayloadDType::kF32:
      return "f32";
    case PayloadDType::kBf16:
      return "bf16";
    case PayloadDType::kBfp8:
      return "bfp8";
  }
  return "?";
}

std::int64_t payload_bytes(PayloadDType dtype, std::int64_t values) {
  switch (dtype) {
    case PayloadDType::kF32:
      return values * 4;
    case PayloadDType::kBf16:
      return values * 2;
    case PayloadDType::kBfp8:
      return values + (values + kBlock - 1) / kBlock;
  }
  return 0;
}

void round_payload(PayloadDType dtype, std::span<float> row) {
  switch (dtype) {
    case PayloadDType::kF32:
      return;
    case PayloadDType::kBf16:
      for (float& x : row) x = to_float(to_bf16(x));
      return;
    case PayloadDType::kBfp8:
      for_blocks(row.size(), [&](std::size_t first, std::size_t count) {
        const std::span<float> block = row.subspan(first, count);
        const std::uint32_t shared = shared_exponent(block);
        for (float& x : block) x = from_bfp8(to_bfp8(x, shared), shared);
      });
      return;
  }
}

void encode_payload(PayloadDType dtype, std::span<const float> row, std::byte* out) {
  switch (dtype) {
    case PayloadDType::kF32:
      std::ranges::copy(std::as_bytes(row), out);  // of an empty row too, unlike memcpy
      return;
    case PayloadDType::kBf16:
      for (const float x : row) {
        const Bf16 narrow = to_bf16(x);
        std::memcpy(out, &narrow, sizeof(narrow));
        out += sizeof(narrow);
      }
      return;
    case PayloadDType::kBfp8:  // [exponent, its values], block after block
      for_blocks(row.size(), [&](std::size_t first, std::size_t count) {
        const std::span<const float> block = row.subspan(first, count);
        const std::uint32_t shared = shared_exponent(block);
        *out++ = static_cast<std::byte>(shared);
        for (const float x : block) *out++ = static_cast<std::byte>(to_bfp8(x, shared));
      });
      return;
  }
}

void decode_payload(PayloadDType dtype, const std::byte* from, std::span<float> row) {
  switch (dtype) {
    case PayloadDType::kF32:
      std::copy_n(from, row.size_bytes(), std::as_writable_bytes(row).begin());
      return;
    case PayloadDType::kBf16:
      for (float& x : row) {
        Bf16 narrow;
        std::memcpy(&narrow, from, sizeof(narrow));
        x = to_float(narrow);
        from += sizeof(narrow);
      }
      return;
    case PayloadDType::kBfp8:
      for_blocks(row.size(), [&](std::size_t first, std::size_t count) {
        const auto shared = static_cast<std::uint32_t>(*from++);
        for (float& x : row.subspan(first, count)) {
          x = from_bfp8(static_cast<std::uint8_t>(*from++), shared);
        }
      });
      return;
  }
}

}  // namespace tg
