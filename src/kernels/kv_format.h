// What: the forms in which a cache holds keys and values, and their sizes. Codes stand beside
// scales
//   that some neighbours along head_dim share:
//     int8   32 values share a bf16 scale: value = scale * code, code -127..127
//     bfp8   16 values share an exponent, as Tenstorrent's block float has it
//     (tensor/block_float.h)
//   Both are 8.5 bits a value. What a code means, by every table: its scale times the code in f32,
//   rounded to bf16 (of ties the larger magnitude; of bfp8 nothing is left to round). Attention is
//   that of a cache of bf16 with these values, to the last bit. docs/decisions/, number 8.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <string_view>

#include "tensor/dtype.h"

namespace tg {

// kCompute: as values of the compute dtype. The others go with bf16 computing only.
enum class KvFormat : std::uint8_t { kCompute, kInt8, kBfp8 };

constexpr std::string_view name(KvFormat format, ComputeDType dtype) {
  if (format == KvFormat::kInt8) return "int8";
  if (format == KvFormat::kBfp8) return "bfp8";
  return dtype == ComputeDType::kBf16 ? "bf16" : "f32";
}

// Values along head_dim that share a scale; the last ones of a head may be fewer.
constexpr std::int64_t kv_values_per_scale(KvFormat format) {
  return format == KvFormat::kInt8 ? 32 : 16;
}

constexpr std::int64_t kv_scale_bytes(KvFormat format) { return format == KvFormat::kInt8 ? 2 : 1; }

// Scales of one position's key, or of its value.
constexpr std::int64_t kv_scales(KvFormat format, std::int64_t head_dim) {
  return (head_dim + kv_values_per_scale(format) - 1) / kv_values_per_scale(format);
}

// Bytes of one head's key, or value, at one position.
constexpr std::int64_t kv_vector_bytes(KvFormat format, ComputeDType dtype, std::int64_t head_dim) {
  if (format == KvFormat::kCompute) return head_dim * (dtype == ComputeDType::kBf16 ? 2 : 4);
  return head_dim + kv_scales(format, head_dim) * kv_scale_bytes(format);
}

}  // namespace tg
