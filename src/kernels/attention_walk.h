// What: internal to the kernels layer: the order in which every vector table walks attention. The
//   softmax is kept online (a running maximum, denominator and output per query, rescaled when the
//   maximum grows; the scheme of Milakov and Gimelshein, "Online normalizer calculation for
//   softmax", 2018). A context is walked in steps of kAttentionStep positions from 0; every
//   kAttentionSpan positions a new state begins, and the states of the spans are merged in order.
//   Several queries share each load of keys and values, but no number of one query depends on which
//   others are beside it, nor on who walks which span:
//     a score is one chain over head_dim, a span's output element one chain over its positions, and
//     the output one chain over spans.
// Who owns: nothing; the state is in the caller's scratch. Thread: any.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/kernel_table.h"
#include "kernels/next_step.h"
#include "kernels/tables.h"

namespace tg {

// What weights are relative to need not be the largest score: it is enough that no weight
// overflows. So this maximum moves (and the output is rescaled) only for a score that is larger by
// more than so much, in the units in which the table keeps the maximum.
inline constexpr float kSlack = 8.0F;

// What is known of one query after a span, or after several of them.
struct SpanState {
  float* output;
  float* denominator;  // [16]: partial sums
  float* maximum;
};

// A state in memory: output [padded_head_dim] | denominator [16] | maximum [1, room for 16]
inline SpanState state_at(float* base, std::int64_t padded_head) {
  return {base, base + padded_head, base + padded_head + 16};
}

// A slot is all that belongs to one query, that is to one (row, query head):
//   query [padded_head_dim] | state of the span | scores [kAttentionStep]
// Behind all slots lie the states of their earlier spans together, and behind these the room for a
// step's keys or values that are codes in the cache.
class SlotArray {
 public:
  SlotArray(float* base, std::int64_t head_dim, std::int64_t slots)
      : base_(base),
        merged_(base + slots * attention_slot_floats(head_dim)),
        expanded_(merged_ + slots * attention_partial_floats(head_dim)),
        head_(padded_head_dim(head_dim)),
        stride_(attention_slot_floats(head_dim)) {}

  std::int64_t stride() const { return stride_; }  // floats from a slot's part to the next slot's
  float* query(std::int64_t slot) const { return base_ + slot * stride_; }
  SpanState span(std::int64_t slot) const { return state_at(query(slot) + head_, head_); }
  float* scores(std::int64_t slot) const { return query(slot) + 2 * head_ + 32; }
  float* merged(std::int64_t slot) const { return merged_ + slot * (head_ + 32); }
  std::int64_t padded_head() const { return head_; }
  // attention_expanded_floats() are there, some of which alignment takes.
  Bf16* expanded() const {
    const auto address = reinterpret_cast<std::uintptr_t>(expanded_);
    return reinterpret_cast<Bf16*>(expanded_ + (64 - address % 64) % 64 / sizeof(float));
  }

 private:
  float* base_;
  float* merged_;
  float* expanded_;
  std::int64_t head_;
  std::int64_t stride_;
};

// Cuts `slots` slots into register blocks: f.template run<S>(first slot) with S <= Max.
template <int Max, typename F>
void for_slot_blocks(std::int64_t slots, const F& f, std::int64_t slot = 0) {
  for (; slots - slot >= Max; slot += Max) f.template run<Max>(slot);
  if constexpr (Max > 1) for_slot_blocks<Max - 1>(slots, f, slot);
}

// The rows that see a step, and how much of it: neighbours at ascending positions, so the first one
// sees the least.
struct StepRows {
  std::int64_t rows;
  std::int64_t group;  // slots of a row
  std::int64_t first;  // positions of the step that the first row sees, if the step had no end

