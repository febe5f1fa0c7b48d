// The row functions of the AVX2 table; the same formulas as avx512_rows.cpp in 8 lanes.
#include <cmath>
#include <limits>

#include "kernels/avx2.h"

namespace tg {
namespace {

using avx2::exp_ps;
using avx2::load_first;
using avx2::store_first;

template <typename Out>
TG_AVX2 void scale(const float* x, const float* weight, float factor, std::int64_t n, Out* out) {
  const __m256 factors = _mm256_set1_ps(factor);
  for (std::int64_t i = 0; i < n; i += 8) {
    const __m256 v = _mm256_mul_ps(load_first(x + i, n - i), factors);
    store_first(out + i, n - i, _mm256_mul_ps(v, load_first(weight + i, n - i)));
  }
}

template <typename Out>
TG_AVX2 void swiglu(const float* gate, const float* up, std::int64_t n, Out* out) {
  const __m256 one = _mm256_set1_ps(1.0F);
  for (std::int64_t i = 0; i < n; i += 8) {
    const __m256 g = load_first(gate + i, n - i);
    const __m256 e = exp_ps(_mm256_sub_ps(_mm256_setzero_ps(), g));
    const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(one, e));
    store_first(out + i, n - i, _mm256_mul_ps(silu, load_first(up + i, n - i)));
  }
}

}  // namespace

TG_AVX2 float sum_of_squares_avx2(const float* x, std::int64_t n) {
  // Four partial sums hide the latency of the multiply-add.
  __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                    _mm256_setzero_ps()};
  for (std::int64_t i = 0; i < n; i += 32) {
    TG_UNROLL
    for (int j = 0; j < 4; ++j) {
      const __m256 v = load_first(x + i + 8 * j, n - i - 8 * j);
      sums[j] = _mm256_fmadd_ps(v, v, sums[j]);
    }
  }
  return avx2::reduce_add(
      _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
}

void scale_avx2(const float* x, const float* weight, float factor, std::int64_t n,
                ComputeDType dtype, void* out) {
  if (dtype == ComputeDType::kBf16) {
    scale(x, weight, factor, n, static_cast<Bf16*>(out));
  } else {
    scale(x, weight, factor, n, static_cast<float*>(out));
  }
}

void rms_norm_avx2(const float* x, const float* weight, float eps, std::int64_t n,
                   ComputeDType dtype, void* out) {
  const double mean = static_cast<double>(sum_of_squares_avx2(x, n)) / static_cast<double>(n);
  const auto inverse = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
  scale_avx2(x, weight, inverse, n, dtype, out);
}

void swiglu_avx2(const float* gate, const float* up, std::int64_t n, ComputeDType dtype,
                 void* out) {
  if (dtype == ComputeDType::kBf16) {
    swiglu(gate, up, n, static_cast<Bf16*>(out));
  } else {
    swiglu(gate, up, n, static_cast<float*>(out));
  }
}

TG_AVX2 void rope_avx2(float* x, std::int64_t heads, std::int64_t head_dim, const float* cos,
                       const float* sin) {
  const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  for (std::int64_t d = 0; d < head_dim; d += 8) {
    const std::int64_t count = std::min<std::int64_t>(8, head_dim - d);
    const __m256 c = _mm256_permutevar8x32_ps(load_first(cos + d / 2, count / 2), twice);
    const __m256 s = _mm256_permutevar8x32_ps(load_first(sin + d / 2, count / 2), twice);
    for (std::int64_t h = 0; h < heads; ++h) {
      float* p = x + h * head_dim + d;
      const __m256 v = load_first(p, count);
      const __m256 swapped = _mm256_permute_ps(v, 0xb1);  // (b, a) for each (a, b)
      // Even lanes a c - b s, odd lanes b c + a s.
      store_first(p, count, _mm256_fmaddsub_ps(v, c, _mm256_mul_ps(swapped, s)));
    }
  }
}

TG_AVX2 double softmax_numerators_avx2(float* x, std::int64_t n, float* max_out) {
  __m256 maxima = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) maxima = _mm256_max_ps(maxima, _mm256_loadu_ps(x + i));
  float maximum = avx2::reduce_max(maxima);
  for (; i < n; ++i) maximum = std::max(maximum, x[i]);
  const __m256 m = _mm256_set1_ps(maximum);
  // exp of the zeros behind a tail is not zero; those lanes are cut off by the buffer's first
  // lanes.
  __m256d low = _mm256_setzero_pd();
  __m256d high = _mm256_setzero_pd();
  for (i = 0; i < n; i += 8) {
    store_first(x + i, n - i, exp_ps(_mm256_sub_ps(load_first(x + i, n - i), m)));
    const __m256 e = load_first(x + i, n - i);
    low = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(e)));
    high = _mm256_add_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(e, 1)));
  }
  *max_out = maximum;
  const __m256d sum = _mm256_add_pd(low, high);
  const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(sum), _mm256_extractf128_pd(sum, 1));
  return _mm_cvtsd_f64(half) + _mm_cvtsd_f64(_mm_unpackhi_pd(half, half));
}

}  // namespace tg
