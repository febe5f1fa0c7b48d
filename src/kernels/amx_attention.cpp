// Attention of the table amx for a cache of bf16: both products on tiles of 16 queries. A tile of
// keys is 16 pairs of dimensions of 16 positions, and a tile of values 16 pairs of positions of 16
// dimensions: the pages hold just these. A weight goes into the product in two parts, its upper
// bits and what is left of it, each a bf16: together 16 bits of it, so the result is as exact as
// that of f32 weights. A sum takes its steps in one order in every row of a tile, so a row does not
// show its company. Where dimensions do not fill tiles, the AVX-512 table's attention is called.
#include <cmath>
#include <cstring>

#include "kernels/amx.h"
#include "kernels/avx512_attention.h"
#include "kernels/tables.h"

#define TG_AMX __attribute__((target("amx-tile,amx-bf16,avx512f")))

namespace tg {
namespace {

using avx512::first_lanes;

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kTileDims = 32;       // of keys, 16 pairs
constexpr std::int64_t kTilePositions = 32;  // of values, 16 pairs
constexpr std::int64_t kChunks = kAttentionStep / kTilePositions;

// Values of 32 positions: 16 rows of pairs, `stride` bytes from one to the next.
struct ValueChunk {
  const std::byte* values;
  std::int64_t stride;
};

// True if one of the values in positions [begin, end) of a step is infinite or no number.
bool has_non_finite(const StepGroups& groups, std::int64_t begin, std::int64_t end,
                    std::int64_t head_dim) {
  for (std::int64_t p = begin; p < end; ++p) {
    const auto* pair =
        reinterpret_cast<const Bf16*>(groups[static_cast<std::size_t>(p / kKeyGroup)].values) +
        p % kKeyGroup / 2 * head_dim * 2 + p % 2;
    for (std::int64_t d = 0; d < head_dim; ++d) {
      if ((pair[2 * d].bits & 0x7f80U) == 0x7f80U) return true;
    }
  }
  return false;
}

// The step's values in chunks, zeros from `valid` on. A chunk is copied where somebody must not see
// its end or where its two groups are in different pages.
class ValueChunks {
 public:
  ValueChunks(const StepGroups& groups, std::int64_t valid, std::int64_t head_dim)
      : count_((valid + kTilePositions - 1) / kTilePositions) {
    const std::int64_t stride = head_dim * 4;
    const std::int64_t group_bytes = kKeyGroup / 2 * stride;
    for (std::int64_t c = 0; c < count_; ++c) {
      const std::byte* upper = groups[static_cast<std::size_t>(2 * c)].values;
      const std::int64_t here = valid - c * kTilePositions;
      ValueChunk& chunk = chunks_[c];
      chunk = {upper, stride};
      if (here >= kTilePositions &&
          groups[static_cast<std::size_t>(2 * c + 1)].values == upper + group_bytes) {
        continue;
      }
      std::byte* copy = copies_[c];
      chunk.values = copy;
      copy_group(upper, std::min(here, kKeyGroup), stride, copy);
      if (here > kKeyGroup) {
        copy_group(groups[static_cast<std::size_t>(2 * c + 1)].values,
                   std::min(here - kKeyGroup, kKeyGroup), stride, copy + group_bytes);
      } else {
        std::memset(copy + group_bytes, 0, static_cast<std::size_t>(group_bytes));
      }
    }
  }

  std::int64_t count() const { return count_; }
  const ValueChunk& operator[](std::int64_t i) const { return chunks_[i]; }

 private:
  static void copy_group(const std::byte* from, std::int64_t positions, std::int64_t stride,
                         std::byte* to) {
    const std::int64_t rows = (positions + 1) / 2;
    std::memcpy(to, from, static_cast<std::size_t>(rows * stride));
    std::memset(to + rows * stride, 0, static_cast<std::size_t>((kKeyGroup / 2 - rows) * stride));
    if (positions % 2 == 0) return;
    auto* last = reinterpret_cast<Bf16*>(to + (rows - 1) * stride);
    for (std::int64_t i = 1; i < stride / 2; i += 2) last[i] = Bf16{};
  }

