// Integer weights on the tile unit: 16 rows x 16 outputs x 32 k of signed bytes in one instruction.
// The integer sums of a group are exact, so they are those of every other table; what follows per
// group (to f32, two scales, onto the sum) is done by vectors and costs most of the time: 3
// instructions per 16 sums, where vpdpbusd alone needs 8 more.
#include "kernels/amx.h"
#include "kernels/avx512_vnni.h"
#include "kernels/tables.h"

#define TG_AMX_INT8 \
  __attribute__((target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))

#define TG_AMX_INT8_INLINE             \
  inline __attribute__((always_inline, \
                        target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))

namespace tg {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kVectorRows = 3;  // up to here vectors are as fast

// Registers 0..3: sums of two groups x two halves of a panel; 4, 5: inputs; 6, 7: weights.
TG_AMX_INT8 void set_shapes(std::int64_t rows) {
  TileShapes shapes;
  for (std::size_t i = 0; i < 8; ++i) {
    const bool of_rows = i < 6;
    shapes.rows[i] = of_rows ? static_cast<std::uint8_t>(rows) : kGroup / 4;
    shapes.row_bytes[i] = i == 4 || i == 5 ? kGroup : 64;
  }
  load_shapes(shapes);
}

struct HalfPanels {
  const std::byte* codes = nullptr;  // group g's half h at codes + g * stride + h * half
  std::int64_t stride = 0;
  std::int64_t half = 0;
  const std::byte* scales = nullptr;  // group g's half h at scales + g * scale_stride + h * 32
  std::int64_t scale_stride = 0;
};

// Integer sums of one group for H halves, through the tile registers of parity `kOdd`.
template <int kOdd, int H>
TG_AMX_INT8_INLINE void multiply_group(const std::int8_t* x, const std::byte* w, std::int64_t half,
                                       std::int32_t* out) {
  if constexpr (kOdd == 0) {
    _tile_loadd(4, x, kGroup);
    _tile_loadd(6, w, 64);
    _tile_zero(0);
    _tile_dpbssd(0, 4, 6);
    _tile_stored(0, out, 64);
    if constexpr (H == 2) {
      _tile_loadd(7, w + half, 64);
      _tile_zero(1);
      _tile_dpbssd(1, 4, 7);
      _tile_stored(1, out + 256, 64);
    }
  } else {
    _tile_loadd(5, x, kGroup);
    _tile_loadd(6, w, 64);
    _tile_zero(2);
    _tile_dpbssd(2, 5, 6);
    _tile_stored(2, out, 64);
    if constexpr (H == 2) {
      _tile_loadd(7, w + half, 64);
      _tile_zero(3);
      _tile_dpbssd(3, 5, 7);
      _tile_stored(3, out + 256, 64);
    }
  }
}

// Adds the integer sums of one group, times both scales, to the sums.
template <int R, int H>
TG_AMX_INT8_INLINE void add_group(const std::int32_t* integers, const std::byte* weight_scales,
                                  const float* input_scales, __m512 (&sums)[R][H]) {
  TG_UNROLL
  for (int h = 0; h < H; ++h) {
    const __m512 scale = _mm512_cvtph_ps(
        _mm256_load_si256(reinterpret_cast<const __m256i*>(weight_scales + 32 * h)));
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(integers + 256 * h + 16 * r));
      sums[r][h] =
          _mm512_fmadd_ps(_mm512_mul_ps(sum, scale), _mm512_set1_ps(input_scales[r]), sums[r][h]);
    }
  }
}

// How many groups the vectors are behind the tiles. The integer sums of a group are stored some 80
// cycles after its first load; vector instructions that wait for them for so long fill the
// scheduler, and then nothing goes on. In a loop of nothing else 2 is 15 % faster than 1 and 4 no
// better; in whole products loads from the caches hide the difference.
constexpr std::int64_t kBehind = 2;

