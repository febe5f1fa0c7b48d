#include "checkpoint/quantize.h"

#include <cstring>

#include "base/bf16.h"
#include "base/result.h"
#include "checkpoint/quantize_k.h"
#include "tensor/block_codes.h"

namespace tg {

bool can_quantize(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBf16 || dtype == DType::kQ8_0 ||
         dtype == DType::kQ4_0 || dtype == DType::kQ4K || dtype == DType::kQ6K;
}

void quantize(DType dtype, std::span<const float> values, std::span<std::byte> blocks) {
  TG_CHECK(can_quantize(dtype));
  const BlockSize size = block_size(dtype);
  const auto block_values = static_cast<std::size_t>(size.values);
  const auto block_bytes = static_cast<std::size_t>(size.bytes);
  TG_CHECK(values.size() % block_values == 0);
  TG_CHECK(blocks.size() == values.size() / block_values * block_bytes);
  if (values.empty()) return;
  if (dtype == DType::kF32) {
    std::memcpy(blocks.data(), values.data(), blocks.size());
    return;
  }
  std::byte* out = blocks.data();
  if (dtype == DType::kBf16) {
    for (const float x : values) {
      const Bf16 rounded = to_bf16(x);
      std::memcpy(out, &rounded.bits, sizeof rounded.bits);
      out += sizeof rounded.bits;
    }
    return;
  }
  const auto one_block = dtype == DType::kQ8_0   ? quantize_q8
                         : dtype == DType::kQ4_0 ? quantize_q4
                         : dtype == DType::kQ4K  ? quantize_q4_k
                                                 : quantize_q6_k;
  for (std::size_t i = 0; i < values.size(); i += block_values, out += block_bytes) {
    one_block(&values[i], out);
  }
}

}  // namespace tg
