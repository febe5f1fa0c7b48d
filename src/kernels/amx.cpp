// The table of CPUs with AMX (Intel since Sapphire Rapids): products of bf16 on tiles of 16 x 16
// sums, 32 k at a time. Weights come as rows of outputs (WeightOrder::kRows), whatever their
// format, and are expanded to bf16 a group ahead of their use; up to 32 inputs each group is
// expanded into a small ring and used at once, and a product of more expands a chunk of k for all
// of them. A sum is one f32 accumulator that takes the groups in order, in each lane of a tile
// alike, so one row gives the same bits alone as among others. The tile unit takes subnormals for
// zero. The rest is the AVX-512 table's.
#include "kernels/amx.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "kernels/amx_expand_bfp.h"
#include "kernels/amx_expand_k.h"
#include "kernels/avx512_transpose.h"
#include "kernels/tables.h"

namespace tg {
namespace amx {
namespace {

constexpr std::int64_t kTile = 16;                 // outputs, and inputs, of a tile of sums
constexpr std::int64_t kSums = kTile * kTile;      // floats of such a tile
constexpr std::int64_t kHalf = kTile * kRowBytes;  // bytes of a tile of weights
static_assert(InputTiles::kChunk % kHeaderGroups == 0, "a chunk begins with a header");

// Inputs that share a visit of weights: 512 rows of a chunk (256 KiB) stay in a level-2 cache
// together with their sums for kPanels panels (512 KiB), which are visited before the next chunk.
constexpr std::int64_t kMostBlocks = 32;
constexpr std::int64_t kPanels = 8;

// Registers: 0..3 sums, 4 and 5 inputs, 6 and 7 weights.
TG_AMX void set_shapes(std::int64_t rows) {
  TileShapes shapes;
  for (int i = 0; i < 8; ++i) {
    shapes.rows[i] = kTile;
    shapes.row_bytes[i] = static_cast<std::uint16_t>(i < 6 ? 4 * rows : kRowBytes);
  }
  load_shapes(shapes);
}

// One call of the inner loop.
struct Work {
  const std::byte* w = nullptr;  // the first group, or its header; a second panel is panel_stride
                                 // behind
  std::int64_t panel_stride = 0;
  std::int64_t groups = 0;
  const Bf16* x = nullptr;       // the first tile of a block of inputs
  const Bf16* second = nullptr;  // of another
  std::int64_t rows = 0;         // of a block: a row of its tiles has 4 * rows bytes
  std::byte* expanded = nullptr;
  float* sums = nullptr;            // four tiles
  bool first = true;                // the sums start at zero instead of where they are
  const std::byte* next = nullptr;  // of the weights after these: lines to ask for meanwhile
  std::int64_t next_lines = 0;      // per group
};

// Sums of one row are packed: they need no turning.
TG_AMX_INLINE std::int64_t sums_stride(std::int64_t rows) { return rows == 1 ? 4 : 64; }

template <int kTiles>
TG_AMX_INLINE void begin_sums(const Work& t) {
  if (t.first) {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kTiles == 4) {
      _tile_zero(2);
      _tile_zero(3);
    }
    return;
  }
  const std::int64_t stride = sums_stride(t.rows);
  _tile_loadd(0, t.sums, stride);
  _tile_loadd(1, t.sums + kSums, stride);
  if constexpr (kTiles == 4) {
    _tile_loadd(2, t.sums + 2 * kSums, stride);
    _tile_loadd(3, t.sums + 3 * kSums, stride);
  }
}

template <int kTiles>
TG_AMX_INLINE void end_sums(float* sums, std::int64_t rows) {
  const std::int64_t stride = sums_stride(rows);
  _tile_stored(0, sums, stride);
  _tile_stored(1, sums + kSums, stride);
  if constexpr (kTiles == 4) {
    _tile_stored(2, sums + 2 * kSums, stride);
    _tile_stored(3, sums + 3 * kSums, stride);
  }
}

// A group of one panel times two blocks of inputs: sums [block][half of the panel]. They are loaded
// from `from` and stored to `to` between the products, where that is not nullptr: all four at once
// would leave the tile unit idle meanwhile.
TG_AMX_INLINE void two_blocks(const std::byte* w, const Bf16* x, const Bf16* second,
                              const float* from = nullptr, float* to = nullptr) {
  if (from != nullptr) _tile_loadd(0, from, 64);
  _tile_loadd(6, w, kRowBytes);
  _tile_loadd(4, x, 64);
  _tile_dpbf16ps(0, 6, 4);
  if (from != nullptr) _tile_loadd(1, from + kSums, 64);
  _tile_loadd(7, w + kHalf, kRowBytes);
  _tile_dpbf16ps(1, 7, 4);
  if (from != nullptr) _tile_loadd(2, from + 2 * kSums, 64);
  _tile_loadd(5, second, 64);
  _tile_dpbf16ps(2, 6, 5);
  if (from != nullptr) _tile_loadd(3, from + 3 * kSums, 64);
  if (to != nullptr) _tile_stored(0, to, 64);
  _tile_dpbf16ps(3, 7, 5);
  if (to == nullptr) return;
  _tile_stored(1, to + kSums, 64);
  _tile_stored(2, to + 2 * kSums, 64);
  _tile_stored(3, to + 3 * kSums, 64);
}

// A group of kPanels panels, `stride` bytes apart, times one block: sums [panel][half].
template <int kPanelCount>
TG_AMX_INLINE void one_block(const std::byte* w, std::int64_t stride, const Bf16* x,
                             std::int64_t x_stride) {
  _tile_loadd(4, x, x_stride);
  _tile_loadd(6, w, kRowBytes);
  _tile_dpbf16ps(0, 6, 4);
  _tile_loadd(7, w + kHalf, kRowBytes);
  _tile_dpbf16ps(1, 7, 4);
  if constexpr (kPanelCount == 2) {
    w += stride;
    _tile_loadd(6, w, kRowBytes);
    _tile_dpbf16ps(2, 6, 4);
    _tile_loadd(7, w + kHalf, kRowBytes);
    _tile_dpbf16ps(3, 7, 4);
  }
}

// Groups that wait expanded, per panel. Two panels of four are half of a level-1 cache, and so is
// the chunk of a product with more than 32 inputs, which keeps all of its groups.
constexpr std::int64_t kRing = 4;

// kPanelCount panels times one block of inputs. The expansion is one group ahead of the tiles, so
// that they do not wait for its stores. (Locals are copies, since the compiler takes the store of a
// tile for a store to anything.)
template <typename Expand, int kPanelCount>
TG_AMX void stream_one_block(const Work& t) {
  const std::byte* w = t.w;
  const std::int64_t panel_stride = t.panel_stride;
  const std::int64_t groups = t.groups;
  const Bf16* x = t.x;
  const std::int64_t rows = t.rows;
  std::byte* ring = t.expanded;
  constexpr std::int64_t kPanelRing = kRing * kExpandedBytes;
  begin_sums<2 * kPanelCount>(t);
  for (std::int64_t g = 0; g <= groups; ++g) {
    if (g < groups) {
      std::byte* to = ring + g % kRing * kExpandedBytes;
      expand_group<Expand>(w, g, to, Expand::kAheadOfOne);
      if constexpr (kPanelCount == 2) {
        expand_group<Expand>(w + panel_stride, g, to + kPanelRing, Expand::kAheadOfOne);
      }
    }
    if (g > 0) {
      one_block<kPanelCount>(ring + (g - 1) % kRing * kExpandedBytes, kPanelRing, x, 4 * rows);
      x += rows * kGroup;
    }
  }
  end_sums<2 * kPanelCount>(t.sums, rows);
}

// One panel times two blocks of 16 inputs.
template <typename Expand>
TG_AMX void stream_two_blocks(const Work& t) {
  const std::byte* w = t.w;
  const std::int64_t groups = t.groups;
  const Bf16* x = t.x;
  const Bf16* second = t.second;
  std::byte* ring = t.expanded;
  float* sums = t.sums;
  begin_sums<4>(t);
  for (std::int64_t g = 0; g <= groups; ++g) {
    if (g < groups) {
      expand_group<Expand>(w, g, ring + g % kRing * kExpandedBytes, Expand::kAheadOfTwo);
    }
    if (g > 0) {
      two_blocks(ring + (g - 1) % kRing * kExpandedBytes, x, second);
      x += kTile * kGroup;
      second += kTile * kGroup;
    }
  }
  end_sums<4>(sums, kTile);
}

// The same on a chunk that is expanded already. Memory has nothing to do meanwhile but to bring the
// next one into the level-2 cache.
TG_AMX void reuse_two_blocks(const Work& t) {
  const std::int64_t groups = t.groups;
  const Bf16* x = t.x;
  const Bf16* second = t.second;
  const std::byte* w = t.expanded;
  const std::byte* next = t.next;
  const std::int64_t next_lines = t.next_lines;
  float* const sums = t.sums;
  const bool first = t.first;
  if (first) begin_sums<4>(t);
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t line = 0; line < next_lines; ++line, next += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
    }
    two_blocks(w, x, second, g == 0 && !first ? sums : nullptr, g + 1 == groups ? sums : nullptr);
    w += kExpandedBytes;
    x += kTile * kGroup;
    second += kTile * kGroup;
  }
}

