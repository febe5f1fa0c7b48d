// Speed of the kernels on one thread, per table, beside the two ceilings of the machine: arithmetic
// (nothing but the multiply instruction) and memory (nothing but loads). Run it on a quiet machine,
// e.g.
//   kernels_bench --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true
// and read the best of each.

// g++ 12 takes the deliberately undefined vectors of its own header for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/ceilings.h"
#include "kernels/kernel_table.h"
#include "kernels/packed_matrix.h"

namespace tg {
namespace {

// The shape of the feed-forward matrices of an 8B model would be 4096 x 14336; one of 4096 x 4096
// (32 MiB) is rotated over so many copies that no cache holds them.
constexpr std::int64_t kInputs = 4096;
constexpr std::int64_t kOutputs = 4096;
constexpr std::int64_t kCopies = 24;

// Filled once, with pages really there: untouched zero pages would all be the same memory.
const PackedMatrix& weights() {
  static const PackedMatrix matrix = [] {
    auto made = PackedMatrix::allocate(kOutputs * kCopies, kInputs);
    TG_CHECK(made);
    std::vector<float> rows(static_cast<std::size_t>(kPanelWidth * kInputs));
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 17) * 0.01F;
    for (std::int64_t row = 0; row < kOutputs * kCopies; row += kPanelWidth) {
      made->set_rows(row, kPanelWidth, rows);
    }
    return std::move(*made);
  }();
  return matrix;
}

PackedView copy_of_weights(std::int64_t copy) {
  PackedView view = weights().view();
  view.data += copy * (kOutputs / kPanelWidth) * view.panel_bytes();
  view.n = kOutputs;
  return view;
}

void matmul(benchmark::State& state, const KernelTable* kernels, ComputeDType dtype) {
  const std::int64_t m = state.range(0);
  const bool bf16 = dtype == ComputeDType::kBf16;
  const std::vector<Bf16> x16(static_cast<std::size_t>(m * kInputs), to_bf16(0.5F));
  const std::vector<float> x32(static_cast<std::size_t>(m * kInputs), 0.5F);
  std::vector<float> y(static_cast<std::size_t>(m * kOutputs));
  std::int64_t copy = 0;
  for ([[maybe_unused]] auto _ : state) {
    MatmulArgs args;
    args.x = bf16 ? static_cast<const void*>(x16.data()) : x32.data();
    args.ldx = kInputs;
    args.m = m;
    args.w = copy_of_weights(copy);
    args.y = y.data();
    args.ldy = kOutputs;
    (bf16 ? kernels->matmul_bf16 : kernels->matmul_f32)(args, 0, args.w.panels());
    benchmark::ClobberMemory();
    copy = (copy + 1) % kCopies;
  }
  const auto calls = static_cast<double>(state.iterations());
  using Counter = benchmark::Counter;
  state.counters["flop/s"] =
      Counter(2.0 * static_cast<double>(m * kInputs * kOutputs) * calls, Counter::kIsRate);
  state.counters["weight_bytes/s"] =
      Counter(2.0 * static_cast<double>(kInputs * kOutputs) * calls, Counter::kIsRate);
}

// The same products with integer weights; quantising the inputs is part of it, once per call.
const PackedMatrix& integers(WeightFormat format) {
  static const auto made = [](WeightFormat f) {
    auto matrix = PackedMatrix::allocate(kOutputs * kCopies, kInputs, f);
    TG_CHECK(matrix);
    std::vector<float> rows(static_cast<std::size_t>(kPanelWidth * kInputs));
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 17) * 0.01F;
    for (std::int64_t row = 0; row < kOutputs * kCopies; row += kPanelWidth) {
      matrix->set_rows(row, kPanelWidth, rows);
    }
    return std::move(*matrix);
  };
  static const PackedMatrix int8 = made(WeightFormat::kInt8);
  static const PackedMatrix int4 = made(WeightFormat::kInt4);
  return format == WeightFormat::kInt8 ? int8 : int4;
}

// Products on tiles, for a table that has them; making the tiles is part of it, once per call.
constexpr WeightFormat kTileFormats[] = {
    WeightFormat::kBf16, WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kQ4K,
    WeightFormat::kQ6K,  WeightFormat::kBfp8, WeightFormat::kBfp4};

