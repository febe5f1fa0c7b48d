// What: internal to the kernels layer: products with integer weights by AVX-512 VNNI, for the
// tables
//   of CPUs that have it.
// Who owns: nothing. Thread: any.
#pragma once

#include "kernels/avx512.h"
#include "kernels/quantized_walk.h"

#define TG_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))

namespace tg::vnni {

// Rows of the largest tile: 6 rows x 2 vectors = 12 integer and 12 f32 sums, 2 weights, 1 broadcast
// and 1 constant = 28 of 32 registers.
inline constexpr std::int64_t kRows = 6;

// Few rows leave registers free for more panels, hence more streams of memory side by side.
inline std::int64_t panels_for(std::int64_t rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }

// The tile of so many rows, 1..kRows, and panels_for(rows) panels or 1.
void tile(WeightFormat format, std::int64_t rows, std::int64_t panels, const QuantizedTile& t);

}  // namespace tg::vnni

namespace tg {

// The KernelTable functions of these names.
void matmul_quantized_vnni(const MatmulArgs& args, std::int64_t panel_begin,
                           std::int64_t panel_end);
void quantize_avx512(const void* x, ComputeDType dtype, std::int64_t k, const QuantizedRows& out,
                     std::int64_t row);

}  // namespace tg
