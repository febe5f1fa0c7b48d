// What: internal to the kernels layer: attention in AVX-512 for a cache of bf16 or f32, as
//   walk_attention() asks for it. The table `avx512bf16` replaces how scores are computed.
// Who owns: nothing. Thread: any.
#pragma once

#include "kernels/attention_walk.h"
#include "kernels/avx512.h"

namespace tg::avx512 {

// Queries per register block. With 4 vectors of keys or values: 6 x 4 sums + 4 operands + 1
// broadcast = 29 of 32 registers.
inline constexpr int kSlotBlock = 6;
inline constexpr int kValueVectors = 4;

// sums[s][v] += weight[s][position] * value[position][16 v ...] for positions [begin, end).
template <typename T, int S, int V>
TG_AVX512 void add_values_block(const float* weights, std::int64_t stride, const StepGroups& groups,
                                std::int64_t begin, std::int64_t end, std::int64_t head_dim,
                                std::int64_t d, float* output) {
  const __mmask16 mask = V == 1 ? first_lanes(head_dim - d) : first_lanes(16);
  __m512 sums[S][V];
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    TG_UNROLL
    for (int v = 0; v < V; ++v) sums[s][v] = _mm512_loadu_ps(output + s * stride + d + 16 * v);
  }
  for (std::int64_t p = begin; p < end;) {
    const std::int64_t group_end = std::min(end, (p / kKeyGroup + 1) * kKeyGroup);
    const T* value =
        reinterpret_cast<const T*>(groups[static_cast<std::size_t>(p / kKeyGroup)].values) +
        p % kKeyGroup * head_dim + d;
    for (; p < group_end; ++p, value += head_dim) {
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
                            std::int64_t head_dim, float* scores) {
  const std::int64_t steps = sizeof(T) == 2 ? head_dim / 2 : head_dim;
  __m512 sums[S][G];
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    TG_UNROLL
    for (int g = 0; g < G; ++g) sums[s][g] = _mm512_setzero_ps();
  }
  for (std::int64_t i = 0; i < steps; ++i) {
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
  float* output;

  template <int S>
  void run(std::int64_t s) const {
    const float* w = weights + s * stride;
    float* o = output + s * stride;
    std::int64_t d = 0;
    for (; head_dim - d >= 16 * kValueVectors; d += 16 * kValueVectors) {
      add_values_block<T, S, kValueVectors>(w, stride, groups, begin, end, head_dim, d, o);
    }
    for (; d < head_dim; d += 16) {
      add_values_block<T, S, 1>(w, stride, groups, begin, end, head_dim, d, o);
    }
  }
};

template <typename T>
struct ScoresCall {
  const float* query;
  std::int64_t stride;
  const StepGroups& groups;
  std::int64_t group_count, head_dim;
  float* scores;

  template <int S>
  void run(std::int64_t s) const {
    const float* q = query + s * stride;
    float* out = scores + s * stride;
    if (group_count == 4) {
      scores_block<T, S, 4>(q, stride, groups.data(), head_dim, out);
      return;
    }
    for (std::int64_t g = 0; g < group_count; ++g) {
      scores_block<T, S, 1>(q, stride, groups.data() + g, head_dim, out + 16 * g);
    }
  }
};

template <typename T>
struct Attention {
  using Element = T;

  TG_AVX512 static void prepare_query(const float* q, std::int64_t head_dim, float* query) {
    for (std::int64_t d = 0; d < head_dim; d += 16) {
      __m512 v = load_masked(q + d, first_lanes(head_dim - d));
      if (sizeof(T) == 2) v = widen_even(_mm512_cvtepu16_epi32(narrow(v)));
      _mm512_storeu_ps(query + d, v);
    }
  }

  static void scores(const float* query, std::int64_t stride, std::int64_t slots,
                     const StepGroups& groups, std::int64_t group_count, std::int64_t head_dim,
                     float* scores) {
    for_slot_blocks<kSlotBlock>(
        slots, ScoresCall<T>{query, stride, groups, group_count, head_dim, scores});
  }

  TG_AVX512 static void softmax_step(float* scores, std::int64_t valid, float scale, float* maximum,
                                     float* denominator, float* output, std::int64_t padded_head) {
    const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    __m512 scaled[4];
    __m512 maxima = lowest;
    TG_UNROLL
    for (int g = 0; g < 4; ++g) {
      scaled[g] = _mm512_mask_mul_ps(lowest, first_lanes(valid - 16 * g),
                                     _mm512_loadu_ps(scores + 16 * g), _mm512_set1_ps(scale));
      maxima = _mm512_max_ps(maxima, scaled[g]);
    }
    const float before = *maximum;
    const float largest = _mm512_reduce_max_ps(maxima);
    const float now = largest > before ? largest : before;
    __m512 sums = _mm512_loadu_ps(denominator);
    if (now != before) {
      const __m512 shrink = exp_ps(_mm512_set1_ps(before - now));
      sums = _mm512_mul_ps(sums, shrink);
      for (std::int64_t d = 0; d < padded_head; d += 16) {
        _mm512_storeu_ps(output + d, _mm512_mul_ps(_mm512_loadu_ps(output + d), shrink));
      }
      *maximum = now;
    }
    TG_UNROLL
    for (int g = 0; g < 4; ++g) {
      const __m512 weight = exp_ps(_mm512_sub_ps(scaled[g], _mm512_set1_ps(now)));
      sums = _mm512_add_ps(sums, weight);
      _mm512_storeu_ps(scores + 16 * g, weight);
    }
    _mm512_storeu_ps(denominator, sums);
  }

  static void add_values(const float* weights, std::int64_t stride, std::int64_t slots,
                         const StepGroups& groups, std::int64_t begin, std::int64_t end,
                         std::int64_t head_dim, float* output) {
    for_slot_blocks<kSlotBlock>(
        slots, ValuesCall<T>{weights, stride, groups, begin, end, head_dim, output});
  }

  TG_AVX512 static void finish(const float* output, const float* denominator, std::int64_t head_dim,
                               T* out) {
    const float total = _mm512_reduce_add_ps(_mm512_loadu_ps(denominator));
    const __m512 inverse = _mm512_set1_ps(1.0F / total);
    for (std::int64_t d = 0; d < head_dim; d += 16) {
      store_masked(out + d, first_lanes(head_dim - d),
                   _mm512_mul_ps(_mm512_loadu_ps(output + d), inverse));
    }
  }
};

}  // namespace tg::avx512