TG_AMX void reuse_one_block(const Work& t) {
  const std::int64_t groups = t.groups;
  const Bf16* x = t.x;
  const std::byte* w = t.expanded;
  float* sums = t.sums;
  begin_sums<2>(t);
  for (std::int64_t g = 0; g < groups; ++g) {
    one_block<1>(w, 0, x, 64);
    w += kExpandedBytes;
    x += kTile * kGroup;
  }
  end_sums<2>(sums, kTile);
}

// Adds a block's finished sums of one panel to y, or puts them there; columns past the last output
// are dropped. `rows` of the tile's `tile_rows` are real.
TG_AMX void deliver(const MatmulArgs& args, const float* sums, std::int64_t panel,
                    std::int64_t first_row, std::int64_t rows, std::int64_t tile_rows) {
  for (std::int64_t half = 0; half < 2; ++half, sums += kSums) {
    const std::int64_t column = panel * kPanelWidth + half * kTile;
    const __mmask16 lanes = avx512::first_lanes(args.w.n - column);
    __m512 out[16];
    if (tile_rows == 1) {
      out[0] = _mm512_load_ps(sums);
    } else {
      TG_UNROLL
      for (int i = 0; i < 16; ++i) out[i] = _mm512_load_ps(sums + i * kTile);
      avx512::transpose(out);
    }
    float* y = args.y + first_row * args.ldy + column;
    for (std::int64_t r = 0; r < rows; ++r, y += args.ldy) {
      const __m512 sum = args.add ? _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, y), out[r]) : out[r];
      _mm512_mask_storeu_ps(y, lanes, sum);
    }
  }
}