  std::int64_t count_;
  ValueChunk chunks_[kChunks];
  alignas(64) std::byte copies_[kChunks][kTilePositions * kMaxHeadDim * 2];
};

// Tile registers, with up to 16 slots: 0..3 sums, 4 and 5 queries or weights, 6 and 7 memory. With
// more: 0 and 1 sums of the first 16, 2 and 3 of the others, 4 and 5 their queries or weights.
class Shapes {
 public:
  TG_AMX void set(std::int64_t slots) {
    if (slots == slots_) return;
    slots_ = slots;
    const auto upper = static_cast<std::uint8_t>(std::min(slots, kTileRows));
    const auto lower = static_cast<std::uint8_t>(slots > kTileRows ? slots - kTileRows : upper);
    TileShapes shapes;
    const std::uint8_t rows[8] = {upper, upper, lower, lower, upper, lower, 16, 16};
    for (int i = 0; i < 8; ++i) {
      shapes.rows[i] = rows[i];
      shapes.row_bytes[i] = 64;
    }
    load_shapes(shapes);
  }

 private:
  std::int64_t slots_ = 0;
};

// scores of up to 16 slots and a whole step.
TG_AMX void scores_of_16(const float* query, std::int64_t stride, StepMemory& memory,
                         float* scores) {
  const std::int64_t bytes = stride * 4;
  const StepGroups& groups = memory.groups;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::int64_t d = 0; d < memory.head_dim; d += kTileDims) {
    const std::int64_t at = d / 2 * 64;
    _tile_loadd(4, query + d / 2, bytes);
    _tile_loadd(6, groups[0].keys + at, 64);
    _tile_dpbf16ps(0, 4, 6);
    memory.ahead.ask(1);
    _tile_loadd(7, groups[1].keys + at, 64);
    _tile_dpbf16ps(1, 4, 7);
    memory.ahead.ask(1);
    _tile_loadd(6, groups[2].keys + at, 64);
    _tile_dpbf16ps(2, 4, 6);
    memory.ahead.ask(1);
    _tile_loadd(7, groups[3].keys + at, 64);
    _tile_dpbf16ps(3, 4, 7);
    memory.ahead.ask(1);
  }
  _tile_stored(0, scores, bytes);
  _tile_stored(1, scores + 16, bytes);
  _tile_stored(2, scores + 32, bytes);
  _tile_stored(3, scores + 48, bytes);
}

// scores of up to 32 slots, more than 16, and two groups.
TG_AMX void scores_of_32(const float* query, std::int64_t stride, const KeyGroup* groups,
                         std::int64_t head_dim, float* scores) {
  const std::int64_t bytes = stride * 4;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::int64_t d = 0; d < head_dim; d += kTileDims) {
    const std::int64_t at = d / 2 * 64;
    _tile_loadd(6, groups[0].keys + at, 64);
    _tile_loadd(4, query + d / 2, bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, groups[1].keys + at, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, query + kTileRows * stride + d / 2, bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, scores, bytes);
  _tile_stored(1, scores + 16, bytes);
  _tile_stored(2, scores + kTileRows * stride, bytes);
  _tile_stored(3, scores + kTileRows * stride + 16, bytes);
}

// output += weights x values for up to 16 slots, 16 * V dimensions. Of a slot's 64 floats for
// scores the first half holds the upper parts of the weights, the second half the rest of them.
template <int V>
TG_AMX void values_of_16(const float* weights, std::int64_t stride, const ValueChunks& chunks,
                         NextStep& ahead, std::int64_t d, float* output) {
  const std::int64_t bytes = stride * 4;
  _tile_loadd(0, output, bytes);
  _tile_loadd(1, output + 16, bytes);
  if constexpr (V == 4) {
    _tile_loadd(2, output + 32, bytes);
    _tile_loadd(3, output + 48, bytes);
  }
  for (std::int64_t c = 0; c < chunks.count(); ++c) {
    const std::byte* values = chunks[c].values + d * 4;
    const std::int64_t value_stride = chunks[c].stride;
    _tile_loadd(4, weights + c * 16, bytes);
    _tile_loadd(5, weights + 32 + c * 16, bytes);
    _tile_loadd(6, values, value_stride);
    _tile_loadd(7, values + 64, value_stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    ahead.ask(1);
    _tile_dpbf16ps(0, 5, 6);
    _tile_dpbf16ps(1, 5, 7);
    ahead.ask(1);
    if constexpr (V == 4) {
      _tile_loadd(6, values + 128, value_stride);
      _tile_loadd(7, values + 192, value_stride);
      _tile_dpbf16ps(2, 4, 6);
      _tile_dpbf16ps(3, 4, 7);
      ahead.ask(1);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      ahead.ask(1);
    }
  }
  _tile_stored(0, output, bytes);
  _tile_stored(1, output + 16, bytes);
  if constexpr (V == 4) {
    _tile_stored(2, output + 32, bytes);
    _tile_stored(3, output + 48, bytes);
  }
}

// The same for up to 32 slots, more than 16, and 32 dimensions.
TG_AMX void values_of_32(const float* weights, std::int64_t stride, const ValueChunks& chunks,
                         std::int64_t d, float* output) {
  const std::int64_t bytes = stride * 4;
  const std::int64_t lower = kTileRows * stride;
  _tile_loadd(0, output, bytes);
  _tile_loadd(1, output + 16, bytes);
  _tile_loadd(2, output + lower, bytes);
  _tile_loadd(3, output + lower + 16, bytes);
  for (std::int64_t c = 0; c < chunks.count(); ++c) {
    const std::byte* values = chunks[c].values + d * 4;
    const std::int64_t value_stride = chunks[c].stride;
    _tile_loadd(6, values, value_stride);
    _tile_loadd(7, values + 64, value_stride);
    _tile_loadd(4, weights + c * 16, bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, weights + lower + c * 16, bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    _tile_loadd(4, weights + 32 + c * 16, bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, weights + lower + 32 + c * 16, bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, output, bytes);
  _tile_stored(1, output + 16, bytes);
  _tile_stored(2, output + lower, bytes);
  _tile_stored(3, output + lower + 16, bytes);
}

// The upper 16 bits of 32 values.
TG_AVX512_INLINE __m512i upper_halves(__m512 first, __m512 second) {
  // Odd 16-bit elements of one and then of the other, which begins at index 32.
  alignas(64) static constexpr std::uint16_t kOdd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                                         23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                                         45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16(_mm512_castps_si512(first), _mm512_load_si512(kOdd),
                                   _mm512_castps_si512(second));
}

struct AmxAttention : avx512::Attention<Bf16> {
  static constexpr std::int64_t kSlots = 2 * kTileRows;

  TG_AVX512 static void prepare_query(const float* q, std::int64_t head_dim, float* query) {
    for (std::int64_t d = 0; d < head_dim; d += 16) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(query + d / 2),
                          avx512::narrow(_mm512_loadu_ps(q + d)));
    }
  }

  TG_AMX void scores(const SlotArray& slots, std::int64_t slot, std::int64_t count,
                     StepMemory& memory) {
    // Whoever asks for a group that is not there gets one that is; its scores are not looked at.
    for (auto g = static_cast<std::size_t>(memory.group_count); g < kGroupsPerStep; ++g) {
      memory.groups[g] = memory.groups[0];
    }
    const std::int64_t stride = slots.stride();
    for (std::int64_t end = slot + count; slot < end; slot += kSlots) {
      const std::int64_t here = std::min(end - slot, kSlots);
      shapes_.set(here);
      if (here <= kTileRows) {
        scores_of_16(slots.query(slot), stride, memory, slots.scores(slot));
      } else {
        for (std::size_t g = 0; g < static_cast<std::size_t>(memory.group_count); g += 2) {
          scores_of_32(slots.query(slot), stride, memory.groups.data() + g, memory.head_dim,
                       slots.scores(slot) + 16 * g);
        }
      }
    }
  }

  TG_AVX512 static void softmax_step(float* scores, std::int64_t valid, float scale,
                                     const SpanState& state, std::int64_t padded_head) {
    __m512 weights[4];
    weigh(scores, valid, scale, state, padded_head, weights);
    const __m512 upper_bits =
        _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<std::int32_t>(0xffff0000U)));
    // Whole lines are stored: a tile row that is read soon after can take it from the store.
    auto* out = reinterpret_cast<Bf16*>(scores);
    TG_UNROLL
    for (int g = 0; g < 4; g += 2) {
      const __m512 first = weights[g];
      const __m512 second = weights[g + 1];
      _mm512_storeu_si512(out + 16 * g, upper_halves(first, second));
      _mm512_storeu_si512(out + 64 + 16 * g,
                          upper_halves(_mm512_sub_ps(first, _mm512_and_ps(first, upper_bits)),
                                       _mm512_sub_ps(second, _mm512_and_ps(second, upper_bits))));
    }
  }

