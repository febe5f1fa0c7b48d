// What a mesh of devices in one process costs: the time of a decode step (or a prefill step) on a
// mesh over that on one device, with random weights, interleaved, as the median of the ratios.
//   mesh_bench ARCH LAYERS MESH USERS ROUNDS [ROWS [THREADS]]
//   mesh_bench llama3.3-70b 2 8x4 32 7
// Needs memory for the weights twice.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include "checkpoint/known_shapes.h"
#include "checkpoint/random_source.h"
#include "model/llama_runner.h"

namespace tg {
namespace {

constexpr std::int64_t kBlock = 64;
constexpr std::int64_t kPosition = 128;

struct Setting {
  std::string arch;
  std::int64_t layers = 1;
  std::int64_t users = 32;
  std::int64_t rows = 1;  // of each user in a step
};

class Subject {
 public:
  static Result<std::unique_ptr<Subject>> make(const Setting& s, const MeshShape& mesh,
                                               ThreadTeam& team) {
    TG_ASSIGN(ModelConfig config, known_shape(s.arch));
    config.layers = s.layers;
    TG_ASSIGN(const auto source, open_random(config, 1));
    TG_ASSIGN(const ShardPlan plan, ShardPlan::make(config, mesh));
    TG_ASSIGN(LlamaWeights weights,
              load_weights(*source, plan, {0, mesh.rows, 0, mesh.cols}, team, WeightsWish::kBf16,
                           weight_order(**choose_kernels(""), ComputeDType::kBf16)));
    auto subject = std::make_unique<Subject>();
    const std::int64_t pages = (kPosition + s.rows + kBlock - 1) / kBlock;
    const std::int64_t per_domain = (s.users + mesh.cols - 1) / mesh.cols;
    RunnerOptions options;
    options.kernels = *choose_kernels("");
    options.capacity = {kBlock, per_domain * pages, s.users * s.rows};
    TG_ASSIGN(subject->runner_, LlamaRunner::create(std::move(weights), team, options));
    subject->tokens_.assign(static_cast<std::size_t>(s.rows), 100);
    subject->pages_.resize(static_cast<std::size_t>(per_domain * pages));
    std::iota(subject->pages_.begin(), subject->pages_.end(), 0);
    subject->ask_.row = s.rows - 1;
    subject->ask_.params = &subject->greedy_;
    for (std::int64_t u = 0; u < s.users; ++u) {
      StepSequence sequence;
      sequence.tokens = subject->tokens_;
      sequence.first_position = kPosition;
      sequence.kv_domain = static_cast<std::int32_t>(u / per_domain);
      sequence.pages = std::span<const PageId>(subject->pages_)
                           .subspan(static_cast<std::size_t>(u % per_domain * pages),
                                    static_cast<std::size_t>(pages));
      sequence.asks = {&subject->ask_, 1};
      subject->sequences_.push_back(sequence);
    }
    return subject;
  }

  // Seconds of one step.
  double step() {
    const auto begin = std::chrono::steady_clock::now();
    const auto result = runner_->step({sequences_});
    TG_CHECK(result.has_value());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

 private:
  std::unique_ptr<LlamaRunner> runner_;
  std::vector<TokenId> tokens_;
  std::vector<PageId> pages_;
  SamplingParams greedy_;
  RowAsk ask_;
  std::vector<StepSequence> sequences_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Status run(int argc, char** argv) {
  if (argc < 6) return error(ErrorCode::kBadArgument, "usage: see the head of mesh_bench.cpp");
  Setting setting{argv[1], std::atol(argv[2]), std::atol(argv[4]),
                  argc > 6 ? std::atol(argv[6]) : 1};
  TG_ASSIGN(const MeshShape mesh, parse_mesh_shape(argv[3]));
  ThreadTeam team(argc > 7 ? std::atoi(argv[7]) : available_cpus());
  TG_ASSIGN(const auto one, Subject::make(setting, {}, team));
  TG_ASSIGN(const auto many, Subject::make(setting, mesh, team));
  one->step();
  many->step();
  std::vector<double> times_one;
  std::vector<double> times_many;
  std::vector<double> ratios;
  for (int round = 0; round < std::atoi(argv[5]); ++round) {
    times_one.push_back(one->step());
    times_many.push_back(many->step());
    ratios.push_back(times_many.back() / times_one.back());
    fmt::print("round {}: 1x1 {:.1f} ms, {} {:.1f} ms, ratio {:.3f}\n", round,
               1e3 * times_one.back(), text(mesh), 1e3 * times_many.back(), ratios.back());
  }
  fmt::print("median: 1x1 {:.1f} ms, {} {:.1f} ms, ratio {:.3f}\n", 1e3 * median(times_one),
             text(mesh), 1e3 * median(times_many), median(ratios));
  return {};
}

}  // namespace
}  // namespace tg

int main(int argc, char** argv) {
  const tg::Status status = tg::run(argc, argv);
  if (status) return 0;
  fmt::print(stderr, "mesh_bench: {}\n", status.error().text());
  return 2;
}
