// The table of CPUs with AMX (Intel since Sapphire Rapids): products of bf16 on tiles of 16 x 16
// sums, 16 pairs of k at a time, many times faster than vectors (measured on one thread here: 3.8
// TFLOP/s beside 0.25 of vfmadd). A sum is one f32 accumulator that takes the pairs in order, in
// each lane alike, so one row gives the same bits alone as among 32. The tile unit takes subnormals
// for zero. The rest is the AVX-512 table's.
#include "kernels/amx.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "kernels/avx512.h"
#include "kernels/avx512_vnni.h"
#include "kernels/matmul_walk.h"
#include "kernels/tables.h"

#define TG_AMX __attribute__((target("amx-tile,amx-bf16,avx512f")))

namespace tg {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kVectorRows = 2;  // up to here vectors are faster than tiles
constexpr std::int64_t kStepPairs = 16;  // pairs of k in one tile: 64 bytes of an input row

// Registers: 0..3 sums (2 blocks of rows x 2 halves of a panel), 4 and 5 inputs, 6 and 7 weights.
TG_AMX void set_shapes(std::int64_t rows) {
  const auto upper = static_cast<std::uint8_t>(std::min(rows, kTileRows));
  const auto lower = static_cast<std::uint8_t>(std::max<std::int64_t>(0, rows - kTileRows));
  TileShapes shapes;
  const std::uint8_t counts[8] = {upper, upper, lower, lower, upper, lower, kStepPairs, kStepPairs};
  for (int i = 0; i < 8; ++i) {
    shapes.rows[i] = counts[i];
    shapes.row_bytes[i] = counts[i] == 0 ? 0 : 64;
  }
  load_shapes(shapes);
}

// How far ahead of the multiplication weights are asked for, in elements: one step. Tile loads
// alone leave 10 % of the memory's speed unused.
constexpr std::int64_t kPrefetch = kStepPairs * kPanelWidth * 2;
constexpr std::int64_t kSumsBytes = kSumsStride * 4;
constexpr std::int64_t kInputBytes = kTileStride * 2;
constexpr std::int64_t kWeightBytes = kPanelWidth * 2 * 2;

// One step of k for both blocks of rows (kTwo) or the upper one.
template <bool kTwo>
TG_AMX inline void step(const Bf16* x, const Bf16* w) {
  _tile_loadd(6, w, kWeightBytes);
  _tile_loadd(7, w + kPanelWidth, kWeightBytes);
  _tile_loadd(4, x, kInputBytes);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if constexpr (kTwo) {
    _tile_loadd(5, x + kTileRows * kTileStride, kInputBytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

template <bool kTwo>
TG_AMX void multiply(const MatmulTile<Bf16>& t) {
  float* sums = t.sums;
  float* lower = sums + kTileRows * kSumsStride;
  if (t.first) {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kTwo) {
      _tile_zero(2);
      _tile_zero(3);
    }
  } else {
    _tile_loadd(0, sums, kSumsBytes);
    _tile_loadd(1, sums + 16, kSumsBytes);
    if constexpr (kTwo) {
      _tile_loadd(2, lower, kSumsBytes);
      _tile_loadd(3, lower + 16, kSumsBytes);
    }
  }
  const std::int64_t whole = t.pairs / kStepPairs * kStepPairs;
  for (std::int64_t i = 0; i < whole; i += kStepPairs) {
    const Bf16* w = t.w + i * kPanelWidth * 2;
    TG_UNROLL
    for (std::int64_t j = 0; j < 2 * kStepPairs; ++j) {
      _mm_prefetch(reinterpret_cast<const char*>(w + kPrefetch + 32 * j), _MM_HINT_T0);
    }
    step<kTwo>(t.x + 2 * i, w);
  }
  if (whole < t.pairs) {
    // The last pairs of k with zeros behind: a tile must not read past the panel, and copy_row()
    // has put zeros behind the inputs.
    alignas(64) Bf16 weights[kStepPairs * kPanelWidth * 2] = {};
    std::memcpy(weights, t.w + whole * kPanelWidth * 2,
                static_cast<std::size_t>((t.pairs - whole) * kWeightBytes));
    step<kTwo>(t.x + 2 * whole, weights);
  }
  _tile_stored(0, sums, kSumsBytes);
  _tile_stored(1, sums + 16, kSumsBytes);
  if constexpr (kTwo) {
    _tile_stored(2, lower, kSumsBytes);
    _tile_stored(3, lower + 16, kSumsBytes);
  }
}

// Up to kVectorRows rows: vectors that do what the tile unit does, operation by operation. Memory
// sets the speed of so few rows, and vector loads reach 10 % more of it than tile loads. The unit's
// order (Intel's Software Developer's Manual, TDPBF16PS): for each sum, one chain of fused
// multiply-adds over the even k of a step and one over the odd k, both from zero; their sum is
// added to the sum. Subnormals count as zero.
template <int R, int P>
TG_AVX512 void multiply_like_amx(const MatmulTile<Bf16>& t) {
  constexpr int kV = 2 * P;
  const unsigned control = _mm_getcsr();
  _mm_setcsr(control | 0x8040);  // flush results to zero, denormals are zeros
  const Bf16* x = t.x;
  const Bf16* w = t.w;
  for (std::int64_t i = 0; i < t.pairs; i += kStepPairs) {
    __m512 even[R][kV];
    __m512 odd[R][kV];
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      TG_UNROLL
      for (int v = 0; v < kV; ++v) even[r][v] = odd[r][v] = _mm512_setzero_ps();
    }
    const std::int64_t pairs = std::min(kStepPairs, t.pairs - i);
    for (std::int64_t j = 0; j < pairs; ++j, x += 2, w += 2 * kPanelWidth) {
      __m512i inputs[R];
      TG_UNROLL
      for (int r = 0; r < R; ++r) {
        std::int32_t pair = 0;
        std::memcpy(&pair, x + r * kTileStride, sizeof(pair));
        inputs[r] = _mm512_set1_epi32(pair);
      }
      TG_UNROLL
      for (int v = 0; v < kV; ++v) {
        const __m512i weights = _mm512_load_si512(w + v / 2 * t.panel_stride + v % 2 * 32);
        TG_UNROLL
        for (int r = 0; r < R; ++r) {
          even[r][v] = _mm512_fmadd_ps(avx512::widen_even(inputs[r]), avx512::widen_even(weights),
                                       even[r][v]);
          odd[r][v] =
              _mm512_fmadd_ps(avx512::widen_odd(inputs[r]), avx512::widen_odd(weights), odd[r][v]);
        }
      }
    }
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      TG_UNROLL
      for (int v = 0; v < kV; ++v) {
        float* at = t.sums + r * kSumsStride + 16 * v;
        const __m512 sum = t.first && i == 0 ? _mm512_setzero_ps() : _mm512_load_ps(at);
        _mm512_store_ps(at, _mm512_add_ps(sum, _mm512_add_ps(even[r][v], odd[r][v])));
      }
    }
  }
  _mm_setcsr(control);
}

struct Matmul {
  using Input = Bf16;
  static constexpr std::int64_t kRows = 2 * kTileRows;
  static constexpr std::int64_t kRowGroup = 480;

