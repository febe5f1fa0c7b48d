// What: the arithmetic of the model as one table of functions per instruction set. Each function is
//   the work of ONE thread on a piece; who does which piece is the caller's matter.
//   The promise: an output element depends on its own row of inputs and on the weights only, summed
//   in one fixed order per table. Number of rows, cut into pieces, page order and block size do not
//   show. (Two tables may differ in the last bits; `reference` is the oracle of all.)
// Who owns: tables are constants. Thread: any; functions do not allocate, lock or wait.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/bf16.h"
#include "base/result.h"
#include "kernels/kv_format.h"
#include "kernels/packed_matrix.h"
#include "tensor/dtype.h"

namespace tg {

using PageId = std::int32_t;

// Positions per group of the K layout below, and the step in which attention walks a context: page
// block sizes are multiples of the first, and the walk starts at position 0 whatever the pages are.
inline constexpr std::int64_t kKeyGroup = 16;
inline constexpr std::int64_t kAttentionStep = 64;
// A context is cut into spans of so many positions, from 0 on. Each span has an online softmax of
// its own, and they are merged in order: so the spans of one row can be walked by several threads.
// 512 positions are some microseconds of work, less than which is not worth handing out.
inline constexpr std::int64_t kAttentionSpan = 512;
inline constexpr std::int64_t kMaxHeadDim = 256;  // attention and rope take even ones up to it

// Where the keys and values of one layer live. Elements are bf16 (ComputeDType::kBf16) or f32.
//   page(id, head) = base + id * page_stride + head * head_stride     (strides in bytes)
//   keys   [block / 16][head_dim / 2][16 positions][2]                bf16
//          [block / 16][head_dim][16 positions]                       f32
//   values [block / 2][head_dim][2 positions]                         bf16
//          [block][head_dim]                                          f32
// As codes (kv_format.h), with the scales of each group of positions behind its codes:
//   keys   [block / 16] of { [head_dim][16 positions], [kv_scales()][16 positions] }
//   values [block / 16] of { [16 positions][head_dim], [kv_scales()][16 positions] }
struct KvLayer {
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  std::int64_t page_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t block = 0;     // positions per page, a multiple of kKeyGroup
  std::int64_t head_dim = 0;  // even
  ComputeDType dtype = ComputeDType::kBf16;
  KvFormat format = KvFormat::kCompute;  // anything else: with bf16 only
};

// Inputs of a product with integer weights: each row as int8 in groups of kGroup with an f32 scale,
// value = scale * code. The rows of one group are together, so that a product of many rows reads
// one stream. A row whose group has a value that is not finite has a scale of NaN there.
struct QuantizedRows {
  std::int8_t* codes = nullptr;  // [groups][rows][kGroup], -127..127
  float* scales = nullptr;       // [groups][rows], and room for 16 values behind
  // [groups][rows], and room for 16 behind: -128 times the sum of the codes. Unsigned weights q +
  // 128 (or, a sixteenth of it, q + 8) sum to so much too little with it.
  std::int32_t* corrections = nullptr;
  std::int64_t rows = 0;
  std::int64_t groups = 0;
};

// Inputs of a product with weights in WeightOrder::kRows: bf16 as operands of tiles. Rows are in
// blocks of 16, k in groups of kGroup, and a tile is {16 pairs of k}[rows of the block][2]. Up to
// 16 rows are one block of so many; more are filled up with rows of zeros to whole blocks. The
// tiles of a block follow each other over a chunk of kChunk groups, then those of the next
// block; up to 32 rows there is one chunk of all groups.
struct InputTiles {
  Bf16* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t groups = 0;

