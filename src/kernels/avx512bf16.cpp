// The table of CPUs with AVX512_BF16: products of bf16 by vdpbf16ps, which adds both products of a
// pair to an f32 lane (and takes subnormal bf16 for zero). The rest is the AVX-512 table's.
#include "kernels/avx512_attention.h"
#include "kernels/matmul_walk.h"

#define TG_AVX512BF16 \
  __attribute__((target("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))

namespace tg {
namespace {

using avx512::first_lanes;
using avx512::narrow;

// A pair of bf16 in all 16 lanes.
TG_AVX512_INLINE __m512i broadcast_pair(const Bf16* x) {
  std::int32_t pair = 0;
  std::memcpy(&pair, x, sizeof(pair));
  return _mm512_set1_epi32(pair);
}

// From so many rows on a tile of one panel asks for the next panel's weights: fewer are faster with
// nothing asked for, see Matmul.
constexpr std::int64_t kAskingRows = 7;

template <int R, int P>
TG_AVX512BF16 void tile(const MatmulTile<Bf16>& t) {
  __m512 sums[R][2 * P];
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int v = 0; v < 2 * P; ++v) {
      sums[r][v] =
          t.first ? _mm512_setzero_ps() : _mm512_load_ps(t.sums + r * kSumsStride + 16 * v);
    }
  }
  const Bf16* x = t.x;
  const Bf16* w = t.w;
  const Bf16* next = t.next;
  for (std::int64_t i = 0; i < t.pairs; ++i, x += 2, w += 2 * kPanelWidth) {
    if (R >= kAskingRows && next != nullptr) {
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
      _mm_prefetch(reinterpret_cast<const char*>(next + kPanelWidth), _MM_HINT_T1);
      next += 2 * kPanelWidth;
    }
    __m512i weights[2 * P];
    TG_UNROLL
    for (int v = 0; v < 2 * P; ++v) {
      weights[v] = _mm512_load_si512(w + v / 2 * t.panel_stride + v % 2 * kPanelWidth);
    }
    TG_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512i pair = broadcast_pair(x + r * kTileStride);
      TG_UNROLL
      for (int v = 0; v < 2 * P; ++v) {
        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], (__m512bh)weights[v], (__m512bh)pair);
      }
    }
  }
  TG_UNROLL
  for (int r = 0; r < R; ++r) {
    TG_UNROLL
    for (int v = 0; v < 2 * P; ++v) _mm512_store_ps(t.sums + r * kSumsStride + 16 * v, sums[r][v]);
  }
}

struct Matmul {
  using Input = Bf16;
  // 12 rows x 2 vectors = 24 sums + 2 weights + 1 broadcast = 27 of 32 registers.
  static constexpr std::int64_t kRows = 12;
  static constexpr std::int64_t kRowGroup = kVectorRowGroup;
  static constexpr bool kAsks = true;

  // One and two rows do nothing but wait for memory, which a Zen 4 reads fastest as one stream in
  // order. Three to six leave registers free for more panels, hence more loads in flight and longer
  // chains hidden.
  static std::int64_t panels_for(std::int64_t rows) {
    return rows <= 2 ? 1 : rows == 3 ? 4 : rows < kAskingRows ? 2 : 1;
  }
  static std::int64_t panels_in_turn(std::int64_t rows) { return rows <= 2 ? 1 : kPanelGroup; }

  static void copy_row(const Bf16* x, std::int64_t count, Bf16* out) {
    std::memcpy(out, x, static_cast<std::size_t>(count) * sizeof(Bf16));
  }

  static void tile(std::int64_t rows, std::int64_t panels, const MatmulTile<Bf16>& t) {
    using Function = void (*)(const MatmulTile<Bf16>&);
    static constexpr Function kOnePanel[] = {tg::tile<1, 1>,  tg::tile<2, 1>,  tg::tile<3, 1>,
                                             tg::tile<4, 1>,  tg::tile<5, 1>,  tg::tile<6, 1>,
                                             tg::tile<7, 1>,  tg::tile<8, 1>,  tg::tile<9, 1>,
                                             tg::tile<10, 1>, tg::tile<11, 1>, tg::tile<12, 1>};
    static constexpr Function kMorePanels[] = {tg::tile<3, 4>, tg::tile<4, 2>, tg::tile<5, 2>,
                                               tg::tile<6, 2>};
    (panels == 1 ? kOnePanel[rows - 1] : kMorePanels[rows - 3])(t);
  }
};

