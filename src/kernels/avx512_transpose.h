// What: internal to the kernels layer: turning a block of 16 x 16 values of 32 bits.
// Who owns: nothing. Thread: any.
#pragma once

#include "kernels/avx512.h"

namespace tg::avx512 {

// rows[i][j] becomes rows[j][i]: pairs of rows, then pairs of pairs, are interleaved within each
// 128 bits, which leaves in register 4 i + c the columns c, 4 + c, 8 + c and 12 + c of rows 4 i to
// 4 i + 3; then the quarters change places.
TG_AVX512_INLINE void transpose(__m512 (&rows)[16]) {
  __m512d pairs[16];
  TG_UNROLL
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i], rows[i + 1]));
    pairs[i + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i], rows[i + 1]));
  }
  __m512 fours[16];
  TG_UNROLL
  for (int i = 0; i < 16; i += 4) {
    fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pairs[i], pairs[i + 2]));
    fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pairs[i], pairs[i + 2]));
    fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pairs[i + 1], pairs[i + 3]));
    fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pairs[i + 1], pairs[i + 3]));
  }
  TG_UNROLL
  for (int c = 0; c < 4; ++c) {
    const __m512 upper_even = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0x88);
    const __m512 upper_odd = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0xdd);
    const __m512 lower_even = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0x88);
    const __m512 lower_odd = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0xdd);
    rows[c] = _mm512_shuffle_f32x4(upper_even, lower_even, 0x88);
    rows[4 + c] = _mm512_shuffle_f32x4(upper_odd, lower_odd, 0x88);
    rows[8 + c] = _mm512_shuffle_f32x4(upper_even, lower_even, 0xdd);
    rows[12 + c] = _mm512_shuffle_f32x4(upper_odd, lower_odd, 0xdd);
  }
}

}  // namespace tg::avx512