std::int64_t rows_of_block(const InputTiles& x, std::int64_t block) {
  return std::min(InputTiles::kBlockRows, x.rows - block * InputTiles::kBlockRows);
}

// Up to 16 inputs: memory sets the pace. The panels are read as two streams, the first and the
// second half of them: the prefetcher of the CPU follows each, and where a panel ends its stream
// goes on (panels two by two, a power of two apart, were up to 10 % slower).
template <typename Expand>
TG_AMX void one_block_of_inputs(const MatmulArgs& args, Work work, std::int64_t panel_begin,
                                std::int64_t panel_end) {
  const std::int64_t half = (panel_end - panel_begin) / 2;
  const std::int64_t rows = args.tiles.rows;
  work.panel_stride = half * args.w.panel_bytes();
  for (std::int64_t p = panel_begin; p < panel_begin + half; ++p) {
    work.w = args.w.panel_data(p);
    stream_one_block<Expand, 2>(work);
    deliver(args, work.sums, p, 0, rows, rows);
    deliver(args, work.sums + 2 * kSums, p + half, 0, rows, rows);
  }
  if (panel_begin + 2 * half < panel_end) {
    work.w = args.w.panel_data(panel_end - 1);
    stream_one_block<Expand, 1>(work);
    deliver(args, work.sums, panel_end - 1, 0, rows, rows);
  }
}

