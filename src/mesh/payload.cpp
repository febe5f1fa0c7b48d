#include "mesh/payload.h"

#include <algorithm>
#include <cstring>

#include "base/bf16.h"
#include "tensor/block_float.h"

namespace tg {
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
      return values + (values + kBfpBlock - 1) / kBfpBlock;
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
      round_to_bfp(row, kBfp8Bits);
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
      for_bfp_blocks(row.size(), [&](std::size_t first, std::size_t count) {
        const std::span<const float> block = row.subspan(first, count);
        const std::uint32_t shared = shared_exponent(block);
        *out++ = static_cast<std::byte>(shared);
        for (const float x : block) *out++ = static_cast<std::byte>(to_bfp(x, shared, kBfp8Bits));
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
      for_bfp_blocks(row.size(), [&](std::size_t first, std::size_t count) {
        const auto shared = static_cast<std::uint32_t>(*from++);
        for (float& x : row.subspan(first, count)) {
          x = from_bfp(static_cast<std::uint8_t>(*from++), shared, kBfp8Bits);
        }
      });
      return;
  }
}

}  // namespace tg