// R rows x H halves of sums over the groups of the tile; the tile has `rows` of them.
template <int R, int H>
TG_AMX_INT8 void multiply(const QuantizedTile& t, const HalfPanels& p, std::int64_t rows,
                          float* to) {
  __m512 sums[R][H];
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int h = 0; h < H; ++h) {
      sums[r][h] = t.first ? _mm512_setzero_ps() : _mm512_load_ps(to + r * kSumsStride + 16 * h);
    }
  }
  alignas(64) std::int32_t integers[4][H * 256];
  // Copies, since the compiler takes the store of a tile for a store to anything.
  const std::int64_t groups = t.groups;
  const std::int64_t code_stride = t.code_stride;
  const std::int64_t scale_stride = t.stride;
  const std::int64_t weight_stride = p.stride;
  const std::int64_t weight_scale_stride = p.scale_stride;
  const std::int64_t half = p.half;
  const std::int64_t next_lines = t.next_lines;
  const std::int8_t* x = t.codes;
  const std::byte* w = p.codes;
  const std::byte* weight_scales = p.scales;
  const float* input_scales = t.scales;
  const std::byte* next = t.next;
  for (std::int64_t g = 0; g < groups + kBehind; ++g) {
    if (g < groups) {
      for (std::int64_t line = 0; line < next_lines; ++line, next += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
      }
      // Groups are too far apart for the CPU to ask by itself (10 % faster with 512 rows).
      TG_UNROLL
      for (int r = 0; r < R; r += 2) {
        _mm_prefetch(reinterpret_cast<const char*>(x + 2 * code_stride + r * kGroup), _MM_HINT_T0);
      }
      if (g % 2 == 0) {
        multiply_group<0, H>(x, w, half, integers[g % 4]);
      } else {
        multiply_group<1, H>(x, w, half, integers[g % 4]);
      }
      x += code_stride;
      w += weight_stride;
    }
    if (g >= kBehind) {
      add_group<R, H>(integers[(g - kBehind) % 4], weight_scales, input_scales, sums);
      weight_scales += weight_scale_stride;
      input_scales += scale_stride;
    }
  }
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    if (r >= rows) break;  // behind are the sums of other rows
    TG_UNROLL
    for (int h = 0; h < H; ++h) _mm512_store_ps(to + r * kSumsStride + 16 * h, sums[r][h]);
  }
}

struct AmxInt8 {
  static constexpr std::int64_t kRows = kTileRows;

  static std::int64_t panels_for(std::int64_t rows) {
    return rows <= kVectorRows ? vnni::panels_for(rows) : 1;
  }

  // Tiles are of signed bytes: nibbles are unpacked once for all rows.
  TG_AMX_INT8 void begin_weights(WeightFormat format, const QuantizedTile& t, std::int64_t) {
    if (format == WeightFormat::kInt8) return;
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i middle = _mm512_set1_epi8(8);
    for (std::int64_t g = 0; g < t.groups; ++g) {
      const std::byte* from = t.w + g * group_bytes(WeightFormat::kInt4);
      std::byte* to = codes + g * code_bytes(WeightFormat::kInt8);
      TG_UNROLL
      for (int i = 0; i < 8; ++i) {
        const __m512i nibbles = _mm512_load_si512(from + 64 * i);
        std::byte* quad = to + i / 4 * 512 + i % 4 * 64;
        _mm512_store_si512(quad, _mm512_sub_epi8(_mm512_and_si512(nibbles, low), middle));
        const __m512i high = _mm512_and_si512(_mm512_srli_epi16(nibbles, 4), low);
        _mm512_store_si512(quad + 256, _mm512_sub_epi8(high, middle));
      }
    }
  }

  TG_AMX_INT8 void tile(WeightFormat format, std::int64_t rows, std::int64_t panels,
                        const QuantizedTile& t) {
    if (rows <= kVectorRows) {
      vnni::tile(format, rows, panels, t);
      return;
    }
    if (rows != shaped_rows) {
      set_shapes(rows);
      shaped_rows = rows;
    }
    HalfPanels p;
    p.scales = t.w + code_bytes(format);
    p.scale_stride = group_bytes(format);
    p.codes = format == WeightFormat::kInt4 ? codes : t.w;
    p.stride = format == WeightFormat::kInt4 ? code_bytes(WeightFormat::kInt8)
                                             : group_bytes(WeightFormat::kInt8);
    p.half = half_code_bytes(WeightFormat::kInt8);
    if (rows <= 4) return multiply<4, 2>(t, p, rows, t.sums);
    if (rows <= 8) return multiply<8, 2>(t, p, rows, t.sums);
    const auto half = [&](auto multiply_half) {
      multiply_half(t, p, rows, t.sums);
      QuantizedTile second = t;
      second.next_lines = 0;
      p.codes += p.half;
      p.scales += 32;
      multiply_half(second, p, rows, t.sums + 16);
    };
    if (rows <= 12) return half(multiply<12, 1>);
    half(multiply<16, 1>);
  }

  TG_AMX_INT8 void end() const {
    // Tiles in use make every thread switch save 8 KiB.
    if (shaped_rows != 0) _tile_release();
  }

  std::int64_t shaped_rows = 0;
  alignas(64) std::byte codes[kTileGroups * code_bytes(WeightFormat::kInt8)];
};

}  // namespace

void matmul_quantized_amx(const MatmulArgs& args, std::int64_t panel_begin,
                          std::int64_t panel_end) {
  walk_quantized<AmxInt8>(args, panel_begin, panel_end);
}

}  // namespace tg
