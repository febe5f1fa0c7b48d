// What: element types of checkpoint tensors and of computation, and their sizes.
// Who owns: plain values. Thread: any.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tg {

// Element or block format of a stored tensor. The quantised ones are GGUF's: a block of values with
// its scale(s), laid along the last dimension.
enum class DType : std::uint8_t {
  kF32,
  kF16,
  kBf16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4K,
  kQ5K,
  kQ6K,
};

// How many values one block holds and how many bytes it takes; 1 value for plain types.
struct BlockSize {
  std::int64_t values;
  std::int64_t bytes;
};

constexpr BlockSize block_size(DType t) {
  switch (t) {
    case DType::kF32:
      return {1, 4};
    case DType::kF16:
      return {1, 2};
    case DType::kBf16:
      return {1, 2};
    case DType::kQ8_0:
      return {32, 34};  // f16 scale, 32 x int8
    case DType::kQ4_0:
      return {32, 18};  // f16 scale, 16 bytes of nibbles
    case DType::kQ4_1:
      return {32, 20};  // f16 scale, f16 minimum, nibbles
    case DType::kQ5_0:
      return {32, 22};  // f16 scale, 32 high bits, nibbles
    case DType::kQ5_1:
      return {32, 24};  // f16 scale, f16 minimum, high bits, nibbles
    case DType::kQ4K:
      return {256, 144};  // 2 x f16, 12 bytes of 6-bit scales, nibbles
    case DType::kQ5K:
      return {256, 176};  // as Q4_K plus 32 bytes of high bits
    case DType::kQ6K:
      return {256, 210};  // low nibbles, high pairs, 16 x int8 scale, f16
  }
  return {1, 0};
}

constexpr std::string_view name(DType t) {
  switch (t) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBf16:
      return "BF16";
    case DType::kQ8_0:
      return "Q8_0";
    case DType::kQ4_0:
      return "Q4_0";
    case DType::kQ4_1:
      return "Q4_1";
    case DType::kQ5_0:
      return "Q5_0";
    case DType::kQ5_1:
      return "Q5_1";
    case DType::kQ4K:
      return "Q4_K";
    case DType::kQ5K:
      return "Q5_K";
    case DType::kQ6K:
      return "Q6_K";
  }
  return "?";
}

// Arithmetic of a run: what activations, KV cache and multiplications are held in. Sums are f32 in
// both.
enum class ComputeDType : std::uint8_t { kF32, kBf16 };

}  // namespace tg
