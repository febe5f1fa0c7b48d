// What: internal to the kernels layer: keys and values as codes (kv_format.h): how they are made,
// in
//   one way for all tables, and what they mean as plain loops, the oracle of the tables' own.
// Who owns: nothing. Thread: any.
#pragma once

#include <bit>
#include <cstdint>

#include "base/bf16.h"
#include "kernels/kernel_table.h"

namespace tg {

// store_kv() for a cache of codes.
void store_kv_codes(const KvLayer& kv, PageId page, std::int64_t head, std::int64_t offset_in_page,
                    const float* key, const float* value);

// In a group of kKeyGroup positions, see KvLayer.
inline std::int64_t key_code_at(std::int64_t lane, std::int64_t d) { return d * kKeyGroup + lane; }
inline std::int64_t value_code_at(const KvLayer& kv, std::int64_t lane, std::int64_t d) {
  return lane * kv.head_dim + d;
}

// What a code of 1 is worth at this dimension of this position of a group of keys or values.
float kv_scale_at(const KvLayer& kv, const std::byte* group, std::int64_t lane, std::int64_t d);

// The value that a code stands for. Ties go away from zero: one addition instead of four.
inline Bf16 kv_decoded(std::int8_t code, float scale) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(code) * scale);
  return Bf16{static_cast<std::uint16_t>((bits + 0x8000U) >> 16)};
}

}  // namespace tg