  static constexpr std::int64_t kBlockRows = 16;
  static constexpr std::int64_t kChunk = 8;
  static std::int64_t padded_rows(std::int64_t rows) {
    return rows <= kBlockRows ? rows : (rows + kBlockRows - 1) / kBlockRows * kBlockRows;
  }
  static std::int64_t bytes(std::int64_t rows, std::int64_t groups) {
    return padded_rows(rows) * groups * kGroup * 2;
  }
  std::int64_t block_rows() const { return rows <= kBlockRows ? rows : kBlockRows; }
  std::int64_t blocks() const { return (rows + kBlockRows - 1) / kBlockRows; }
  std::int64_t chunk() const { return rows <= 2 * kBlockRows ? groups : kChunk; }
  // Tile of a block and a group; the tiles behind it in the chunk are block_rows() * kGroup
  // elements apart.
  Bf16* tile(std::int64_t block, std::int64_t group) const {
    const std::int64_t first = group / chunk() * chunk();
    const std::int64_t in_chunk = chunk() < groups - first ? chunk() : groups - first;
    return data + kGroup * (first * padded_rows(rows) + block * kBlockRows * in_chunk +
                            (group - first) * block_rows());
  }
};

// Scratch of matmul_tiles(), 64-byte aligned: the sums of 8 panels and 512 rows, and a chunk of a
// panel as bf16. 528 KiB are too much for the stacks that some systems give.
inline constexpr std::int64_t kTileScratchFloats =
    8 * kPanelWidth * 512 + InputTiles::kChunk * kGroup * kPanelWidth / 2;

// What a product takes its inputs as.
enum class InputForm : std::uint8_t {
  kPlain,      // MatmulArgs::x
  kQuantized,  // MatmulArgs::quantized
  kTiles,      // MatmulArgs::tiles
};

struct MatmulArgs {
  const void* x = nullptr;  // [m][ldx] of the compute dtype
  std::int64_t ldx = 0;
  std::int64_t m = 0;
  PackedView w;
  float* y = nullptr;  // [m][ldy]; column j is output j
  std::int64_t ldy = 0;
  bool add = false;  // y += x w^T instead of y = x w^T; the sum is complete before it is added
  QuantizedRows quantized = {};  // rows = m, groups = those of w
  InputTiles tiles = {};         // likewise
  float* scratch = nullptr;      // with tiles: kTileScratchFloats values, this thread's own
};

// Causal attention of rows [0, rows) of one sequence, for one kv head and its group of query heads.
// Row i sits at position first_position + i and sees positions 0 .. first_position + i, all already
// stored in the pages.
struct AttentionArgs {
  const float* q =
      nullptr;  // row i, query head g of the group: q[i * q_stride + g * head_dim]; rope applied
  std::int64_t q_stride = 0;
  std::int64_t rows = 0;
  std::int64_t group = 0;  // query heads per kv head
  std::int64_t first_position = 0;
  KvLayer kv;
  std::int64_t kv_head = 0;
  const PageId* pages = nullptr;  // page of position p: pages[p / block]
  float scale = 1.0F;             // 1 / sqrt(head_dim)
  void* out = nullptr;  // row i, head g: out[i * out_stride + g * head_dim], compute dtype
  std::int64_t out_stride = 0;
  // At least attention_scratch_floats(...) values, this thread's own.
  float* scratch = nullptr;

  // For a part of a long context: attention() looks at spans [span_begin, span_end) only and leaves
  // their states in `partials`; when all parts have been done, merge_attention() makes `out` of
  // them. Bits are those of the undivided call. nullptr: the whole context, straight to `out`.
  float* partials = nullptr;  // [rows * group][spans][attention_partial_floats()]
  std::int64_t spans = 0;     // attention_spans() of the last row's position
  std::int64_t span_begin = 0;
  std::int64_t span_end = 0;
};

// Spans that a row at this position sees.
inline std::int64_t attention_spans(std::int64_t position) { return position / kAttentionSpan + 1; }

struct KernelTable {
  std::string_view name;

  // Panels [panel_begin, panel_end) of y, for weights in WeightOrder::kPairs. x is bf16 / f32;
  // weights are bf16, widened for f32. k of the weights must be even (the last odd input would be
  // read past the row).
  void (*matmul_bf16)(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end);
  void (*matmul_f32)(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end);