PackedMatrix make_rows_of(WeightFormat format) {
  auto matrix = PackedMatrix::allocate(kOutputs * kCopies, kInputs, format, WeightOrder::kRows);
  TG_CHECK(matrix);
  std::vector<float> rows(static_cast<std::size_t>(kPanelWidth * kInputs));
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 17) * 0.01F;
  // Blocks of 256 whose f16 are all 0x1111, some 6e-4.
  const std::int64_t stride =
      kInputs / kKBlockWeights * (format == WeightFormat::kQ4K ? kQ4KBytes : kQ6KBytes);
  const std::vector<std::byte> blocks(static_cast<std::size_t>(kPanelWidth * stride),
                                      std::byte{0x11});
  for (std::int64_t row = 0; row < kOutputs * kCopies; row += kPanelWidth) {
    if (is_k_format(format)) {
      matrix->set_blocks(row, kPanelWidth, blocks.data(), stride);
    } else {
      matrix->set_rows(row, kPanelWidth, rows);
    }
  }
  return std::move(*matrix);
}

// Each is made when it is first asked for.
const PackedMatrix& rows_of(WeightFormat format) {
  static std::map<WeightFormat, PackedMatrix> made;
  const auto found = made.find(format);
  return found != made.end() ? found->second
                             : made.emplace(format, make_rows_of(format)).first->second;
}

void matmul_tiles(benchmark::State& state, const KernelTable* kernels, WeightFormat format) {
  const std::int64_t m = state.range(0);
  const std::vector<Bf16> x(static_cast<std::size_t>(m * kInputs), to_bf16(0.5F));
  std::vector<float> y(static_cast<std::size_t>(m * kOutputs));
  auto room =
      AlignedBuffer::allocate(static_cast<std::size_t>(InputTiles::bytes(m, kInputs / kGroup)));
  TG_CHECK(room);
  const InputTiles tiles{room->as<Bf16>(), m, kInputs / kGroup};
  auto scratch = AlignedBuffer::allocate(kTileScratchFloats * sizeof(float));
  TG_CHECK(scratch);
  std::int64_t copy = 0;
  const PackedView all = rows_of(format).view();
  for ([[maybe_unused]] auto _ : state) {
    for (std::int64_t b = 0; b < tiles.blocks(); ++b) {
      kernels->make_tiles(x.data(), kInputs, kInputs, tiles, b);
    }
    MatmulArgs args;
    args.m = m;
    args.w = all.outputs(copy * kOutputs, kOutputs);
    args.y = y.data();
    args.ldy = kOutputs;
    args.tiles = tiles;
    args.scratch = scratch->as<float>();
    kernels->matmul_tiles(args, 0, args.w.panels());
    benchmark::ClobberMemory();
    copy = (copy + 1) % kCopies;
  }
  const auto calls = static_cast<double>(state.iterations());
  using Counter = benchmark::Counter;
  state.counters["flop/s"] =
      Counter(2.0 * static_cast<double>(m * kInputs * kOutputs) * calls, Counter::kIsRate);
  const auto bytes = static_cast<double>(all.panel_bytes() * kOutputs / kPanelWidth);
  state.counters["weight_bytes/s"] = Counter(bytes * calls, Counter::kIsRate);
}

void matmul_quantized(benchmark::State& state, const KernelTable* kernels, WeightFormat format) {
  const std::int64_t m = state.range(0);
  const std::vector<float> x(static_cast<std::size_t>(m * kInputs), 0.5F);
  std::vector<float> y(static_cast<std::size_t>(m * kOutputs));
  std::vector<std::int8_t> codes(x.size());
  std::vector<float> scales(x.size() / kGroup + 16);
  std::vector<std::int32_t> corrections(scales.size());
  QuantizedRows rows{codes.data(), scales.data(), corrections.data(), m, kInputs / kGroup};
  std::int64_t copy = 0;
  const PackedView all = integers(format).view();
  for ([[maybe_unused]] auto _ : state) {
    for (std::int64_t r = 0; r < m; ++r) {
      kernels->quantize(x.data() + r * kInputs, ComputeDType::kF32, kInputs, rows, r);
    }
    MatmulArgs args;
    args.m = m;
    args.w = all.outputs(copy * kOutputs, kOutputs);
    args.y = y.data();
    args.ldy = kOutputs;
    args.quantized = rows;
    kernels->matmul_quantized(args, 0, args.w.panels());
    benchmark::ClobberMemory();
    copy = (copy + 1) % kCopies;
  }
  const auto calls = static_cast<double>(state.iterations());
  using Counter = benchmark::Counter;
  state.counters["op/s"] =
      Counter(2.0 * static_cast<double>(m * kInputs * kOutputs) * calls, Counter::kIsRate);
  const auto bytes = static_cast<double>(all.panel_bytes() * kOutputs / kPanelWidth);
  state.counters["weight_bytes/s"] = Counter(bytes * calls, Counter::kIsRate);
}

