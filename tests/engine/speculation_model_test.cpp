// Speculative decoding with a real model, on one device and on meshes: the very bits of plain
// decoding, since a row's values do not depend on the rows beside it.
#include <gtest/gtest.h>

#include <deque>
#include <utility>
#include <vector>

#include "engine/draft_proposer.h"
#include "engine/engine.h"
#include "engine/engine_calls.h"
#include "engine/ngram_proposer.h"
#include "engine/proposers.h"
#include "model/test_model.h"

namespace tg {
namespace {

using test::expect_same_answer;
using test::OracleProposer;
using test::prompt_of;
using test::request_of;
using test::tokens_of;

constexpr std::size_t kGuessedUsers = 12;

// Prompts that repeat themselves, and answers that are greedy, sampled with and without top-k (of
// a vocabulary in shards the latter needs whole rows), penalised, scored, stopped.
std::vector<Request> guessable_requests() {
  std::vector<Request> requests;
  for (std::uint64_t u = 0; u < kGuessedUsers; ++u) {
    std::vector<TokenId> prompt = prompt_of(5 + static_cast<std::int64_t>(u * 7 % 30), u, 1024);
    prompt.insert(prompt.end(), prompt.begin(), prompt.begin() + 5);
    Request request = request_of(std::move(prompt), 20 + static_cast<std::int64_t>(u * 11 % 41));
    SamplingParams& p = request.sampling;
    if (u % 3 == 1) {
      p.temperature = 0.9;
      p.seed = u;
      if (u % 2 == 0) p.top_k = 20;
    }
    if (u % 4 == 2) {
      p.repetition_penalty = 1.2;
      p.presence_penalty = 0.4;
    }
    if (u % 5 == 0) p.top_logprobs = 4;
    if (u % 2 == 1) request.stop_ids = {static_cast<TokenId>(u), 77, 500};
    if (u % 4 == 3) request.min_new_tokens = 9;
    // This model never repeats itself; with three tokens to choose from it must.
    if (u % 4 == 0) p.logit_bias = {{10, 30.0F}, {600, 30.0F}, {900, 30.0F}};
    requests.push_back(std::move(request));
  }
  return requests;
}

struct SpeculativeCase {
  const char* name;
  MeshShape mesh;
  ComputeDType dtype;
  std::int64_t positions;  // of a column's pages
  bool crowded;            // users must give pages back
};

class SpeculativeModel : public testing::TestWithParam<SpeculativeCase> {
 protected:
  std::deque<AnswerSink> run(Engine& engine, const std::vector<Request>& requests) {
    std::deque<AnswerSink> sinks(requests.size());
    for (std::size_t u = 0; u < requests.size(); ++u) {
      EXPECT_TRUE(engine.submit(requests[u], &sinks[u]));
    }
    engine.run_until_idle();
    EXPECT_EQ(engine.free_pages(), engine.total_pages());
    return sinks;
  }
};

TEST_P(SpeculativeModel, TheAnswerIsThatOfPlainDecoding) {
  const SpeculativeCase& c = GetParam();
  test::ModelSetting setting{.dtype = c.dtype, .block = 16, .positions = c.positions};
  setting.mesh = c.mesh;
  test::TestModel model(test::tiny("meta_mp8"), setting);
  const std::vector<Request> requests = guessable_requests();

  auto alone = Engine::create(model.runner(), {.max_users = 1});
  ASSERT_TRUE(alone) << alone.error().text();
  const std::deque<AnswerSink> plain = run(**alone, requests);

  NgramProposer ngram;
  OracleProposer oracle(0.8, 1024);
  for (std::size_t u = 0; u < kGuessedUsers; ++u) {
    oracle.will_say(u + 1, requests[u].prompt_ids.size(), tokens_of(plain[u]));
  }
  // The same model on one device, greedy and without penalties: right often, not always.
  test::ModelSetting draft_setting{.dtype = c.dtype, .block = 16, .positions = 4096};
  test::TestModel draft_model(test::tiny("meta_mp8"), draft_setting);
  DraftProposer draft(draft_model.runner());
  const std::vector<std::pair<const char*, Proposer*>> proposers = {
      {"ngram", &ngram}, {"oracle", &oracle}, {"draft", &draft}};
  for (const auto& [name, proposer] : proposers) {
    SCOPED_TRACE(name);
    auto engine =
        Engine::create(model.runner(), {.max_users = static_cast<std::int64_t>(kGuessedUsers),
                                        .prefill_chunk = 24,
                                        .shuffle_pages = 3,
                                        .speculation = {proposer, 8, 64}});
    ASSERT_TRUE(engine) << engine.error().text();
    const std::deque<AnswerSink> sinks = run(**engine, requests);
    for (std::size_t u = 0; u < kGuessedUsers; ++u) {
      SCOPED_TRACE(fmt::format("user {}", u));
      expect_same_answer(sinks[u], plain[u]);
    }
    const EngineStats& stats = (*engine)->stats();
    EXPECT_GT(stats.speculation.accepted, 0);
    EXPECT_LT(stats.speculation.accepted, stats.speculation.proposed);
    EXPECT_EQ(stats.preemptions > 0, c.crowded);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Meshes, SpeculativeModel,
    testing::Values(SpeculativeCase{"one_device", {1, 1}, ComputeDType::kBf16, 2048, false},
                    SpeculativeCase{
                        "one_device_f32_crowded", {1, 1}, ComputeDType::kF32, 192, true},
                    SpeculativeCase{"two_by_two", {2, 2}, ComputeDType::kBf16, 2048, false},
                    SpeculativeCase{"galaxy_crowded", kGalaxy, ComputeDType::kBf16, 112, true}),
    [](const auto& of) { return std::string(of.param.name); });

}  // namespace
}  // namespace tg
