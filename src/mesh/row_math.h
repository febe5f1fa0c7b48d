// What: sums of rows of f32, with the vectors that every x86-64 has: an addition gives the same
//   bits in any of them, and memory is what these loops wait for.
// Who owns: nothing. Thread: any.
#pragma once

#include <emmintrin.h>

#include <cstdint>

namespace tg {

// acc[i] += x[i].
inline void add_row(float* acc, const float* x, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    _mm_storeu_ps(acc + i, _mm_add_ps(_mm_loadu_ps(acc + i), _mm_loadu_ps(x + i)));
  }
  for (; i < count; ++i) acc[i] += x[i];
}

}  // namespace tg
