// The table of CPUs with AVX2 and FMA, and its attention: bf16 is widened by shifts and multiplied
// in f32.
#include "kernels/avx2.h"

#include "kernels/attention_walk.h"
#include "kernels/avx2_kv_codes.h"

namespace tg {
namespace {

using avx2::load_8;
using avx2::load_first;
using avx2::store_first;
using avx2::widen_even;
using avx2::widen_odd;

// ---------------------------------------------------------------- attention

// 4 queries x 2 vectors = 8 sums + 2 operands + 1 broadcast, with room for the widening.
constexpr int kSlotBlock = 4;

TG_AVX2_INLINE __m256 load_keys(const std::byte* p) {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
}

// scores[s][0 .. 16) of one group; a cache of bf16 meets queries already rounded to bf16, held as
// f32.
template <typename T, int S>
TG_AVX2 void scores_block(const float* query, std::int64_t stride, const std::byte* keys,
                          std::int64_t head_dim, float* scores) {
  __m256 sums[S][2];
  TG_UNROLL
  for (int s = 0; s < S; ++s) sums[s][0] = sums[s][1] = _mm256_setzero_ps();
  constexpr int kWide = sizeof(T) == 2 ? 2 : 1;  // dimensions in one row of 64 bytes
  for (std::int64_t d = 0; d < head_dim; d += kWide, keys += 64) {
    const __m256 low = load_keys(keys);
    const __m256 high = load_keys(keys + 32);
    TG_UNROLL
    for (int j = 0; j < kWide; ++j) {
      __m256 a = low;
      __m256 b = high;
      if (kWide == 2) {
        const __m256i pairs_a = _mm256_castps_si256(low);
        const __m256i pairs_b = _mm256_castps_si256(high);
        a = j == 0 ? widen_even(pairs_a) : widen_odd(pairs_a);
        b = j == 0 ? widen_even(pairs_b) : widen_odd(pairs_b);
      }
      TG_UNROLL
      for (int s = 0; s < S; ++s) {
        const __m256 q = _mm256_broadcast_ss(query + s * stride + d + j);
        sums[s][0] = _mm256_fmadd_ps(q, a, sums[s][0]);
        sums[s][1] = _mm256_fmadd_ps(q, b, sums[s][1]);
      }
    }
  }
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    _mm256_storeu_ps(scores + s * stride, sums[s][0]);
    _mm256_storeu_ps(scores + s * stride + 8, sums[s][1]);
  }
}

// The value of a position at dimension d and the 7 (or count - 1) after it. Of bf16 positions lie
// in pairs, of which the other one stays outside the arithmetic.
TG_AVX2_INLINE __m256 load_values(const float* group, std::int64_t p, std::int64_t head_dim,
                                  std::int64_t d, std::int64_t count) {
  return load_first(group + p % kKeyGroup * head_dim + d, count);
}
TG_AVX2_INLINE __m256 load_values(const Bf16* group, std::int64_t p, std::int64_t head_dim,
                                  std::int64_t d, std::int64_t count) {
  const Bf16* pairs = group + (p % kKeyGroup / 2 * head_dim + d) * 2;
  const __m256i both =
      _mm256_castps_si256(load_first(reinterpret_cast<const float*>(pairs), count));
  return p % 2 == 0 ? widen_even(both) : widen_odd(both);
}

// output[s][d ...] += weight[s][position] * value[position][d ...] for positions [begin, end), 16
// dimensions at once (V = 2) or the first `count` of 8.
template <typename T, int S, int V>
TG_AVX2 void add_values_block(const float* weights, std::int64_t stride, const StepGroups& groups,
                              std::int64_t begin, std::int64_t end, std::int64_t head_dim,
                              std::int64_t d, float* output) {
  __m256 sums[S][V];
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    TG_UNROLL
    for (int v = 0; v < V; ++v) sums[s][v] = _mm256_loadu_ps(output + s * stride + d + 8 * v);
  }
  for (std::int64_t p = begin; p < end; ++p) {
    const T* group =
        reinterpret_cast<const T*>(groups[static_cast<std::size_t>(p / kKeyGroup)].values);
    __m256 operands[V];
    TG_UNROLL
    for (int v = 0; v < V; ++v) {
      operands[v] = load_values(group, p, head_dim, d + 8 * v, V == 1 ? head_dim - d : 8);
    }
    TG_UNROLL
    for (int s = 0; s < S; ++s) {
      const __m256 weight = _mm256_broadcast_ss(weights + s * stride + p);
      TG_UNROLL
      for (int v = 0; v < V; ++v) sums[s][v] = _mm256_fmadd_ps(weight, operands[v], sums[s][v]);
    }
  }
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    TG_UNROLL
    for (int v = 0; v < V; ++v) _mm256_storeu_ps(output + s * stride + d + 8 * v, sums[s][v]);
  }
}

template <typename T>
struct ScoresCall {
  const float* query;
  std::int64_t stride;
  const std::byte* keys;
  std::int64_t head_dim;
  float* scores;

  template <int S>
  void run(std::int64_t s) const {
    scores_block<T, S>(query + s * stride, stride, keys, head_dim, scores + s * stride);
  }
};

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
    for (; head_dim - d >= 16; d += 16) {
      add_values_block<T, S, 2>(w, stride, groups, begin, end, head_dim, d, o);
    }
    for (; d < head_dim; d += 8) {
      add_values_block<T, S, 1>(w, stride, groups, begin, end, head_dim, d, o);
    }
  }
};

template <typename T>
struct Attention {
  using Element = T;
  static constexpr std::int64_t kSlots = 24;  // whole register blocks

