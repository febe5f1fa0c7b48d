// The table of CPUs with AMX (Intel since Sapphire Rapids): products of bf16 on tiles of 16 x 16
// sums, 16 pairs of k at a time, many times faster than vectors (measured on one thread here: 3.8
// TFLOP/s beside 0.25 of vfmadd). A sum is one f32 accumulator that takes the pairs in order, in
// each lane alike, so one row gives the same bits alone as among 32. The tile unit takes subnormals
// for zero. The rest is the AVX-512 table's.
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/avx512.h"
#include "kernels/matmul_walk.h"
#include "kernels/tables.h"

#define TG_AMX __attribute__((target("amx-tile,amx-bf16,avx512f")))

namespace tg {
namespace {

// What ldtilecfg reads: for each tile register its rows and the bytes of a row. A register that is
// not used has zeros.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

constexpr std::int64_t kTileRows = 16;
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
  _tile_loadconfig(&shapes);
}

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
  // ldtilecfg has set all sums to zero.
  if (!t.first) {
    _tile_loadd(0, sums, kSumsBytes);
    _tile_loadd(1, sums + 16, kSumsBytes);
    if constexpr (kTwo) {
      _tile_loadd(2, lower, kSumsBytes);
      _tile_loadd(3, lower + 16, kSumsBytes);
    }
  }
  const std::int64_t whole = t.pairs / kStepPairs * kStepPairs;
  for (std::int64_t i = 0; i < whole; i += kStepPairs) {
    step<kTwo>(t.x + 2 * i, t.w + i * kPanelWidth * 2);
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

struct Matmul {
  using Input = Bf16;
  static constexpr std::int64_t kRows = 2 * kTileRows;
  static constexpr std::int64_t kRowGroup = 480;

  static std::int64_t panels_for(std::int64_t) { return 1; }

  static void copy_row(const Bf16* x, std::int64_t count, Bf16* out) {
    std::memcpy(out, x, static_cast<std::size_t>(count) * sizeof(Bf16));
    const std::int64_t padded = (count / 2 + kStepPairs - 1) / kStepPairs * kStepPairs * 2;
    std::fill(out + count, out + padded, Bf16{});
  }

  static void tile(std::int64_t rows, std::int64_t, const MatmulTile<Bf16>& t) {
    set_shapes(rows);
    rows > kTileRows ? multiply<true>(t) : multiply<false>(t);
  }
};

TG_AMX void matmul_bf16(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  walk_matmul<Matmul, Bf16>(args, panel_begin, panel_end);
  // Tiles in use make every thread switch save 8 KiB.
  _tile_release();
}

}  // namespace

bool enable_amx() {
  if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16")) return false;
  // Linux makes a process ask for the tile registers (ARCH_REQ_XCOMP_PERM for XTILEDATA), because
  // each thread then needs a larger save area. Once granted it holds for all threads.
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

constinit const KernelTable kAmxKernels = {
    "amx",
    matmul_bf16,
    matmul_f32_avx512,
    rms_norm_avx512,
    rope_avx512,
    swiglu_avx512,
    store_kv_portable,
    attention_avx512,
    embedding_portable,
    softmax_numerators_avx512,
};

}  // namespace tg
