// What: internal to the kernels layer: the tables themselves, and the few parts that all of them
//   share because they only move numbers (one implementation is then bit-equal everywhere).
// Who owns: constants. Thread: any.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/kernel_table.h"

namespace tg {

extern const KernelTable kReferenceKernels;   // plain loops, any x86-64
extern const KernelTable kAvx2Kernels;        // needs AVX2, FMA
extern const KernelTable kAvx512Kernels;      // needs AVX-512 F, BW, VL, DQ
extern const KernelTable kAvx512Bf16Kernels;  // needs AVX-512 BF16 and VNNI besides

// Needs AMX-TILE and AMX-BF16 besides kAvx512Bf16's.
extern const KernelTable kAmxKernels;

// The functions of the table amx (amx_attention.cpp).
void attention_amx(const AttentionArgs& args);
void merge_attention_amx(const AttentionArgs& args);

// True if this CPU has AMX and Linux lets this process use it; asks for that.
bool enable_amx();

// The KernelTable functions of the same names (reference.cpp).
void store_kv_portable(const KvLayer& kv, PageId page, std::int64_t head,
                       std::int64_t offset_in_page, const float* key, const float* value);
void embedding_portable(const PackedView& w, std::int64_t row, float* out);

// What a group of inputs is multiplied with to make codes, and what a code is worth; both 0 for a
// group of zeros. `largest` is the bits of the largest magnitude.
struct GroupScale {
  float inverse;
  float scale;
};

inline GroupScale group_scale(std::uint32_t largest) {
  if (largest >= 0x7f800000U) return {0.0F, std::numeric_limits<float>::quiet_NaN()};
  const auto magnitude = std::bit_cast<float>(largest);
  // Below, 127 / magnitude would be no finite number.
  if (magnitude < 0x1p-100F) return {0.0F, 0.0F};
  return {127.0F / magnitude, magnitude / 127.0F};
}

// Where the kKeyGroup positions that start at `position` (a multiple of kKeyGroup) lie. A group
// never crosses a page. Values of the group are contiguous: [kKeyGroup][head_dim].
struct KeyGroup {
  const std::byte* keys;
  const std::byte* values;
};

inline KeyGroup find_key_group(const KvLayer& kv, std::int64_t kv_head, const PageId* pages,
                               std::int64_t position) {
  const std::int64_t start =
      pages[position / kv.block] * kv.page_stride + kv_head * kv.head_stride +
      position % kv.block * kv_vector_bytes(kv.format, kv.dtype, kv.head_dim);
  return {kv.keys + start, kv.values + start};
}

// The most (row, query head) pairs that a walk of attention_walk.h takes at a time, or the heads of
// one row if those are more: what scratch is made for. A table may take fewer.
inline constexpr std::int64_t kAttentionSlots = 32;

inline std::int64_t attention_tile_rows(std::int64_t group, std::int64_t slots) {
  return std::max<std::int64_t>(1, slots / group);
}

// head_dim rounded up to whole vectors of 16.
inline std::int64_t padded_head_dim(std::int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

// Per slot: the query (f32, or bf16 in half of it), the output of the span so far, 16 partial sums
// of the softmax denominator, the maximum (16 to keep alignment) and kAttentionStep scores.
inline std::int64_t attention_slot_floats(std::int64_t head_dim) {
  return 2 * padded_head_dim(head_dim) + 16 + 16 + kAttentionStep;
}

// Room for the keys, and then the values, of a step as bf16 where the cache has codes: two to a
// float, a vector that the last store may write too much, and what alignment takes.
inline std::int64_t attention_expanded_floats(std::int64_t head_dim) {
  return kAttentionStep * head_dim / 2 + 16 + 16;
}

}  // namespace tg
