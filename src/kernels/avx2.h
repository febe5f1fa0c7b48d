// What: internal to the kernels layer: the AVX2 + FMA building blocks; see avx512.h for the habit.
//   AVX2 has no masks for 16-bit lanes, so tails go through a small buffer; values are the same
//   either way.
// Who owns: nothing. Thread: any.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/exp_constants.h"
#include "kernels/kernel_table.h"

#define TG_AVX2 __attribute__((target("avx2,fma")))
#define TG_AVX2_INLINE inline __attribute__((always_inline, target("avx2,fma")))
#define TG_UNROLL _Pragma("GCC unroll 16")

namespace tg {

void matmul_bf16_avx2(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end);
void matmul_f32_avx2(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end);
void matmul_quantized_avx2(const MatmulArgs& args, std::int64_t panel_begin,
                           std::int64_t panel_end);
void quantize_avx2(const void* x, ComputeDType dtype, std::int64_t k, const QuantizedRows& out,
                   std::int64_t row);
float sum_of_squares_avx2(const float* x, std::int64_t n);
void scale_avx2(const float* x, const float* weight, float factor, std::int64_t n,
                ComputeDType dtype, void* out);
void rms_norm_avx2(const float* x, const float* weight, float eps, std::int64_t n,
                   ComputeDType dtype, void* out);
void rope_avx2(float* x, std::int64_t heads, std::int64_t head_dim, const float* cos,
               const float* sin);
void swiglu_avx2(const float* gate, const float* up, std::int64_t n, ComputeDType dtype, void* out);
double softmax_numerators_avx2(float* x, std::int64_t n, float* max_out);

namespace avx2 {

TG_AVX2_INLINE __m256 widen_even(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}
TG_AVX2_INLINE __m256 widen_odd(__m256i pairs) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<std::int32_t>(0xffff0000U))));
}

TG_AVX2_INLINE __m256 load_8(const float* p) { return _mm256_loadu_ps(p); }
TG_AVX2_INLINE __m256 load_8(const Bf16* p) {
  return widen_even(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

// The first `count` of 8 values (all from 8 on, none below 1), zeros behind; nothing else is read.
template <typename T>
TG_AVX2_INLINE __m256 load_first(const T* p, std::int64_t count) {
  if (count >= 8) return load_8(p);
  alignas(32) T part[8] = {};
  if (count > 0) std::memcpy(part, p, static_cast<std::size_t>(count) * sizeof(T));
  return load_8(part);
}

// to_bf16() of 8 lanes, the same bits as the scalar one (NaN and subnormals included).
TG_AVX2_INLINE __m128i narrow(__m256 x) {
  const __m256i u = _mm256_castps_si256(x);
  const __m256i lowest_kept = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_add_epi32(u, _mm256_add_epi32(lowest_kept, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x00400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i bits = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  // Packing works in 128-bit halves.
  return _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
}

TG_AVX2_INLINE void store_8(float* p, __m256 x) { _mm256_storeu_ps(p, x); }
TG_AVX2_INLINE void store_8(Bf16* p, __m256 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(x));
}

// The first `count` lanes to memory; nothing else is written.
template <typename T>
TG_AVX2_INLINE void store_first(T* p, std::int64_t count, __m256 x) {
  if (count >= 8) {
    store_8(p, x);
  } else if (count > 0) {
    alignas(32) T part[8];
    store_8(part, x);
    std::memcpy(p, part, static_cast<std::size_t>(count) * sizeof(T));
  }
}

TG_AVX2_INLINE float reduce_add(__m256 x) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

TG_AVX2_INLINE float reduce_max(__m256 x) {
  __m128 largest = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  largest = _mm_max_ps(largest, _mm_movehl_ps(largest, largest));
  return _mm_cvtss_f32(_mm_max_ss(largest, _mm_movehdup_ps(largest)));
}

TG_AVX2_INLINE __m256 exp_ps(__m256 x) {
  namespace c = exp_constants;
  // The constant comes first: of a NaN and a number, max and min give the second operand.
  x = _mm256_max_ps(_mm256_set1_ps(c::kLowest), x);
  x = _mm256_min_ps(_mm256_set1_ps(c::kHighest), x);
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(c::kLog2E)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(c::kLn2High), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(c::kLn2Low), r);
  __m256 p = _mm256_set1_ps(c::kC4);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c::kC3));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c::kC2));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c::kC1));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c::kC0));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F));
  // 2^n in two factors of about 2^(n/2), both normal numbers; only the last product may round.
  const __m256i exponent = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(exponent, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i second =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(exponent, half), bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

// The same for the weights of a softmax: what is too small for a normal number is zero, see
// avx512.h.
TG_AVX2_INLINE __m256 exp_weight(__m256 x) {
  const __m256 lowest = _mm256_set1_ps(exp_constants::kSmallest);
  const __m256 normal = _mm256_cmp_ps(x, lowest, _CMP_NLT_UQ);  // true of a NaN
  return _mm256_and_ps(normal, exp_ps(_mm256_max_ps(lowest, x)));
}

}  // namespace avx2
}  // namespace tg