  static void set_rows(std::int64_t rows) {
    if (rows > kVectorRows) set_shapes(rows);
  }
  static std::int64_t panels_for(std::int64_t rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

  static void copy_row(const Bf16* x, std::int64_t count, Bf16* out) {
    std::memcpy(out, x, static_cast<std::size_t>(count) * sizeof(Bf16));
    const std::int64_t padded = (count / 2 + kStepPairs - 1) / kStepPairs * kStepPairs * 2;
    std::fill(out + count, out + padded, Bf16{});
  }

  static void tile(std::int64_t rows, std::int64_t panels, const MatmulTile<Bf16>& t) {
    if (rows == 1) {
      panels == 1 ? multiply_like_amx<1, 1>(t) : multiply_like_amx<1, 4>(t);
    } else if (rows == 2) {
      panels == 1 ? multiply_like_amx<2, 1>(t) : multiply_like_amx<2, 2>(t);
    } else if (rows <= kTileRows) {
      multiply<false>(t);
    } else {
      multiply<true>(t);
    }
  }
};

// Whether this CPU's tile unit adds in the order that multiply_like_amx() copies: a promise of the
// manual that batch invariance rests on, so it is looked at, on numbers of all sizes, signs and
// subnormals.
TG_AMX bool vectors_agree_with_tiles() {
  constexpr std::int64_t kPairs = 5 * kStepPairs + 3;
  alignas(64) Bf16 x[kTileRows * kTileStride] = {};
  alignas(64) Bf16 w[kPairs * kPanelWidth * 2];
  std::uint64_t state = 1;
  const auto next = [&state] {
    state = state * 6364136223846793005U + 1442695040888963407U;  // Knuth's MMIX generator
    const auto bits = static_cast<std::uint32_t>(state >> 40);
    // Exponents 96..159 of 255 (2^-31 .. 2^32), and every 16th number subnormal or zero.
    const std::uint32_t exponent = bits % 16 == 0 ? 0 : 96 + (bits >> 4) % 64;
    return Bf16{static_cast<std::uint16_t>((bits >> 8 & 0x807f) | exponent << 7)};
  };
  for (std::int64_t r = 0; r < kTileRows; ++r) {
    for (std::int64_t i = 0; i < 2 * kPairs; ++i) x[r * kTileStride + i] = next();
  }
  for (Bf16& v : w) v = next();

  alignas(64) float tiles[kTileRows * kSumsStride] = {};
  alignas(64) float vectors[kTileRows * kSumsStride] = {};
  MatmulTile<Bf16> t{x, w, 0, kPairs, tiles, true};
  set_shapes(kTileRows);
  multiply<false>(t);
  _tile_release();
  for (std::int64_t r = 0; r < kTileRows; ++r) {
    t.x = x + r * kTileStride;
    t.sums = vectors + r * kSumsStride;
    multiply_like_amx<1, 1>(t);
  }
  // Bits, not values: -0 is not 0 here.
  return std::memcmp(tiles, vectors, sizeof(tiles)) == 0;  // NOLINT(bugprone-suspicious-memory-*)
}

TG_AMX void matmul_bf16(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  walk_matmul<Matmul, Bf16>(args, panel_begin, panel_end);
  // Tiles in use make every thread switch save 8 KiB.
  _tile_release();
}

}  // namespace

bool enable_amx() {
  if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16") ||
      !__builtin_cpu_supports("amx-int8") || !__builtin_cpu_supports("avx512vnni")) {
    return false;
  }
  // Linux makes a process ask for the tile registers (ARCH_REQ_XCOMP_PERM for XTILEDATA), because
  // each thread then needs a larger save area. Once granted it holds for all threads.
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) != 0) return false;
  return vectors_agree_with_tiles();
}

constinit const KernelTable kAmxKernels = {
    "amx",
    matmul_bf16,
    matmul_f32_avx512,
    matmul_quantized_amx,
    quantize_avx512,
    rms_norm_avx512,
    sum_of_squares_avx512,
    scale_avx512,
    rope_avx512,
    swiglu_avx512,
    store_kv_portable,
    attention_amx,
    merge_attention_amx,
    embedding_portable,
    softmax_numerators_avx512,
};

}  // namespace tg
