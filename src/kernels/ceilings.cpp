// The arithmetic ceilings. The instructions are written out: a compiler would leave out or reorder
// what computes nothing.
#include "kernels/ceilings.h"

#include <cpuid.h>
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/tables.h"

// 12 independent chains in registers of our choice: enough for a latency of 6 at two a cycle. Each
// has its input registers besides; their zeros take as long as anything.
#define TG_TWELVE(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11)
#define TG_CLOBBERS                                                                        \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define TG_FMA_YMM(i) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n"
#define TG_FMA_ZMM(i) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #i "\n"
#define TG_BF16_ZMM(i) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #i "\n"
#define TG_INT8_ZMM(i) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #i "\n"
#define TG_INT8_YMM(i) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #i "\n"
// Without an instruction for it: products of pairs of bytes in 16 bits, of pairs of those in 32,
// and the sum.
#define TG_INT8_AVX2(i)                    \
  "vpmaddubsw %%ymm14, %%ymm15, %%ymm12\n" \
  "vpmaddwd %%ymm13, %%ymm12, %%ymm12\n"   \
  "vpaddd %%ymm12, %%ymm" #i ", %%ymm" #i "\n"

namespace tg {
namespace {

constexpr double kChains = 12;

// Other leftovers in the registers might be subnormal numbers, which take a hundred times as long.
void clear_ymm() { __asm__ volatile("vzeroall" ::: TG_CLOBBERS); }
void clear_zmm() {
  __asm__ volatile(
      "vzeroall\n"
      "vpxord %%zmm30, %%zmm30, %%zmm30\n"
      "vpxord %%zmm31, %%zmm31, %%zmm31" ::
          : TG_CLOBBERS);
}

void fma_ymm(std::int64_t rounds) {
  clear_ymm();
  for (std::int64_t i = 0; i < rounds; ++i) __asm__ volatile(TG_TWELVE(TG_FMA_YMM)::: TG_CLOBBERS);
}
void fma_zmm(std::int64_t rounds) {
  clear_zmm();
  for (std::int64_t i = 0; i < rounds; ++i) __asm__ volatile(TG_TWELVE(TG_FMA_ZMM)::: TG_CLOBBERS);
}
void bf16_zmm(std::int64_t rounds) {
  clear_zmm();
  for (std::int64_t i = 0; i < rounds; ++i) __asm__ volatile(TG_TWELVE(TG_BF16_ZMM)::: TG_CLOBBERS);
}
void int8_zmm(std::int64_t rounds) {
  clear_zmm();
  for (std::int64_t i = 0; i < rounds; ++i) __asm__ volatile(TG_TWELVE(TG_INT8_ZMM)::: TG_CLOBBERS);
}
void int8_ymm(std::int64_t rounds) {
  clear_ymm();
  for (std::int64_t i = 0; i < rounds; ++i) __asm__ volatile(TG_TWELVE(TG_INT8_YMM)::: TG_CLOBBERS);
}
void int8_avx2(std::int64_t rounds) {
  clear_ymm();
  for (std::int64_t i = 0; i < rounds; ++i)
    __asm__ volatile(TG_TWELVE(TG_INT8_AVX2)::: TG_CLOBBERS);
}

// All eight tile registers with 16 rows of 64 bytes: six sums and two inputs. A product takes 16
// cycles and its sum is there after some 52.
constexpr double kTileSums = 6;
#define TG_TILES_BF16 __attribute__((target("amx-tile,amx-bf16")))
#define TG_TILES_INT8 __attribute__((target("amx-tile,amx-int8")))

struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileShapes) == 64);
// Not a local variable: g++ takes ldtilecfg for a reader of the first bytes only and leaves the
// others unwritten.
constexpr TileShapes kShapes;

TG_TILES_BF16 void bf16_tiles(std::int64_t rounds) {
  _tile_loadconfig(&kShapes);
  for (std::int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
    _tile_dpbf16ps(4, 6, 7);
    _tile_dpbf16ps(5, 6, 7);
  }
  _tile_release();
}

TG_TILES_INT8 void int8_tiles(std::int64_t rounds) {
  _tile_loadconfig(&kShapes);
  for (std::int64_t i = 0; i < rounds; ++i) {
    _tile_dpbssd(0, 6, 7);
    _tile_dpbssd(1, 6, 7);
    _tile_dpbssd(2, 6, 7);
    _tile_dpbssd(3, 6, 7);
    _tile_dpbssd(4, 6, 7);
    _tile_dpbssd(5, 6, 7);
  }
  _tile_release();
}

// Bits of the answers of CPUID that not every compiler has a name for.
bool has_avx_vnni() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1U << 4)) != 0;
}
bool has_amx_int8() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & (1U << 25)) != 0;
}

double seconds_of(std::int64_t rounds, const Ceiling& ceiling, ThreadTeam& team) {
  const auto begin = std::chrono::steady_clock::now();
  team.run([&](int) { ceiling.run(rounds); });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

RateSpread spread_of(std::vector<double> rates) {
  std::sort(rates.begin(), rates.end());
  return {rates[rates.size() / 2], rates.back()};
}

std::vector<Ceiling> available_ceilings() {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 =
      avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  std::vector<Ceiling> out;
  const auto add = [&out](bool possible, const Ceiling& c) {
    if (possible) out.push_back(c);
  };
  // Operations of one round: chains x lanes x multiply-adds of a lane x 2.
  add(avx2, {"vfmadd231ps ymm", "f32", kChains * 8 * 2, fma_ymm});
  add(avx512, {"vfmadd231ps zmm", "f32", kChains * 16 * 2, fma_zmm});
  add(avx512 && __builtin_cpu_supports("avx512bf16"),
      {"vdpbf16ps zmm", "bf16", kChains * 16 * 2 * 2, bf16_zmm});
  const bool tiles = avx512 && enable_amx();  // which looks for AMX-TILE and AMX-BF16
  add(tiles, {"tdpbf16ps", "bf16", kTileSums * 16 * 16 * 32 * 2, bf16_tiles});
  add(avx2, {"vpmaddubsw, vpmaddwd, vpaddd ymm", "int8", kChains * 8 * 4 * 2, int8_avx2});
  add(avx2 && has_avx_vnni(), {"vpdpbusd ymm", "int8", kChains * 8 * 4 * 2, int8_ymm});
  add(avx512 && __builtin_cpu_supports("avx512vnni"),
      {"vpdpbusd zmm", "int8", kChains * 16 * 4 * 2, int8_zmm});
  add(tiles && has_amx_int8(), {"tdpbssd", "int8", kTileSums * 16 * 16 * 64 * 2, int8_tiles});
  return out;
}

RateSpread measure(const Ceiling& ceiling, ThreadTeam& team, double seconds) {
  constexpr double kWindow = 0.010;
  std::int64_t rounds = 1000;
  double took = seconds_of(rounds, ceiling, team);
  while (took < kWindow / 2) {
    rounds = std::max(rounds * 2, static_cast<std::int64_t>(static_cast<double>(rounds) * kWindow /
                                                            std::max(took, 1e-6)));
    took = seconds_of(rounds, ceiling, team);
  }
  std::vector<double> rates;
  for (double total = 0.0; total < seconds || rates.size() < 3; total += took) {
    took = seconds_of(rounds, ceiling, team);
    rates.push_back(ceiling.operations * static_cast<double>(rounds) * team.size() / took);
  }
  return spread_of(std::move(rates));
}

}  // namespace tg
