// What: the number format in which values cross a link (--ccl-dtype), and the rounding that this
//   means. A value that crosses several links is rounded at each; rounding twice is rounding once.
//   bfp8 is Tenstorrent's block float: 16 values share the largest exponent (8 bits), each keeps a
//   sign and 7 bits of magnitude, rounded to nearest even; here blocks start where a row of a
//   segment starts.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace tg {

enum class PayloadDType : std::uint8_t { kF32, kBf16, kBfp8 };

Result<PayloadDType> parse_payload_dtype(std::string_view text);  // "f32", "bf16", "bfp8"
const char* name(PayloadDType dtype);

// Bytes of a row of so many values.
std::int64_t payload_bytes(PayloadDType dtype, std::int64_t values);

// What comes out at the other end of a link, in place.
void round_payload(PayloadDType dtype, std::span<float> row);

// The bytes on the link, payload_bytes(dtype, row.size()) of them, and back. decode(encode(x)) is
// round_payload(x), bit for bit.
void encode_payload(PayloadDType dtype, std::span<const float> row, std::byte* out);
void decode_payload(PayloadDType dtype, const std::byte* from, std::span<float> row);

}  // namespace tg
