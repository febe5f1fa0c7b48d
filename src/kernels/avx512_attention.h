// What: internal to the kernels layer: attention in AVX-512 for a cache of bf16 or f32, as
//   walk_attention() asks for it. The table `avx512bf16` replaces how scores are computed.
// Who owns: nothing. Thread: any.
#pragma once

#include "kernels/attention_walk.h"
#include "kernels/avx512.h"
#include "kernels/avx512_kv_codes.h"

namespace tg::avx512 {

// Queries per register block. With 4 vectors of keys or values: 6 x 4 sums + 4 operands + 1
// broadcast = 29 of 32 registers.
inline constexpr int kSlotBlock = 6;
inline constexpr int kValueVectors = 4;

// Every so many rounds of the loops below, lines of the next step's memory are asked for: so that a
// quarter of them is in scores() and what is left at the end in add_values().
inline constexpr std::int64_t kAskScores = 4;
inline constexpr std::int64_t kAskValues = 4;  // positions

// sums[s][v] += weight[s][position] * value[position][16 v ...] for positions [p, end) of one
// group, whose values begin at `values`, from dimension d on.
template <int S, int V>
TG_AVX512_INLINE void add_group(const float* weights, std::int64_t stride, const float* values,
                                std::int64_t p, std::int64_t end, std::int64_t head_dim,
                                std::int64_t d, __mmask16 mask, __m512 (&sums)[S][V]) {
  const float* value = values + p % kKeyGroup * head_dim + d;
  for (; p < end; ++p, value += head_dim) {
    __m512 operands[V];
    TG_UNROLL
    for (int v = 0; v < V; ++v) {
      operands[v] = V == 1 ? load_masked(value, mask) : load_16(value + 16 * v);
    }
    TG_UNROLL
    for (int s = 0; s < S; ++s) {
      const __m512 weight = _mm512_set1_ps(weights[s * stride + p]);
      TG_UNROLL
      for (int v = 0; v < V; ++v) sums[s][v] = _mm512_fmadd_ps(weight, operands[v], sums[s][v]);
    }
  }
}

// The same for bf16, where positions lie in pairs. Of a pair that is cut, the other half stays
// outside the arithmetic.
template <int S, int V>
TG_AVX512_INLINE void add_group(const float* weights, std::int64_t stride, const Bf16* values,
                                std::int64_t p, std::int64_t end, std::int64_t head_dim,
                                std::int64_t d, __mmask16 mask, __m512 (&sums)[S][V]) {
  const Bf16* pair = values + (p % kKeyGroup / 2 * head_dim + d) * 2;
  for (; p < end; pair += 2 * head_dim) {
    __m512i operands[V];
    TG_UNROLL
    for (int v = 0; v < V; ++v) {
      operands[v] =
          V == 1 ? _mm512_maskz_loadu_epi32(mask, pair) : _mm512_loadu_si512(pair + 32 * v);
    }
    if (p % 2 == 0) {
      TG_UNROLL
      for (int s = 0; s < S; ++s) {
        const __m512 weight = _mm512_set1_ps(weights[s * stride + p]);
        TG_UNROLL
        for (int v = 0; v < V; ++v) {
          sums[s][v] = _mm512_fmadd_ps(weight, widen_even(operands[v]), sums[s][v]);
        }
      }
      if (++p == end) return;
    }
    TG_UNROLL
    for (int s = 0; s < S; ++s) {
      const __m512 weight = _mm512_set1_ps(weights[s * stride + p]);
      TG_UNROLL
      for (int v = 0; v < V; ++v) {
        sums[s][v] = _mm512_fmadd_ps(weight, widen_odd(operands[v]), sums[s][v]);
      }
    }
    ++p;
  }
}

// output[s][d + 16 v ...] += weight * value over positions [begin, end) of a step.
template <typename T, int S, int V>
TG_AVX512 void add_values_block(const float* weights, std::int64_t stride, const StepGroups& groups,
                                std::int64_t begin, std::int64_t end, std::int64_t head_dim,
                                std::int64_t d, NextStep& ahead, float* output) {
  const __mmask16 mask = V == 1 ? first_lanes(head_dim - d) : first_lanes(16);
  __m512 sums[S][V];
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    TG_UNROLL
    for (int v = 0; v < V; ++v) sums[s][v] = _mm512_loadu_ps(output + s * stride + d + 16 * v);
  }
  for (std::int64_t p = begin; p < end;) {
    ahead.ask(1);
    const std::int64_t group_end = std::min(end, (p / kAskValues + 1) * kAskValues);
    const auto& group = groups[static_cast<std::size_t>(p / kKeyGroup)];
    add_group<S, V>(weights, stride, reinterpret_cast<const T*>(group.values), p, group_end,
                    head_dim, d, mask, sums);
    p = group_end;
  }
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    TG_UNROLL
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(output + s * stride + d + 16 * v, sums[s][v]);
  }
}

