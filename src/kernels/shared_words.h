// What: internal to the kernels layer: codes of a few bits as fields of 16-bit words that several
//   outputs share, as the formats of WeightOrder::kRows have them: [outputs / share][32 words],
//   field j (from the low end) of a row of words is output j's.
// Who owns: nothing. Thread: any; rows of one word may come from several.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "kernels/packed_matrix.h"

namespace tg {

// The fields of all outputs that share a row of words: bits [from, from + kBits) of their codes.
template <int kBits>
void put_fields(const std::uint8_t (*codes)[kGroup], int from, std::byte* words) {
  constexpr unsigned kMask = (1U << kBits) - 1;
  auto* out = reinterpret_cast<std::uint16_t*>(words);
  for (std::int64_t i = 0; i < kGroup; ++i) {
    unsigned word = 0;
    for (int j = 0; j < 16 / kBits; ++j) {
      word |= (unsigned{codes[j][i]} >> from & kMask) << (kBits * j);
    }
    out[i] = static_cast<std::uint16_t>(word);
  }
}

// The same of output `lane` alone, in words that begin with output 0's. The other fields may be
// another thread's at this moment: hence atomic, four words at a time. What was there is cleared.
template <int kBits>
void put_field(const std::uint8_t* codes, int from, std::int64_t lane, std::byte* words) {
  constexpr std::uint64_t kMask = (1U << kBits) - 1;
  constexpr std::uint64_t kEach = 0x0001000100010001U;
  constexpr std::int64_t kShare = 16 / kBits;
  const auto shift = static_cast<int>(lane % kShare * kBits);
  auto* out = reinterpret_cast<std::uint64_t*>(words + lane / kShare * kGroup * 2);
  for (std::int64_t i = 0; i < kGroup / 4; ++i) {
    std::uint64_t four = 0;
    for (int j = 0; j < 4; ++j) {
      four |= (std::uint64_t{codes[4 * i + j]} >> from & kMask) << (16 * j);
    }
    const std::atomic_ref<std::uint64_t> at(out[i]);
    at.fetch_and(~(kEach * kMask << shift), std::memory_order_relaxed);
    at.fetch_or(four << shift, std::memory_order_relaxed);
  }
}

}  // namespace tg