  void add_values(const SlotArray& slots, std::int64_t slot, const StepRows& seen,
                  StepMemory& memory) {
    // A weight of zero hides a value from a row, unless the value is no number.
    const std::int64_t all = seen.valid(seen.rows - 1);
    if (seen.valid(0) == all ||
        !has_non_finite(memory.groups, seen.valid(0), all, memory.head_dim)) {
      add_chunks(slots, slot, seen.slots(), ValueChunks(memory.groups, all, memory.head_dim),
                 memory);
      return;
    }
    for (std::int64_t r = 0; r < seen.rows; ++r) {
      add_chunks(slots, slot + r * seen.group, seen.group,
                 ValueChunks(memory.groups, seen.valid(r), memory.head_dim), memory);
    }
  }

  TG_AVX512 static void finish(const SpanState& state, std::int64_t head_dim, Bf16* out) {
    const float total = _mm512_reduce_add_ps(_mm512_loadu_ps(state.denominator));
    const __m512 inverse = _mm512_set1_ps(1.0F / total);
    for (std::int64_t d = 0; d < head_dim; d += 16) {
      // Hidden positions may have added zeros of any sign: so no result is a negative zero.
      const __m512 value = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(state.output + d), inverse),
                                         _mm512_setzero_ps());
      avx512::store_masked(out + d, first_lanes(16), value);
    }
  }

 private:
  TG_AMX void add_chunks(const SlotArray& slots, std::int64_t slot, std::int64_t count,
                         const ValueChunks& chunks, StepMemory& memory) {
    const std::int64_t stride = slots.stride();
    for (std::int64_t end = slot + count; slot < end; slot += kSlots) {
      const std::int64_t here = std::min(end - slot, kSlots);
      shapes_.set(here);
      const float* weights = slots.scores(slot);
      float* output = slots.span(slot).output;
      std::int64_t d = 0;
      if (here <= kTileRows) {
        for (; memory.head_dim - d >= 64; d += 64) {
          values_of_16<4>(weights, stride, chunks, memory.ahead, d, output + d);
        }
        if (d < memory.head_dim) {
          values_of_16<2>(weights, stride, chunks, memory.ahead, d, output + d);
        }
      } else {
        for (; d < memory.head_dim; d += 32) {
          values_of_32(weights, stride, chunks, d, output + d);
        }
      }
    }
  }

  Shapes shapes_;
};

bool fills_tiles(const KvLayer& kv) {
  return kv.dtype == ComputeDType::kBf16 && kv.head_dim % kTileDims == 0;
}

}  // namespace

TG_AMX void attention_amx(const AttentionArgs& args) {
  if (!fills_tiles(args.kv)) {
    attention_avx512(args);
    return;
  }
  walk_attention<AmxAttention>(args);
  // Tiles in use make every thread switch save 8 KiB.
  _tile_release();
}

void merge_attention_amx(const AttentionArgs& args) {
  if (fills_tiles(args.kv)) {
    walk_merge<AmxAttention>(args);
  } else {
    merge_attention_avx512(args);
  }
}

}  // namespace tg
