// What: internal to the kernels layer: the order in which every vector table walks attention. The
//   softmax is kept online (a running maximum, denominator and output per query, rescaled when the
//   maximum grows; the scheme of Milakov and Gimelshein, "Online normalizer calculation for
//   softmax", 2018). A context is walked in steps of kAttentionStep positions from 0; several
//   queries share each load of keys and values, but no number of one query depends on which others
//   are beside it:
//     a score is one chain over head_dim, an output element one chain over positions.
// Who owns: nothing; the state is in the caller's scratch. Thread: any.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "kernels/kernel_table.h"
#include "kernels/tables.h"

namespace tg {

// A slot is the state of one query, that is of one (row, query head):
//   query [padded_head_dim] | output [padded_head_dim] | scores [kAttentionStep] | denominator [16]
//   | maximum [1, room for 16]
class SlotArray {
 public:
  SlotArray(float* base, std::int64_t head_dim)
      : base_(base), head_(padded_head_dim(head_dim)), stride_(attention_slot_floats(head_dim)) {}

  std::int64_t stride() const { return stride_; }  // floats from a slot's part to the next slot's
  float* query(std::int64_t slot) const { return base_ + slot * stride_; }
  float* output(std::int64_t slot) const { return query(slot) + head_; }
  float* scores(std::int64_t slot) const { return query(slot) + 2 * head_; }
  float* denominator(std::int64_t slot) const { return scores(slot) + kAttentionStep; }
  float* maximum(std::int64_t slot) const { return denominator(slot) + 16; }
  std::int64_t padded_head() const { return head_; }

 private:
  float* base_;
  std::int64_t head_;
  std::int64_t stride_;
};

inline constexpr std::size_t kGroupsPerStep = kAttentionStep / kKeyGroup;
using StepGroups = std::array<KeyGroup, kGroupsPerStep>;

// Cuts `slots` slots into register blocks: f.template run<S>(first slot) with S <= Max.
template <int Max, typename F>
void for_slot_blocks(std::int64_t slots, const F& f, std::int64_t slot = 0) {
  for (; slots - slot >= Max; slot += Max) f.template run<Max>(slot);
  if constexpr (Max > 1) for_slot_blocks<Max - 1>(slots, f, slot);
}

// Isa, for one element type of the cache (all pointers into slots have the stride `stride`):
//   prepare_query(q, head_dim, query)          f32 to what scores() reads, zeros up to the padding
//   scores(query, stride, slots, groups, group_count, head_dim, scores)
//   softmax_step(scores, valid, scale, maximum, denominator, output, padded_head)
//       scores become weights; the rest of the state follows. Scores from `valid` on are not looked
//       at.
//   add_values(weights, stride, slots, groups, begin, end, head_dim, output)
//       output += sum of weight * value over positions [begin, end) of the step, in order
//   finish(output, denominator, head_dim, out) divides and rounds
template <typename Isa>
void walk_attention(const AttentionArgs& args) {
  using Out = typename Isa::Element;
  const KvLayer& kv = args.kv;
  const SlotArray slots(args.scratch, kv.head_dim);
  const std::int64_t stride = slots.stride();
  const std::int64_t tile_rows = attention_tile_rows(args.group);

  for (std::int64_t row = 0; row < args.rows; row += tile_rows) {
    const std::int64_t rows = std::min(tile_rows, args.rows - row);
    const std::int64_t first = args.first_position + row;  // position of the tile's first row
    const std::int64_t end = first + rows;                 // positions this tile may look at

    for (std::int64_t s = 0; s < rows * args.group; ++s) {
      const float* q =
          args.q + (row + s / args.group) * args.q_stride + s % args.group * kv.head_dim;
      Isa::prepare_query(q, kv.head_dim, slots.query(s));
      std::fill_n(slots.output(s), slots.padded_head(), 0.0F);
      std::fill_n(slots.denominator(s), 16, 0.0F);
      *slots.maximum(s) = -std::numeric_limits<float>::infinity();
    }

    for (std::int64_t start = 0; start < end; start += kAttentionStep) {
      // Rows are at ascending positions, so the rows that see this step are the last ones.
      const std::int64_t active = std::max<std::int64_t>(0, start - first);
      const std::int64_t slot = active * args.group;
      const std::int64_t count = (rows - active) * args.group;
      const auto valid = [&](std::int64_t r) {
        return std::min(kAttentionStep, first + r + 1 - start);
      };

      StepGroups groups{};
      const std::int64_t group_count = (valid(rows - 1) + kKeyGroup - 1) / kKeyGroup;
      for (std::int64_t g = 0; g < group_count; ++g) {
        groups[static_cast<std::size_t>(g)] =
            find_key_group(kv, args.kv_head, args.pages, start + g * kKeyGroup);
      }

      Isa::scores(slots.query(slot), stride, count, groups, group_count, kv.head_dim,
                  slots.scores(slot));
      for (std::int64_t s = slot; s < slot + count; ++s) {
        Isa::softmax_step(slots.scores(s), valid(s / args.group), args.scale, slots.maximum(s),
                          slots.denominator(s), slots.output(s), slots.padded_head());
      }

      // Positions that all active rows see, together; then each row's own rest. What a row does not
      // see is never touched for it: stale memory times a zero weight may be NaN.
      const std::int64_t common = valid(active);
      Isa::add_values(slots.scores(slot), stride, count, groups, 0, common, kv.head_dim,
                      slots.output(slot));
      for (std::int64_t r = active + 1; r < rows; ++r) {
        if (valid(r) == common) continue;
        const std::int64_t s = r * args.group;
        Isa::add_values(slots.scores(s), stride, args.group, groups, common, valid(r), kv.head_dim,
                        slots.output(s));
      }
    }

    for (std::int64_t s = 0; s < rows * args.group; ++s) {
      Out* out = static_cast<Out*>(args.out) + (row + s / args.group) * args.out_stride +
                 s % args.group * kv.head_dim;
      Isa::finish(slots.output(s), slots.denominator(s), kv.head_dim, out);
    }
  }
}

}  // namespace tg
