// One rank of the tests over MPI; ctest starts it through mpirun with several rank counts.
//   mpi_ranks collectives | model
#include <fmt/format.h>

#include <cstdio>
#include <string_view>
#include <vector>

#include "mesh/collective_cases.h"
#include "mesh/mpi_transport.h"
#include "model/llama_runner.h"

namespace tg {
namespace {

// All cases that so many ranks can share.
void collectives(Transport& transport) {
  std::int64_t checked = 0;
  for (const test::Case& c : test::cases()) {
    if (!share_mesh(c.mesh, transport.ranks())) continue;
    test::check_rank(c, &transport);
    ++checked;
  }
  EXPECT_GT(checked, 0);
  if (transport.rank() == 0) fmt::print("{} cases on {} ranks\n", checked, transport.ranks());
  // What another rank says comes over the same transport.
  std::vector<std::byte> over;
  transport.broadcast({"the end", 0, -1}, over);
}

struct Subject {
  ThreadTeam team{1};
  std::unique_ptr<LlamaRunner> runner;
};

std::unique_ptr<Subject> make(const TensorSource& source, const CollectivePlan& plan,
                              ComputeDType dtype, Transport* transport) {
  auto subject = std::make_unique<Subject>();
  const auto shards = *ShardPlan::make(source.config(), kGalaxy);
  DeviceBlock block{0, 8, 0, 4};
  if (transport != nullptr) {
    block = share_mesh(kGalaxy, transport->ranks())->block(transport->rank());
  }
  RunnerOptions options;
  options.kernels = *choose_kernels("");
  options.dtype = dtype;
  options.capacity = {64, 16, 512};
  options.collectives = plan;
  options.transport = transport;
  auto runner =
      LlamaRunner::create(*load_weights(source, shards, block, subject->team, WeightsWish::kBf16,
                                        weight_order(*options.kernels, dtype)),
                          subject->team, options);
  TG_CHECK(runner.has_value());
  subject->runner = std::move(*runner);
  return subject;
}

// A token with its log-probabilities as floats, to compare bits.
std::vector<float> values(const SampledToken& sampled) {
  std::vector<float> all = {static_cast<float>(sampled.token), sampled.logprob};
  for (const TokenLogprob& top : sampled.top) {
    all.insert(all.end(), {static_cast<float>(top.token), top.logprob});
  }
  return all;
}

// A prompt of 300 tokens on column 1 and one of 3 on column 2, then 64 greedy tokens of both: all
// logits, and what is sampled from each row.
std::vector<std::vector<float>> answers(LlamaRunner& runner) {
  std::vector<TokenId> longer;
  for (TokenId i = 0; i < 300; ++i) longer.push_back(i * 37 % 1024);
  std::vector<std::vector<TokenId>> tokens = {longer, {5, 6, 7}};
  const std::vector<PageId> pages = {3, 9, 1, 0, 2, 8, 4};
  std::vector<std::int64_t> positions = {0, 0};
  SamplingParams params;
  params.temperature = 0.7;
  params.top_k = 32;
  params.top_p = 0.9;
  params.repetition_penalty = 1.2;
  params.logit_bias = {{7, 1.0F}, {1000, -2.0F}};
  params.top_logprobs = 3;
  std::vector<std::vector<float>> all;
  for (int step = 0; step < 64; ++step) {
    std::vector<RowAsk> asks(4);  // two of each user's row
    std::vector<StepSequence> sequences(2);
    for (std::size_t u = 0; u < 2; ++u) {
      RowAsk* ask = &asks[2 * u];
      ask[0].kind = RowAsk::Kind::kLogits;
      ask[1].params = &params;
      ask[1].context.prompt = longer;
      ask[1].context.token_index = static_cast<std::uint64_t>(step);
      ask[0].row = ask[1].row = static_cast<std::int64_t>(tokens[u].size()) - 1;
      sequences[u].tokens = tokens[u];
      sequences[u].first_position = positions[u];
      sequences[u].pages = pages;
      sequences[u].kv_domain = static_cast<std::int32_t>(u) + 1;
      sequences[u].asks = {ask, 2};
    }
    auto result = runner.step({sequences});
    TG_CHECK(result.has_value());
    for (std::size_t u = 0; u < 2; ++u) {
      positions[u] += static_cast<std::int64_t>(tokens[u].size());
      const std::vector<float>& logits = result->answers[2 * u].logits;
      tokens[u] = {
          static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin())};
      all.push_back(std::move(result->answers[2 * u].logits));
      all.push_back(values(result->answers[2 * u + 1].token));
    }
  }
  return all;
}

// The ranks together give the bits of one process.
void model(Transport& transport) {
  const auto source = open_checkpoint(std::string(TG_SOURCE_DIR) + "/tests/golden/tiny/meta_mp8");
  TG_CHECK(source.has_value());
  // A serving rank leaves at the end of each job, so there is one runner for all: ring and line by
  // use, a lossy payload for half of the program's runs.
  CollectivePlan plan;
  for (const Use use : all_uses()) {
    const auto i = static_cast<std::size_t>(use);
    plan.reduce_scatter[i] = i % 2 == 0 ? HopAlgorithm::kRing : HopAlgorithm::kLine;
    plan.all_gather[i] = i % 3 == 0 ? HopAlgorithm::kLine : HopAlgorithm::kRing;
  }
  const auto spread = make(**source, plan, ComputeDType::kF32, &transport);
  if (transport.rank() != 0) {
    EXPECT_TRUE(spread->runner->serve());
    return;
  }
  const auto together = answers(*spread->runner);
  spread->runner->stop();
  const auto alone = answers(*make(**source, plan, ComputeDType::kF32, nullptr)->runner);
  ASSERT_EQ(together.size(), alone.size());
  for (std::size_t i = 0; i < alone.size(); ++i) {
    ASSERT_TRUE(test::same_bits(together[i], alone[i])) << "answer " << i;
  }
  fmt::print("{} answers equal on {} ranks\n", alone.size(), transport.ranks());
}

}  // namespace
}  // namespace tg

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  testing::InitGoogleTest(&argc, argv);
  const auto transport = tg::start_mpi({});
  if (!transport) {
    fmt::print(stderr, "{}\n", transport.error().text());
    return 2;
  }
  // Assertions of GoogleTest outside of a test count in its first, unnamed result.
  if (what == "collectives") {
    tg::collectives(**transport);
  } else {
    tg::model(**transport);
  }
  const bool failed = testing::UnitTest::GetInstance()->ad_hoc_test_result().Failed();
  return failed ? 1 : 0;
}
