// The row functions of both AVX-512 tables. A lane's value never depends on its index: tails run
// through the same instructions under a mask.
#include <cmath>
#include <limits>

#include "kernels/avx512.h"

namespace tg {
namespace {

using avx512::exp_ps;
using avx512::first_lanes;
using avx512::load_masked;
using avx512::store_masked;

template <typename Out>
TG_AVX512 void scale(const float* x, const float* weight, float factor, std::int64_t n, Out* out) {
  const __m512 factors = _mm512_set1_ps(factor);
  for (std::int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first_lanes(n - i);
    const __m512 v = _mm512_mul_ps(load_masked(x + i, mask), factors);
    store_masked(out + i, mask, _mm512_mul_ps(v, load_masked(weight + i, mask)));
  }
}

template <typename Out>
TG_AVX512 void swiglu(const float* gate, const float* up, std::int64_t n, Out* out) {
  const __m512 one = _mm512_set1_ps(1.0F);
  for (std::int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first_lanes(n - i);
    const __m512 g = load_masked(gate + i, mask);
    const __m512 e = exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), g));
    const __m512 silu = _mm512_div_ps(g, _mm512_add_ps(one, e));
    store_masked(out + i, mask, _mm512_mul_ps(silu, load_masked(up + i, mask)));
  }
}

}  // namespace

TG_AVX512 float sum_of_squares_avx512(const float* x, std::int64_t n) {
  // Four partial sums hide the latency of the multiply-add.
  __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                    _mm512_setzero_ps()};
  for (std::int64_t i = 0; i < n; i += 64) {
    TG_UNROLL
    for (int j = 0; j < 4; ++j) {
      const __m512 v = load_masked(x + i + 16 * j, first_lanes(n - i - 16 * j));
      sums[j] = _mm512_fmadd_ps(v, v, sums[j]);
    }
  }
  return _mm512_reduce_add_ps(
      _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
}

void scale_avx512(const float* x, const float* weight, float factor, std::int64_t n,
                  ComputeDType dtype, void* out) {
  if (dtype == ComputeDType::kBf16) {
    scale(x, weight, factor, n, static_cast<Bf16*>(out));
  } else {
    scale(x, weight, factor, n, static_cast<float*>(out));
  }
}

void rms_norm_avx512(const float* x, const float* weight, float eps, std::int64_t n,
                     ComputeDType dtype, void* out) {
  const double mean = static_cast<double>(sum_of_squares_avx512(x, n)) / static_cast<double>(n);
  const auto inverse = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
  scale_avx512(x, weight, inverse, n, dtype, out);
}

void swiglu_avx512(const float* gate, const float* up, std::int64_t n, ComputeDType dtype,
                   void* out) {
  if (dtype == ComputeDType::kBf16) {
    swiglu(gate, up, n, static_cast<Bf16*>(out));
  } else {
    swiglu(gate, up, n, static_cast<float*>(out));
  }
}

TG_AVX512 void rope_avx512(float* x, std::int64_t heads, std::int64_t head_dim, const float* cos,
                           const float* sin) {
  // Lane 2i and 2i + 1 take angle i.
  const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  for (std::int64_t d = 0; d < head_dim; d += 16) {
    const __mmask16 mask = first_lanes(head_dim - d);
    const __mmask16 half = first_lanes((head_dim - d + 1) / 2);
    const auto half8 = static_cast<__mmask16>(half & 0xff);
    const __m512 c = _mm512_permutexvar_ps(twice, load_masked(cos + d / 2, half8));
    const __m512 s = _mm512_permutexvar_ps(twice, load_masked(sin + d / 2, half8));
    for (std::int64_t h = 0; h < heads; ++h) {
      float* p = x + h * head_dim + d;
      const __m512 v = load_masked(p, mask);
      const __m512 swapped = _mm512_permute_ps(v, 0xb1);  // (b, a) for each (a, b)
      // Even lanes a c - b s, odd lanes b c + a s.
      store_masked(p, mask, _mm512_fmaddsub_ps(v, c, _mm512_mul_ps(swapped, s)));
    }
  }
}

TG_AVX512 double softmax_numerators_avx512(float* x, std::int64_t n, float* max_out) {
  const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  __m512 maxima = lowest;
  for (std::int64_t i = 0; i < n; i += 16) {
    maxima = _mm512_max_ps(maxima, _mm512_mask_loadu_ps(lowest, first_lanes(n - i), x + i));
  }
  const float maximum = _mm512_reduce_max_ps(maxima);
  const __m512 m = _mm512_set1_ps(maximum);
  __m512d low = _mm512_setzero_pd();
  __m512d high = _mm512_setzero_pd();
  for (std::int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first_lanes(n - i);
    const __m512 e = _mm512_maskz_mov_ps(mask, exp_ps(_mm512_sub_ps(load_masked(x + i, mask), m)));
    store_masked(x + i, mask, e);
    low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(e)));
    high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(e, 1)));
  }
  *max_out = maximum;
  return _mm512_reduce_add_pd(_mm512_add_pd(low, high));
}

}  // namespace tg