__attribute__((target("avx512f"))) std::int64_t read_all(const std::byte* p, std::int64_t bytes) {
  __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                     _mm512_setzero_si512()};
  for (std::int64_t i = 0; i < bytes; i += 256) {
    for (int j = 0; j < 4; ++j) {
      sums[j] = _mm512_xor_si512(sums[j], _mm512_load_si512(p + i + 64 * j));
    }
  }
  const __m512i sum =
      _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3]));
  return _mm_cvtsi128_si64(_mm512_castsi512_si128(sum));
}

// The memory ceiling: the same bytes as matmul at m = 1, only loaded.
void read_weights(benchmark::State& state) {
  std::int64_t copy = 0;
  for ([[maybe_unused]] auto _ : state) {
    const PackedView view = copy_of_weights(copy);
    benchmark::DoNotOptimize(read_all(view.data, view.panels() * view.panel_bytes()));
    copy = (copy + 1) % kCopies;
  }
  state.counters["weight_bytes/s"] = benchmark::Counter(
      2.0 * static_cast<double>(kInputs * kOutputs) * static_cast<double>(state.iterations()),
      benchmark::Counter::kIsRate);
}

void ceiling(benchmark::State& state, const Ceiling& instruction) {
  constexpr std::int64_t kRounds = 100000;
  for ([[maybe_unused]] auto _ : state) instruction.run(kRounds);
  state.counters["flop/s"] =
      benchmark::Counter(instruction.operations * kRounds * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

// One kv head of a context of range(1) positions, for the last range(0) rows of it.
void attention(benchmark::State& state, const KernelTable* kernels, ComputeDType dtype) {
  constexpr std::int64_t kHeadDim = 128;
  constexpr std::int64_t kGroup = 4;
  constexpr std::int64_t kBlock = 64;
  const std::int64_t rows = state.range(0);
  const std::int64_t context = state.range(1);
  const std::int64_t element = dtype == ComputeDType::kBf16 ? 2 : 4;
  auto memory = AlignedBuffer::allocate(static_cast<std::size_t>(2 * context * kHeadDim * element));
  TG_CHECK(memory);
  KvLayer kv;
  kv.keys = memory->data();
  kv.values = memory->data() + kBlock * kHeadDim * element;
  kv.page_stride = 2 * kBlock * kHeadDim * element;
  kv.head_stride = 0;
  kv.block = kBlock;
  kv.head_dim = kHeadDim;
  kv.dtype = dtype;
  std::vector<PageId> pages(static_cast<std::size_t>(context / kBlock));
  std::iota(pages.begin(), pages.end(), 0);
  std::vector<float> vector(kHeadDim, 0.1F);
  for (std::int64_t p = 0; p < context; ++p) {
    vector[static_cast<std::size_t>(p % kHeadDim)] = static_cast<float>(p % 13) * 0.1F;
    kernels->store_kv(kv, static_cast<PageId>(p / kBlock), 0, p % kBlock, vector.data(),
                      vector.data());
  }
  const std::vector<float> q(static_cast<std::size_t>(rows * kGroup * kHeadDim), 0.1F);
  std::vector<float> out(q.size());
  std::vector<float> scratch(
      static_cast<std::size_t>(attention_scratch_floats(rows, kGroup, kHeadDim)));
  for ([[maybe_unused]] auto _ : state) {
    AttentionArgs args;
    args.q = q.data();
    args.q_stride = kGroup * kHeadDim;
    args.rows = rows;
    args.group = kGroup;
    args.first_position = context - rows;
    args.kv = kv;
    args.pages = pages.data();
    args.scale = 0.08838834F;
    args.out = out.data();
    args.out_stride = kGroup * kHeadDim;
    args.scratch = scratch.data();
    kernels->attention(args);
    benchmark::ClobberMemory();
  }
  const auto calls = static_cast<double>(state.iterations());
  using Counter = benchmark::Counter;
  const auto seen = static_cast<double>(rows * (2 * context - rows + 1)) / 2.0;
  state.counters["flop/s"] = Counter(seen * 4.0 * kGroup * kHeadDim * calls, Counter::kIsRate);
  state.counters["kv_bytes/s"] =
      Counter(static_cast<double>(2 * context * kHeadDim * element) * calls, Counter::kIsRate);
}

void rms_norm(benchmark::State& state, const KernelTable* kernels) {
  const std::int64_t n = state.range(0);
  const std::vector<float> x(static_cast<std::size_t>(n), 0.5F);
  std::vector<Bf16> out(x.size());
  for ([[maybe_unused]] auto _ : state) {
    kernels->rms_norm(x.data(), x.data(), 1e-5F, n, ComputeDType::kBf16, out.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * n);
}

void swiglu(benchmark::State& state, const KernelTable* kernels) {
  const std::int64_t n = state.range(0);
  const std::vector<float> x(static_cast<std::size_t>(n), 0.5F);
  std::vector<Bf16> out(x.size());
  for ([[maybe_unused]] auto _ : state) {
    kernels->swiglu(x.data(), x.data(), n, ComputeDType::kBf16, out.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * n);
}

void store_kv(benchmark::State& state, const KernelTable* kernels) {
  constexpr std::int64_t kHeadDim = 128;
  std::vector<float> memory(64 * kHeadDim * 2);
  KvLayer kv;
  kv.keys = reinterpret_cast<std::byte*>(memory.data());
  kv.values = kv.keys + 64 * kHeadDim * 2;
  kv.block = 64;
  kv.head_dim = kHeadDim;
  const std::vector<float> vector(kHeadDim, 0.5F);
  std::int64_t position = 0;
  for ([[maybe_unused]] auto _ : state) {
    kernels->store_kv(kv, 0, 0, position, vector.data(), vector.data());
    position = (position + 1) % 64;
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kHeadDim);
}

void softmax(benchmark::State& state, const KernelTable* kernels) {
  const std::int64_t n = state.range(0);
  std::vector<float> x(static_cast<std::size_t>(n), 0.5F);
  for ([[maybe_unused]] auto _ : state) {
    float maximum = 0.0F;
    benchmark::DoNotOptimize(kernels->softmax_numerators(x.data(), n, &maximum));
  }
  state.SetItemsProcessed(state.iterations() * n);
}

void register_table(const KernelTable* kernels) {
  const std::string table(kernels->name);
  const auto add = [&](const char* what, auto function, auto... args) {
    return benchmark::RegisterBenchmark((table + "/" + what).c_str(), function, kernels, args...);
  };
  add("matmul_bf16", matmul, ComputeDType::kBf16)
      ->ArgName("m")
      ->Arg(1)
      ->Arg(2)
      ->Arg(4)
      ->Arg(8)
      ->Arg(16)
      ->Arg(32)
      ->Arg(128)
      ->Arg(512);
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    add(format == WeightFormat::kInt8 ? "matmul_int8" : "matmul_int4", matmul_quantized, format)
        ->ArgName("m")
        ->Arg(1)
        ->Arg(2)
        ->Arg(4)
        ->Arg(8)
        ->Arg(16)
        ->Arg(32)
        ->Arg(128)
        ->Arg(512);
  }
  if (kernels->order == WeightOrder::kRows) {
    for (const WeightFormat format : kTileFormats) {
      auto* tiles = add(("tiles_" + std::string(tg::name(format))).c_str(), matmul_tiles, format);
      tiles->ArgName("m");
      for (const std::int64_t m : {1, 2, 4, 8, 16, 32, 128, 512}) tiles->Arg(m);
    }
  }
  add("matmul_f32", matmul, ComputeDType::kF32)->ArgName("m")->Arg(1)->Arg(8)->Arg(128);
  for (const ComputeDType dtype : {ComputeDType::kBf16, ComputeDType::kF32}) {
    add(dtype == ComputeDType::kBf16 ? "attention_bf16" : "attention_f32", attention, dtype)
        ->ArgNames({"rows", "context"})
        ->Args({1, 1024})
        ->Args({1, 131072})
        ->Args({128, 2048});
  }
  add("rms_norm", rms_norm)->Arg(576)->Arg(8192);
  add("swiglu", swiglu)->Arg(28672);
  add("store_kv", store_kv);
  add("softmax", softmax)->Arg(128256);
}

}  // namespace
}  // namespace tg

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (const tg::KernelTable* kernels : tg::available_kernels()) {
    if (kernels->name != "reference") tg::register_table(kernels);
    if (kernels->name == "avx512") {
      benchmark::RegisterBenchmark("ceiling/memory_read", tg::read_weights);
    }
  }
  for (const tg::Ceiling& c : tg::available_ceilings()) {
    benchmark::RegisterBenchmark(("ceiling/" + std::string(c.name)).c_str(), tg::ceiling, c);
  }
  tg::weights();  // not within a timing
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