  std::int64_t slots() const { return rows * group; }
  std::int64_t valid(std::int64_t row) const { return std::min(kAttentionStep, first + row); }
};

// The keys and values of a step, as far as somebody sees them, and those of the step after it.
struct StepMemory {
  StepGroups groups;
  StepGroups next;
  std::int64_t group_count = 0;
  std::int64_t next_count = 0;
  std::int64_t head_dim = 0;
  NextStep ahead;
};

// For vectors: positions that all rows see, together; then each row's own rest. What a row does not
// see is never touched for it: stale memory times a zero weight may be NaN.
template <typename Isa>
void add_values_by_rows(Isa& isa, const SlotArray& slots, std::int64_t slot, const StepRows& seen,
                        StepMemory& memory) {
  const std::int64_t stride = slots.stride();
  const std::int64_t common = seen.valid(0);
  isa.add_range(slots.scores(slot), stride, seen.slots(), memory.groups, 0, common, memory.head_dim,
                memory.ahead, slots.span(slot).output);
  for (std::int64_t r = 1; r < seen.rows; ++r) {
    if (seen.valid(r) == common) continue;
    const std::int64_t s = slot + r * seen.group;
    isa.add_range(slots.scores(s), stride, seen.group, memory.groups, common, seen.valid(r),
                  memory.head_dim, memory.ahead, slots.span(s).output);
  }
}

// Isa, for one element type of the cache (all pointers into slots have the stride of the slots):
//   kSlots                                     slots to walk at a time, up to kAttentionSlots
//   prepare_query(q, head_dim, query)          f32 to what scores() reads, zeros up to the padding
//   scores(slots, slot, count, memory)         of slots [slot, slot + count)
//   softmax_step(scores, valid, scale, state, padded_head)
//       scores become weights; the rest of the state follows. Scores from `valid` on are not looked
//       at.
//   add_values(slots, slot, seen, memory)
//       output += sum of weight * value over the positions that each row sees, in order
//   merge(state, padded_head, into)            adds a span's state to that of the earlier spans
//   finish(state, head_dim, out)               divides and rounds
// and for an element of bf16, of the kKeyGroup positions that begin at `group`
//   expand_keys<F>(head_dim, group, ahead, to), expand_values<F>(...)
//       codes to the layout of bf16, in ascending order (up to a vector behind may be written)
template <typename Isa>
class AttentionWalk {
 public:
  explicit AttentionWalk(const AttentionArgs& args)
      : args_(args),
        slots_(args.scratch, args.kv.head_dim, std::min(args.rows, tile_rows()) * args.group) {}

  void run() {
    for (std::int64_t row = 0; row < args_.rows; row += tile_rows()) {
      walk_rows(row, std::min(tile_rows(), args_.rows - row));
    }
  }

  void merge() {
    for (std::int64_t slot = 0; slot < args_.rows * args_.group; ++slot) {
      const std::int64_t spans = attention_spans(args_.first_position + slot / args_.group);
      for (std::int64_t span = 0; span < spans; ++span) {
        put_into(state_at(partial(slot, span), slots_.padded_head()), span, slots_.merged(0));
      }
      finish(slots_.merged(0), slot);
    }
  }

 private:
  using Out = typename Isa::Element;

  std::int64_t tile_rows() const { return attention_tile_rows(args_.group, Isa::kSlots); }

  float* partial(std::int64_t slot, std::int64_t span) const {
    return args_.partials +
           (slot * args_.spans + span) * attention_partial_floats(args_.kv.head_dim);
  }

  // Adds the state of a span to what is in `merged` of the spans before it.
  void put_into(const SpanState& state, std::int64_t span, float* merged) {
    if (span == 0) {
      std::copy_n(state.output, attention_partial_floats(args_.kv.head_dim), merged);
    } else {
      isa_.merge(state, slots_.padded_head(), state_at(merged, slots_.padded_head()));
    }
  }

  void finish(float* merged, std::int64_t slot) {
    Out* out = static_cast<Out*>(args_.out) + slot / args_.group * args_.out_stride +
               slot % args_.group * args_.kv.head_dim;
    isa_.finish(state_at(merged, slots_.padded_head()), args_.kv.head_dim, out);
  }

  // Rows [row, row + rows) of the call, which together share each load.
  void walk_rows(std::int64_t row, std::int64_t rows) {
    const std::int64_t first = args_.first_position + row;  // position of the first row
    const std::int64_t spans = attention_spans(first + rows - 1);
    const std::int64_t group = args_.group;
    for (std::int64_t s = 0; s < rows * group; ++s) {
      const float* q = args_.q + (row + s / group) * args_.q_stride + s % group * args_.kv.head_dim;
      isa_.prepare_query(q, args_.kv.head_dim, slots_.query(s));
    }
    const bool whole = args_.partials == nullptr;
    const std::int64_t span_begin = whole ? 0 : args_.span_begin;
    const std::int64_t span_end = whole ? spans : std::min(spans, args_.span_end);
    for (std::int64_t span = span_begin; span < span_end; ++span) {
      // Rows are at ascending positions, so the rows that see this span are the last ones.
      const std::int64_t start = span * kAttentionSpan;
      const std::int64_t slot = std::max<std::int64_t>(0, start - first) * group;
      walk_span(first, rows, start, std::min(first + rows, span_end * kAttentionSpan));
      for (std::int64_t s = slot; s < rows * group; ++s) {
        if (whole) {
          put_into(slots_.span(s), span, slots_.merged(s));
        } else {
          std::copy_n(slots_.span(s).output, attention_partial_floats(args_.kv.head_dim),
                      partial(row * group + s, span));
        }
      }
    }
    if (!whole) return;
    for (std::int64_t s = 0; s < rows * group; ++s) finish(slots_.merged(s), row * group + s);
  }