  // The same for weights of kInt8 or kInt4, in kPairs, and quantized rows. Per group the products
  // are summed as integers, which is exact; then sum = fma(float(integer) * weight scale, input
  // scale, sum), group after group from 0: the same bits in every table.
  void (*matmul_quantized)(const MatmulArgs& args, std::int64_t panel_begin,
                           std::int64_t panel_end);
  // Row `row` of `out` from x[k]: scale = largest magnitude / 127, codes to nearest even. A group
  // below 2^-100 is zero. The last group is filled up with zeros.
  void (*quantize)(const void* x, ComputeDType dtype, std::int64_t k, const QuantizedRows& out,
                   std::int64_t row);

  // out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i], rounded to `dtype`.
  void (*rms_norm)(const float* x, const float* weight, float eps, std::int64_t n,
                   ComputeDType dtype, void* out);
  // The two halves of rms_norm, for rows that lie over several devices: the sum of x^2, and
  // out[i] = x[i] * factor * weight[i], rounded to `dtype`.
  float (*sum_of_squares)(const float* x, std::int64_t n);
  void (*scale)(const float* x, const float* weight, float factor, std::int64_t n,
                ComputeDType dtype, void* out);
  // Rotates pairs (2i, 2i+1) of each of `heads` heads in place by the angle whose cosine and sine
  // are cos[i], sin[i], i < head_dim / 2.
  void (*rope)(float* x, std::int64_t heads, std::int64_t head_dim, const float* cos,
               const float* sin);
  // out[i] = silu(gate[i]) * up[i], rounded to `dtype`.
  void (*swiglu)(const float* gate, const float* up, std::int64_t n, ComputeDType dtype, void* out);
  // Puts one position's key and value of one head ([head_dim] f32 each) into its page.
  void (*store_kv)(const KvLayer& kv, PageId page, std::int64_t head, std::int64_t offset_in_page,
                   const float* key, const float* value);
  void (*attention)(const AttentionArgs& args);
  void (*merge_attention)(const AttentionArgs& args);
  // Row `row` of the packed matrix as f32 [k], whatever its format.
  void (*embedding)(const PackedView& w, std::int64_t row, float* out);
  // x[i] = exp(x[i] - max) in place; returns the sum of them (f64) and the maximum through
  // `max_out`.
  double (*softmax_numerators)(float* x, std::int64_t n, float* max_out);

  // The order of weights that is fastest here with inputs in bf16. A table whose order is kRows has
  // the functions below, and those above for kPairs too.
  WeightOrder order = WeightOrder::kPairs;
  // Products with weights in WeightOrder::kRows, of any format: a weight is rounded to bf16 when it
  // is used, so an integer format gives the bits of its values in bf16.
  void (*matmul_tiles)(const MatmulArgs& args, std::int64_t panel_begin,
                       std::int64_t panel_end) = nullptr;
  // Block `block` of `out` from its rows of x[rows][ldx]; the last group is filled up with zeros.
  void (*make_tiles)(const Bf16* x, std::int64_t ldx, std::int64_t k, const InputTiles& out,
                     std::int64_t block) = nullptr;
};

// The order to pack weights in for products with inputs of this type.
inline WeightOrder weight_order(const KernelTable& kernels, ComputeDType dtype) {
  return dtype == ComputeDType::kBf16 ? kernels.order : WeightOrder::kPairs;
}
inline InputForm input_form(const PackedView& w) {
  return w.order == WeightOrder::kRows     ? InputForm::kTiles
         : w.format == WeightFormat::kBf16 ? InputForm::kPlain
                                           : InputForm::kQuantized;
}

// Scratch for attention() with up to `rows` rows per call, in floats.
std::int64_t attention_scratch_floats(std::int64_t rows, std::int64_t group, std::int64_t head_dim);

// The state of one query and span, in floats.
std::int64_t attention_partial_floats(std::int64_t head_dim);

// "amx", "avx512bf16", "avx512", "avx2", "reference": the ones this CPU can run, fastest first (the
// order differs between makers). The first call asks Linux for AMX, if the CPU has it.
std::span<const KernelTable* const> available_kernels();

// The fastest ("" or "auto"), or the one named; an unknown or impossible name is kBadArgument with
// the list.
Result<const KernelTable*> choose_kernels(std::string_view name);

}  // namespace tg