// 17 to 32 inputs.
template <typename Expand>
TG_AMX void two_blocks_of_inputs(const MatmulArgs& args, Work work, std::int64_t panel_begin,
                                 std::int64_t panel_end) {
  work.second = args.tiles.tile(1, 0);
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    work.w = args.w.panel_data(p);
    stream_two_blocks<Expand>(work);
    deliver(args, work.sums, p, 0, kTile, kTile);
    deliver(args, work.sums + 2 * kSums, p, kTile, args.tiles.rows - kTile, kTile);
  }
}

template <typename Expand>
TG_AMX void few_inputs(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  alignas(64) std::byte ring[2 * kRing * kExpandedBytes];
  alignas(64) float sums[4 * kSums];
  Work work;
  work.groups = args.tiles.groups;
  work.x = args.tiles.tile(0, 0);
  work.rows = args.tiles.block_rows();
  work.expanded = ring;
  work.sums = sums;
  set_shapes(work.rows);
  if (args.tiles.blocks() == 1) {
    one_block_of_inputs<Expand>(args, work, panel_begin, panel_end);
  } else {
    two_blocks_of_inputs<Expand>(args, work, panel_begin, panel_end);
  }
}

// Where a visit of panels [first, last) is: at the chunk of `panel` that begins with group `group`.
struct Place {
  std::int64_t first, last, panel, group;
};

// The chunk whose turn is next: of the next panel, the next one of the first, or of the panels
// behind.
template <typename Expand>
const std::byte* chunk_behind(const PackedView& w, const Place& at) {
  const auto chunk = [&](std::int64_t panel, std::int64_t group) {
    return w.panel_data(panel) + groups_bytes(Expand::kFormat, group);
  };
  if (at.panel + 1 < at.last) return chunk(at.panel + 1, at.group);
  const std::int64_t group = at.group + InputTiles::kChunk;
  return group < w.groups() ? chunk(at.first, group) : chunk(at.last, 0);
}

// All groups of a chunk. Its lines were asked for during the chunk before. (In step with the first
// products, as for fewer inputs, it took longer: both wait for the level-2 cache.)
template <typename Expand>
TG_AMX void expand_chunk(const std::byte* w, const Work& t) {
  const std::int64_t groups = t.groups;
  std::byte* const to = t.expanded;
  for (std::int64_t g = 0; g < groups; ++g) {
    expand_group<Expand>(w, g, to + g * kExpandedBytes, 0);
  }
}

// Blocks [begin, end) of more than 32 inputs; `begin` is even and there are at least two.
template <typename Expand>
TG_AMX void blocks_of_inputs(const MatmulArgs& args, std::int64_t begin, std::int64_t end,
                             std::int64_t panel_begin, std::int64_t panel_end) {
  constexpr std::int64_t kSumsOfVisit = kPanels * kMostBlocks * 2 * kSums;
  static_assert(kSumsOfVisit * 4 + InputTiles::kChunk * kExpandedBytes == kTileScratchFloats * 4);
  float* const sums = args.scratch;
  auto* const expanded = reinterpret_cast<std::byte*>(sums + kSumsOfVisit);
  const InputTiles& x = args.tiles;
  const std::int64_t blocks = end - begin;
  Work work;
  work.rows = kTile;
  work.expanded = expanded;
  const std::int64_t pairs = blocks / 2;
  work.next_lines = (group_bytes(Expand::kFormat) / 64 + pairs - 1) / pairs;
  for (std::int64_t first = panel_begin; first < panel_end; first += kPanels) {
    const std::int64_t last = std::min(panel_end, first + kPanels);
    for (std::int64_t g = 0; g < x.groups; g += InputTiles::kChunk) {
      work.groups = std::min(InputTiles::kChunk, x.groups - g);
      work.first = g == 0;
      for (std::int64_t p = first; p < last; ++p) {
        expand_chunk<Expand>(args.w.panel_data(p) + groups_bytes(Expand::kFormat, g), work);
        work.next = chunk_behind<Expand>(args.w, {first, last, p, g});
        for (std::int64_t b = 0; b < blocks; b += 2) {
          work.x = x.tile(begin + b, g);
          work.sums = sums + ((p - first) * blocks + b) * 2 * kSums;
          if (b + 1 == blocks) {
            reuse_one_block(work);
            continue;
          }
          work.second = x.tile(begin + b + 1, g);
          reuse_two_blocks(work);
          work.next += work.groups * work.next_lines * 64;
        }
      }
    }
    for (std::int64_t b = 0; b < blocks; ++b) {
      for (std::int64_t p = first; p < last; ++p) {
        deliver(args, sums + ((p - first) * blocks + b) * 2 * kSums, p, (begin + b) * kTile,
                rows_of_block(x, begin + b), kTile);
      }
    }
  }
}