  TG_AVX2 static void prepare_query(const float* q, std::int64_t head_dim, float* query) {
    for (std::int64_t d = 0; d < head_dim; d += 8) {
      __m256 v = load_first(q + d, head_dim - d);
      if (sizeof(T) == 2) v = widen_even(_mm256_cvtepu16_epi32(avx2::narrow(v)));
      _mm256_storeu_ps(query + d, v);
    }
  }

  template <KvFormat F>
  static void expand_keys(std::int64_t head_dim, const std::byte* group, NextStep& ahead,
                          Bf16* to) {
    avx2::expand_keys<F>(head_dim, group, ahead, to);
  }
  template <KvFormat F>
  static void expand_values(std::int64_t head_dim, const std::byte* group, NextStep& ahead,
                            Bf16* to) {
    avx2::expand_values<F>(head_dim, group, ahead, to);
  }

  static void scores(const SlotArray& slots, std::int64_t slot, std::int64_t count,
                     StepMemory& memory) {
    memory.ahead.ask(memory.ahead.left() / 4);
    for (std::int64_t g = 0; g < memory.group_count; ++g) {
      const std::byte* keys = memory.groups[static_cast<std::size_t>(g)].keys;
      for_slot_blocks<kSlotBlock>(
          count, ScoresCall<T>{slots.query(slot), slots.stride(), keys, memory.head_dim,
                               slots.scores(slot) + kKeyGroup * g});
    }
  }

  TG_AVX2 static void softmax_step(float* scores, std::int64_t valid, float scale,
                                   const SpanState& state, std::int64_t padded_head) {
    const float lowest = -std::numeric_limits<float>::infinity();
    std::fill(scores + valid, scores + kAttentionStep, lowest);
    __m256 maxima = _mm256_set1_ps(lowest);
    for (std::int64_t p = 0; p < kAttentionStep; p += 8) {
      const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(scores + p), _mm256_set1_ps(scale));
      _mm256_storeu_ps(scores + p, v);
      maxima = _mm256_max_ps(maxima, v);
    }
    const float before = *state.maximum;
    const float largest = avx2::reduce_max(maxima);
    const float now = largest > before + kSlack ? largest : before;
    __m256 sums = _mm256_loadu_ps(state.denominator);
    if (now != before) {
      const __m256 shrink = avx2::exp_weight(_mm256_set1_ps(before - now));
      sums = _mm256_mul_ps(sums, shrink);
      for (std::int64_t d = 0; d < padded_head; d += 8) {
        _mm256_storeu_ps(state.output + d,
                         _mm256_mul_ps(_mm256_loadu_ps(state.output + d), shrink));
      }
      *state.maximum = now;
    }
    for (std::int64_t p = 0; p < kAttentionStep; p += 8) {
      const __m256 weight =
          avx2::exp_weight(_mm256_sub_ps(_mm256_loadu_ps(scores + p), _mm256_set1_ps(now)));
      sums = _mm256_add_ps(sums, weight);
      _mm256_storeu_ps(scores + p, weight);
    }
    _mm256_storeu_ps(state.denominator, sums);
  }

  static void add_range(const float* weights, std::int64_t stride, std::int64_t slots,
                        const StepGroups& groups, std::int64_t begin, std::int64_t end,
                        std::int64_t head_dim, NextStep&, float* output) {
    for_slot_blocks<kSlotBlock>(
        slots, ValuesCall<T>{weights, stride, groups, begin, end, head_dim, output});
  }
  void add_values(const SlotArray& slots, std::int64_t slot, const StepRows& seen,
                  StepMemory& memory) {
    memory.ahead.ask(memory.ahead.left());
    add_values_by_rows(*this, slots, slot, seen, memory);
  }

  TG_AVX2 static void merge(const SpanState& state, std::int64_t padded_head,
                            const SpanState& into) {
    const float now = std::max(*state.maximum, *into.maximum);
    const __m256 shrink = avx2::exp_weight(_mm256_set1_ps(*into.maximum - now));
    const __m256 factor = avx2::exp_weight(_mm256_set1_ps(*state.maximum - now));
    // Output and denominator lie one behind the other.
    for (std::int64_t i = 0; i < padded_head + 16; i += 8) {
      const __m256 earlier = _mm256_mul_ps(_mm256_loadu_ps(into.output + i), shrink);
      _mm256_storeu_ps(into.output + i,
                       _mm256_fmadd_ps(_mm256_loadu_ps(state.output + i), factor, earlier));
    }
    *into.maximum = now;
  }

  TG_AVX2 static void finish(const SpanState& state, std::int64_t head_dim, T* out) {
    const float total = avx2::reduce_add(_mm256_loadu_ps(state.denominator));
    const __m256 inverse = _mm256_set1_ps(1.0F / total);
    for (std::int64_t d = 0; d < head_dim; d += 8) {
      store_first(out + d, head_dim - d, _mm256_mul_ps(_mm256_loadu_ps(state.output + d), inverse));
    }
  }
};

void attention(const AttentionArgs& args) {
  if (args.kv.dtype == ComputeDType::kBf16) {
    walk_attention<Attention<Bf16>>(args);
  } else {
    walk_attention<Attention<float>>(args);
  }
}

void merge_attention(const AttentionArgs& args) {
  if (args.kv.dtype == ComputeDType::kBf16) {
    walk_merge<Attention<Bf16>>(args);
  } else {
    walk_merge<Attention<float>>(args);
  }
}

}  // namespace

constinit const KernelTable kAvx2Kernels = {
    "avx2",          matmul_bf16_avx2,   matmul_f32_avx2,         matmul_quantized_avx2,
    quantize_avx2,   rms_norm_avx2,      sum_of_squares_avx2,     scale_avx2,
    rope_avx2,       swiglu_avx2,        store_kv_portable,       attention,
    merge_attention, embedding_portable, softmax_numerators_avx2,
};

}  // namespace tg
