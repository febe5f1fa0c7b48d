// What: internal to the kernels layer: the AVX-512 building blocks, and the functions that the
//   tables `avx512` and `avx512bf16` share. Everything that touches a vector carries the target
//   attribute, so the files need no compiler flags and an inline function here can never leak into
//   another CPU's code.
// Who owns: nothing. Thread: any.
#pragma once

// g++ 12 takes the deliberately undefined vectors of its own header for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/exp_constants.h"
#include "kernels/kernel_table.h"

#define TG_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#define TG_AVX512_INLINE \
  inline __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
// Register blocks are arrays in the source; unrolled completely they become registers.
#define TG_UNROLL _Pragma("GCC unroll 16")

namespace tg {

void matmul_bf16_avx512bf16(const MatmulArgs& args, std::int64_t panel_begin,
                            std::int64_t panel_end);
void matmul_f32_avx512(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end);
void matmul_quantized_vnni(const MatmulArgs& args, std::int64_t panel_begin,
                           std::int64_t panel_end);
void matmul_quantized_vnni_in_order(const MatmulArgs& args, std::int64_t panel_begin,
                                    std::int64_t panel_end);
void quantize_avx512(const void* x, ComputeDType dtype, std::int64_t k, const QuantizedRows& out,
                     std::int64_t row);
void matmul_quantized_avx512(const MatmulArgs& args, std::int64_t panel_begin,
                             std::int64_t panel_end);
void attention_avx512(const AttentionArgs& args);
void merge_attention_avx512(const AttentionArgs& args);
float sum_of_squares_avx512(const float* x, std::int64_t n);
void scale_avx512(const float* x, const float* weight, float factor, std::int64_t n,
                  ComputeDType dtype, void* out);
void rms_norm_avx512(const float* x, const float* weight, float eps, std::int64_t n,
                     ComputeDType dtype, void* out);
void rope_avx512(float* x, std::int64_t heads, std::int64_t head_dim, const float* cos,
                 const float* sin);
void swiglu_avx512(const float* gate, const float* up, std::int64_t n, ComputeDType dtype,
                   void* out);
double softmax_numerators_avx512(float* x, std::int64_t n, float* max_out);

namespace avx512 {

// The first `count` of 16 lanes; all of them from 16 on, none below 1.
TG_AVX512_INLINE __mmask16 first_lanes(std::int64_t count) {
  if (count >= 16) return static_cast<__mmask16>(0xffff);
  return count <= 0 ? static_cast<__mmask16>(0) : static_cast<__mmask16>((1U << count) - 1U);
}

// Both halves of 16 pairs of bf16, as f32: even k (low half) and odd k (high half).
TG_AVX512_INLINE __m512 widen_even(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
TG_AVX512_INLINE __m512 widen_odd(__m512i pairs) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<std::int32_t>(0xffff0000U))));
}

// 16 consecutive values as f32; lanes outside the mask are zero and not read.
TG_AVX512_INLINE __m512 load_masked(const float* p, __mmask16 mask) {
  return _mm512_maskz_loadu_ps(mask, p);
}
TG_AVX512_INLINE __m512 load_masked(const Bf16* p, __mmask16 mask) {
  return widen_even(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)));
}
TG_AVX512_INLINE __m512 load_16(const float* p) { return _mm512_loadu_ps(p); }
TG_AVX512_INLINE __m512 load_16(const Bf16* p) {
  return widen_even(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}

// to_bf16() of 16 lanes, the same bits as the scalar one (NaN and subnormals included).
TG_AVX512_INLINE __m256i narrow(__m512 x) {
  const __m512i u = _mm512_castps_si512(x);
  const __m512i lowest_kept = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_add_epi32(u, _mm512_add_epi32(lowest_kept, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i bits = _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x00400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}

TG_AVX512_INLINE void store_masked(float* p, __mmask16 mask, __m512 x) {
  _mm512_mask_storeu_ps(p, mask, x);
}
TG_AVX512_INLINE void store_masked(Bf16* p, __mmask16 mask, __m512 x) {
  _mm256_mask_storeu_epi16(p, mask, narrow(x));
}

TG_AVX512_INLINE __m512 exp_ps(__m512 x) {
  namespace c = exp_constants;
  // The constant comes first: of a NaN and a number, max and min give the second operand.
  x = _mm512_max_ps(_mm512_set1_ps(c::kLowest), x);
  x = _mm512_min_ps(_mm512_set1_ps(c::kHighest), x);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(c::kLog2E)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(c::kLn2High), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(c::kLn2Low), r);
  __m512 p = _mm512_set1_ps(c::kC4);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c::kC3));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c::kC2));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c::kC1));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c::kC0));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(p, n);
}

// 2^x for the weights of a softmax, x below 128: what is too small for a normal number is zero.
// (Making a subnormal number, or zero of it, costs some CPUs a hundred cycles.)
TG_AVX512_INLINE __m512 exp2_weight(__m512 x) {
  namespace c = exp_constants;
  const __m512 lowest = _mm512_set1_ps(c::kLowestExp2);
  const __mmask16 normal = _mm512_cmp_ps_mask(x, lowest, _CMP_NLT_UQ);  // true of a NaN
  x = _mm512_max_ps(lowest, x);
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(c::kTwo6);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c::kTwo5));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c::kTwo4));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c::kTwo3));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c::kTwo2));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c::kTwo1));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  return _mm512_maskz_scalef_ps(normal, p, n);
}

}  // namespace avx512
}  // namespace tg