  // The span that begins at `span_start`; nothing from `end` on will be looked at in later spans.
  void walk_span(std::int64_t first, std::int64_t rows, std::int64_t span_start, std::int64_t end) {
    const std::int64_t group = args_.group;
    for (std::int64_t s = std::max<std::int64_t>(0, span_start - first) * group; s < rows * group;
         ++s) {
      const SpanState state = slots_.span(s);
      std::fill_n(state.output, slots_.padded_head(), 0.0F);
      std::fill_n(state.denominator, 16, 0.0F);
      *state.maximum = -std::numeric_limits<float>::infinity();
    }
    const KvLayer& kv = args_.kv;
    StepMemory memory;
    memory.head_dim = kv.head_dim;
    memory.next_count = find_groups(span_start, end, memory.next);
    const std::int64_t stop = std::min(span_start + kAttentionSpan, end);
    for (std::int64_t start = span_start; start < stop; start += kAttentionStep) {
      memory.groups = memory.next;
      memory.group_count = memory.next_count;
      memory.next_count = find_groups(start + kAttentionStep, end, memory.next);

      const std::int64_t active = std::max<std::int64_t>(0, start - first);
      const StepRows seen{rows - active, group, first + active + 1 - start};
      const std::int64_t slot = active * group;
      memory.ahead = NextStep(memory.next, memory.next_count, kv);
      expand_keys(memory);
      isa_.scores(slots_, slot, seen.slots(), memory);
      // What scores() has not asked for: half of it here, half of it during add_values().
      const std::int64_t per_slot = (memory.ahead.left() / 2 + seen.slots() - 1) / seen.slots();
      for (std::int64_t s = 0; s < seen.slots(); ++s) {
        memory.ahead.ask(per_slot);
        isa_.softmax_step(slots_.scores(slot + s), seen.valid(s / group), args_.scale,
                          slots_.span(slot + s), slots_.padded_head());
      }
      expand_values(memory);
      isa_.add_values(slots_, slot, seen, memory);
    }
  }

  // Codes become bf16 once per step, for all rows and query heads that share it. Keys and values
  // take the same room, one after the other: together they would not stay in the first cache.
  void expand_keys(StepMemory& memory) {
    for_code_groups(memory, [&]<KvFormat F>(KeyGroup& group, Bf16* to) {
      isa_.template expand_keys<F>(memory.head_dim, group.keys, memory.ahead, to);
      group.keys = reinterpret_cast<const std::byte*>(to);
    });
  }
  void expand_values(StepMemory& memory) {
    for_code_groups(memory, [&]<KvFormat F>(KeyGroup& group, Bf16* to) {
      isa_.template expand_values<F>(memory.head_dim, group.values, memory.ahead, to);
      group.values = reinterpret_cast<const std::byte*>(to);
    });
  }

  // f<format>(group, its place as bf16) for the step's groups, if they are codes.
  template <typename F>
  void for_code_groups(StepMemory& memory, const F& f) {
    if constexpr (std::is_same_v<typename Isa::Element, Bf16>) {
      if (args_.kv.format == KvFormat::kCompute) return;
      Bf16* to = slots_.expanded();
      for (std::int64_t g = 0; g < memory.group_count; ++g, to += kKeyGroup * memory.head_dim) {
        KeyGroup& group = memory.groups[static_cast<std::size_t>(g)];
        if (args_.kv.format == KvFormat::kInt8) {
          f.template operator()<KvFormat::kInt8>(group, to);
        } else {
          f.template operator()<KvFormat::kBfp8>(group, to);
        }
      }
    }
  }

  // The groups of the step at `start` that hold positions below `end`.
  std::int64_t find_groups(std::int64_t start, std::int64_t end, StepGroups& groups) const {
    const std::int64_t positions = std::clamp<std::int64_t>(end - start, 0, kAttentionStep);
    const std::int64_t count = (positions + kKeyGroup - 1) / kKeyGroup;
    for (std::int64_t g = 0; g < count; ++g) {
      groups[static_cast<std::size_t>(g)] =
          find_key_group(args_.kv, args_.kv_head, args_.pages, start + g * kKeyGroup);
    }
    return count;
  }

  const AttentionArgs& args_;
  SlotArray slots_;
  Isa isa_;
};

template <typename Isa>
void walk_attention(const AttentionArgs& args) {
  AttentionWalk<Isa>(args).run();
}

template <typename Isa>
void walk_merge(const AttentionArgs& args) {
  AttentionWalk<Isa>(args).merge();
}

}  // namespace tg