template <int S, int G>
TG_AVX512BF16 void scores_block(const float* query, std::int64_t stride, const KeyGroup* groups,
                                std::int64_t head_dim, NextStep& ahead, float* scores) {
  __m512 sums[S][G];
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    TG_UNROLL
    for (int g = 0; g < G; ++g) sums[s][g] = _mm512_setzero_ps();
  }
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    if (i % avx512::kAskScores == 0) ahead.ask(1);
    __m512i keys[G];
    TG_UNROLL
    for (int g = 0; g < G; ++g) keys[g] = _mm512_loadu_si512(groups[g].keys + i * 64);
    TG_UNROLL
    for (int s = 0; s < S; ++s) {
      // Two bf16 fill the place of one float.
      const __m512i pair = broadcast_pair(reinterpret_cast<const Bf16*>(query + s * stride + i));
      TG_UNROLL
      for (int g = 0; g < G; ++g) {
        sums[s][g] = _mm512_dpbf16_ps(sums[s][g], (__m512bh)keys[g], (__m512bh)pair);
      }
    }
  }
  TG_UNROLL
  for (int s = 0; s < S; ++s) {
    TG_UNROLL
    for (int g = 0; g < G; ++g) _mm512_storeu_ps(scores + s * stride + 16 * g, sums[s][g]);
  }
}

struct ScoresCall {
  const float* query;
  std::int64_t stride;
  const StepGroups& groups;
  std::int64_t group_count, head_dim;
  NextStep& ahead;
  float* scores;

  template <int S>
  void run(std::int64_t s) const {
    const float* q = query + s * stride;
    float* out = scores + s * stride;
    if (group_count == 4) {
      scores_block<S, 4>(q, stride, groups.data(), head_dim, ahead, out);
      return;
    }
    for (std::int64_t g = 0; g < group_count; ++g) {
      scores_block<S, 1>(q, stride, groups.data() + g, head_dim, ahead, out + 16 * g);
    }
  }
};

struct Bf16Attention : avx512::Attention<Bf16> {
  TG_AVX512 static void prepare_query(const float* q, std::int64_t head_dim, float* query) {
    for (std::int64_t d = 0; d < head_dim; d += 16) {
      const __m512 v = avx512::load_masked(q + d, first_lanes(head_dim - d));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(query + d / 2), narrow(v));
    }
  }

  static void scores(const SlotArray& slots, std::int64_t slot, std::int64_t count,
                     StepMemory& memory) {
    for_slot_blocks<avx512::kSlotBlock>(
        count, ScoresCall{slots.query(slot), slots.stride(), memory.groups, memory.group_count,
                          memory.head_dim, memory.ahead, slots.scores(slot)});
  }
};

void attention(const AttentionArgs& args) {
  if (args.kv.dtype == ComputeDType::kBf16) {
    walk_attention<Bf16Attention>(args);
  } else {
    attention_avx512(args);
  }
}

}  // namespace

void matmul_bf16_avx512bf16(const MatmulArgs& args, std::int64_t panel_begin,
                            std::int64_t panel_end) {
  walk_matmul<Matmul, Bf16>(args, panel_begin, panel_end);
}

constinit const KernelTable kAvx512Bf16Kernels = {
    "avx512bf16",
    matmul_bf16_avx512bf16,
    matmul_f32_avx512,
    matmul_quantized_vnni_in_order,
    quantize_avx512,
    rms_norm_avx512,
    sum_of_squares_avx512,
    scale_avx512,
    rope_avx512,
    swiglu_avx512,
    store_kv_portable,
    attention,
    merge_attention_avx512,
    embedding_portable,
    softmax_numerators_avx512,
};

}  // namespace tg
