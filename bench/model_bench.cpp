// Speed of whole steps of a real model, per thread count and number of rows: decoding at several
// batch sizes and prefill. The model is the one that `make model` fetches.
//   model_bench [--benchmark_filter=...] [--benchmark_repetitions=5]

#include <benchmark/benchmark.h>

#include <memory>
#include <numeric>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "model/llama_runner.h"

namespace tg {
namespace {

constexpr const char* kModel = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr std::int64_t kBlock = 64;
constexpr std::int64_t kPagesPerUser = 16;

std::unique_ptr<LlamaRunner> make_runner(ThreadTeam& team, ComputeDType dtype) {
  const auto source = open_checkpoint(kModel);
  if (!source) return nullptr;
  auto weights = load_weights(**source, team, weight_order(**choose_kernels(""), dtype));
  if (!weights) return nullptr;
  auto runner = LlamaRunner::create(std::move(*weights), team,
                                    {.kernels = *choose_kernels(""),
                                     .dtype = dtype,
                                     .capacity = {kBlock, 32 * kPagesPerUser, 1024}});
  return runner ? std::move(*runner) : nullptr;
}

// Each of `users` adds `rows` tokens at `position`.
void step(benchmark::State& state, int threads, ComputeDType dtype, std::int64_t users,
          std::int64_t rows, std::int64_t position) {
  ThreadTeam team(threads);
  const auto runner = make_runner(team, dtype);
  if (runner == nullptr) {
    state.SkipWithError("models/ is empty: run make model");
    return;
  }
  const std::vector<TokenId> tokens(static_cast<std::size_t>(rows), 100);
  std::vector<PageId> pages(static_cast<std::size_t>(users * kPagesPerUser));
  std::iota(pages.begin(), pages.end(), 0);
  const SamplingParams greedy;
  RowAsk ask;
  ask.row = rows - 1;
  ask.params = &greedy;
  std::vector<StepSequence> sequences(static_cast<std::size_t>(users));
  for (std::size_t u = 0; u < sequences.size(); ++u) {
    sequences[u].tokens = tokens;
    sequences[u].first_position = position;
    sequences[u].pages = std::span<const PageId>(pages).subspan(u * kPagesPerUser, kPagesPerUser);
    sequences[u].asks = {&ask, 1};
  }
  // The first touch of KV pages costs more than the step.
  if (!runner->step({sequences})) state.SkipWithError("the first step failed");
  for (auto _ : state) {
    auto result = runner->step({sequences});
    if (!result) state.SkipWithError(result.error().text().c_str());
  }
  state.counters["tok/s"] = benchmark::Counter(
      static_cast<double>(users * rows * state.iterations()), benchmark::Counter::kIsRate);
}

void register_all() {
  for (const int threads : {1, 2}) {
    for (const ComputeDType dtype : {ComputeDType::kBf16, ComputeDType::kF32}) {
      const std::string suffix =
          (dtype == ComputeDType::kBf16 ? "/bf16/threads:" : "/f32/threads:") +
          std::to_string(threads);
      for (const std::int64_t users : {1, 4, 32}) {
        benchmark::RegisterBenchmark(
            ("decode/users:" + std::to_string(users) + suffix).c_str(),
            [=](benchmark::State& s) { step(s, threads, dtype, users, 1, 128); })
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
      benchmark::RegisterBenchmark(("prefill/rows:512" + suffix).c_str(),
                                   [=](benchmark::State& s) { step(s, threads, dtype, 1, 512, 0); })
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

}  // namespace
}  // namespace tg

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  tg::register_all();
  benchmark::RunSpecifiedBenchmarks();
}