// One pair of k against 16 positions, for a cache of bf16; one k for f32.
TG_AVX512_INLINE __m512 add_products(const Bf16*, const std::byte* keys, std::int64_t i,
                                     const float* q, __m512 sum) {
  const __m512i pairs = _mm512_loadu_si512(keys + i * 64);
  sum = _mm512_fmadd_ps(_mm512_set1_ps(q[2 * i]), widen_even(pairs), sum);
  return _mm512_fmadd_ps(_mm512_set1_ps(q[2 * i + 1]), widen_odd(pairs), sum);
}
TG_AVX512_INLINE __m512 add_products(const float*, const std::byte* keys, std::int64_t i,
                                     const float* q, __m512 sum) {
  return _mm512_fmadd_ps(_mm512_set1_ps(q[i]), _mm512_loadu_ps(keys + i * 64), sum);
}

// scores[s][16 g ...] for G groups; a cache of bf16 meets queries already rounded to bf16, held as
// f32.
template <typename T, int S, int G>
TG_AVX512 void scores_block(const float* query, std::int64_t stride, const KeyGroup* groups,
                            std::int64_t head_dim, NextStep& ahead, float* scores) {
  const std::int64_t steps = sizeof(T) == 2 ? head_dim / 2 : head_dim;
  __m512 sums[S][G];
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    TG_UNROLL
    for (int g = 0; g < G; ++g) sums[s][g] = _mm512_setzero_ps();
  }
  for (std::int64_t i = 0; i < steps; ++i) {
    if (i % kAskScores == 0) ahead.ask(1);
    TG_UNROLL
    for (int s = 0; s < S; ++s) {
      TG_UNROLL
      for (int g = 0; g < G; ++g) {
        sums[s][g] = add_products(static_cast<const T*>(nullptr), groups[g].keys, i,
                                  query + s * stride, sums[s][g]);
      }
    }
  }
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    TG_UNROLL
    for (int g = 0; g < G; ++g) _mm512_storeu_ps(scores + s * stride + 16 * g, sums[s][g]);
  }
}

template <typename T>
struct ValuesCall {
  const float* weights;
  std::int64_t stride;
  const StepGroups& groups;
  std::int64_t begin, end, head_dim;
  NextStep& ahead;
  float* output;

  template <int S>
  void run(std::int64_t s) const {
    const float* w = weights + s * stride;
    float* o = output + s * stride;
    std::int64_t d = 0;
    for (; head_dim - d >= 16 * kValueVectors; d += 16 * kValueVectors) {
      add_values_block<T, S, kValueVectors>(w, stride, groups, begin, end, head_dim, d, ahead, o);
    }
    for (; d < head_dim; d += 16) {
      add_values_block<T, S, 1>(w, stride, groups, begin, end, head_dim, d, ahead, o);
    }
  }
};

template <typename T>
struct ScoresCall {
  const float* query;
  std::int64_t stride;
  const StepGroups& groups;
  std::int64_t group_count, head_dim;
  NextStep& ahead;
  float* scores;

  template <int S>
  void run(std::int64_t s) const {
    const float* q = query + s * stride;
    float* out = scores + s * stride;
    if (group_count == 4) {
      scores_block<T, S, 4>(q, stride, groups.data(), head_dim, ahead, out);
      return;
    }
    for (std::int64_t g = 0; g < group_count; ++g) {
      scores_block<T, S, 1>(q, stride, groups.data() + g, head_dim, ahead, out + 16 * g);
    }
  }
};

template <typename T>
struct Attention {
  using Element = T;
  static constexpr std::int64_t kSlots = 24;  // whole register blocks

  TG_AVX512 static void prepare_query(const float* q, std::int64_t head_dim, float* query) {
    for (std::int64_t d = 0; d < head_dim; d += 16) {
      __m512 v = load_masked(q + d, first_lanes(head_dim - d));
      if (sizeof(T) == 2) v = widen_even(_mm512_cvtepu16_epi32(narrow(v)));
      _mm512_storeu_ps(query + d, v);
    }
  }

  template <KvFormat F>
  static void expand_keys(std::int64_t head_dim, const std::byte* group, NextStep& ahead,
                          Bf16* to) {
    avx512::expand_keys<F>(head_dim, group, ahead, to);
  }
  template <KvFormat F>
  static void expand_values(std::int64_t head_dim, const std::byte* group, NextStep& ahead,
                            Bf16* to) {
    avx512::expand_values<F>(head_dim, group, ahead, to);
  }