template <typename Expand>
TG_AMX void matmul(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  if (args.tiles.rows <= 2 * kTile) {
    few_inputs<Expand>(args, panel_begin, panel_end);
  } else {
    set_shapes(kTile);
    // Visits of nearly equal size.
    const std::int64_t pairs = (args.tiles.blocks() + 1) / 2;
    const std::int64_t visits = (2 * pairs + kMostBlocks - 1) / kMostBlocks;
    for (std::int64_t v = 0; v < visits; ++v) {
      const std::int64_t end = std::min(2 * (pairs * (v + 1) / visits), args.tiles.blocks());
      blocks_of_inputs<Expand>(args, 2 * (pairs * v / visits), end, panel_begin, panel_end);
    }
  }
  // Tiles in use make every thread switch save 8 KiB.
  _tile_release();
}

void matmul_tiles(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  switch (args.w.format) {
    case WeightFormat::kBf16:
      return matmul<ExpandBf16>(args, panel_begin, panel_end);
    case WeightFormat::kInt8:
      return matmul<ExpandInt8>(args, panel_begin, panel_end);
    case WeightFormat::kInt4:
      return matmul<ExpandInt4>(args, panel_begin, panel_end);
    case WeightFormat::kQ4K:
      return matmul<ExpandQ4K>(args, panel_begin, panel_end);
    case WeightFormat::kQ6K:
      return matmul<ExpandQ6K>(args, panel_begin, panel_end);
    case WeightFormat::kBfp8:
      return matmul<ExpandBfp8>(args, panel_begin, panel_end);
    case WeightFormat::kBfp4:
      return matmul<ExpandBfp4>(args, panel_begin, panel_end);
  }
}

TG_AMX void make_tiles(const Bf16* x, std::int64_t ldx, std::int64_t k, const InputTiles& out,
                       std::int64_t block) {
  const std::int64_t tile_rows = out.block_rows();
  const std::int64_t rows = rows_of_block(out, block);
  const auto mask = static_cast<__mmask16>(avx512::first_lanes(tile_rows));
  x += block * InputTiles::kBlockRows * ldx;
  for (std::int64_t g = 0; g < out.groups; ++g) {
    const std::int64_t count = std::min(kGroup, k - g * kGroup);
    const auto real = static_cast<__mmask32>(count == kGroup ? ~0U : (1U << count) - 1U);
    Bf16* to = out.tile(block, g);
    __m512 pairs[16];
    for (std::int64_t r = 0; r < 16; ++r) {
      pairs[r] = r < rows
                     ? _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(real, x + r * ldx + g * kGroup))
                     : _mm512_setzero_ps();
    }
    if (tile_rows == 1) {
      _mm512_storeu_ps(reinterpret_cast<float*>(to), pairs[0]);
      continue;
    }
    avx512::transpose(pairs);
    for (std::int64_t i = 0; i < 16; ++i, to += 2 * tile_rows) {
      _mm512_mask_storeu_ps(reinterpret_cast<float*>(to), mask, pairs[i]);
    }
  }
}

}  // namespace
}  // namespace amx

bool enable_amx() {
  if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16") ||
      !__builtin_cpu_supports("avx512bf16")) {
    return false;
  }
  // Linux makes a process ask for the tile registers (ARCH_REQ_XCOMP_PERM for XTILEDATA), because
  // each thread then needs a larger save area. Once granted it holds for all threads.
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

constinit const KernelTable kAmxKernels = {
    "amx",
    matmul_bf16_avx512bf16,
    matmul_f32_avx512,
    matmul_quantized_avx512,
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
    WeightOrder::kRows,
    amx::matmul_tiles,
    amx::make_tiles,
};

}  // namespace tg