  static void scores(const SlotArray& slots, std::int64_t slot, std::int64_t count,
                     StepMemory& memory) {
    for_slot_blocks<kSlotBlock>(
        count, ScoresCall<T>{slots.query(slot), slots.stride(), memory.groups, memory.group_count,
                             memory.head_dim, memory.ahead, slots.scores(slot)});
  }

  // The new weights of the 64 positions; the state follows. The maximum is kept as a power of two:
  // weights are 2^(score * scale / ln 2 - maximum).
  TG_AVX512_INLINE static void weigh(const float* scores, std::int64_t valid, float scale,
                                     const SpanState& state, std::int64_t padded_head,
                                     __m512 (&weights)[4]) {
    const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    TG_UNROLL
    for (int g = 0; g < 4; ++g) {
      weights[g] = valid >= kAttentionStep
                       ? _mm512_loadu_ps(scores + 16 * g)
                       : _mm512_mask_loadu_ps(lowest, first_lanes(valid - 16 * g), scores + 16 * g);
    }
    const __m512 maxima =
        _mm512_max_ps(_mm512_max_ps(weights[0], weights[1]), _mm512_max_ps(weights[2], weights[3]));
    const float factor = scale * exp_constants::kLog2E;
    const float before = *state.maximum;
    const float largest = _mm512_reduce_max_ps(maxima) * factor;
    const float now = largest > before + kSlack ? largest : before;
    __m512 sums = _mm512_loadu_ps(state.denominator);
    if (now != before) {
      const __m512 shrink = exp2_weight(_mm512_set1_ps(before - now));
      sums = _mm512_mul_ps(sums, shrink);
      for (std::int64_t d = 0; d < padded_head; d += 16) {
        float* out = state.output + d;
        _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_loadu_ps(out), shrink));
      }
      *state.maximum = now;
    }
    TG_UNROLL
    for (int g = 0; g < 4; ++g) {
      weights[g] =
          exp2_weight(_mm512_fmsub_ps(weights[g], _mm512_set1_ps(factor), _mm512_set1_ps(now)));
    }
    const __m512 sum =
        _mm512_add_ps(_mm512_add_ps(weights[0], weights[1]), _mm512_add_ps(weights[2], weights[3]));
    _mm512_storeu_ps(state.denominator, _mm512_add_ps(sums, sum));
  }

  TG_AVX512 static void softmax_step(float* scores, std::int64_t valid, float scale,
                                     const SpanState& state, std::int64_t padded_head) {
    __m512 weights[4];
    weigh(scores, valid, scale, state, padded_head, weights);
    TG_UNROLL
    for (int g = 0; g < 4; ++g) _mm512_storeu_ps(scores + 16 * g, weights[g]);
  }

  static void add_range(const float* weights, std::int64_t stride, std::int64_t slots,
                        const StepGroups& groups, std::int64_t begin, std::int64_t end,
                        std::int64_t head_dim, NextStep& ahead, float* output) {
    for_slot_blocks<kSlotBlock>(
        slots, ValuesCall<T>{weights, stride, groups, begin, end, head_dim, ahead, output});
  }
  void add_values(const SlotArray& slots, std::int64_t slot, const StepRows& seen,
                  StepMemory& memory) {
    add_values_by_rows(*this, slots, slot, seen, memory);
  }

  TG_AVX512 static void merge(const SpanState& state, std::int64_t padded_head,
                              const SpanState& into) {
    const float now = std::max(*state.maximum, *into.maximum);
    const __m512 shrink = exp2_weight(_mm512_set1_ps(*into.maximum - now));
    const __m512 factor = exp2_weight(_mm512_set1_ps(*state.maximum - now));
    // Output and denominator lie one behind the other.
    for (std::int64_t i = 0; i < padded_head + 16; i += 16) {
      const __m512 earlier = _mm512_mul_ps(_mm512_loadu_ps(into.output + i), shrink);
      _mm512_storeu_ps(into.output + i,
                       _mm512_fmadd_ps(_mm512_loadu_ps(state.output + i), factor, earlier));
    }
    *into.maximum = now;
  }

  TG_AVX512 static void finish(const SpanState& state, std::int64_t head_dim, T* out) {
    const float total = _mm512_reduce_add_ps(_mm512_loadu_ps(state.denominator));
    const __m512 inverse = _mm512_set1_ps(1.0F / total);
    for (std::int64_t d = 0; d < head_dim; d += 16) {
      store_masked(out + d, first_lanes(head_dim - d),
                   _mm512_mul_ps(_mm512_loadu_ps(state.output + d), inverse));
    }
  }
};

}  // namespace tg::avx512
