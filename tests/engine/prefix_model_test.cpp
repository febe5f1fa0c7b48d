// C19 and a crowd with a real model, on one device and on a mesh: the prefix cache shows in the
// counts and in nothing else, to the last bit.
#include <gtest/gtest.h>

#include <deque>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/engine_calls.h"
#include "engine/proposers.h"
#include "model/test_model.h"

namespace tg {
namespace {

using test::expect_same_answer;
using test::prompt_of;
using test::request_of;

struct Case {
  const char* name;
  MeshShape mesh;
};

class PrefixModel : public testing::TestWithParam<Case> {
 protected:
  test::ModelSetting setting(std::int64_t block, std::int64_t positions) const {
    test::ModelSetting s{.dtype = ComputeDType::kBf16, .block = block, .positions = positions};
    s.mesh = GetParam().mesh;
    return s;
  }
  static std::unique_ptr<Engine> engine(LlamaRunner& runner, EngineOptions options) {
    auto made = Engine::create(runner, std::move(options));
    EXPECT_TRUE(made) << made.error().text();
    return std::move(*made);
  }
};

// The case's prompt: a beginning and five tokens over and over, cut to the length.
std::vector<TokenId> c19_prompt(std::size_t length) {
  std::vector<TokenId> ids = {1000};
  while (ids.size() < length)
    ids.push_back(std::vector<TokenId>{791, 686, 315, 982, 374}[ids.size() % 5]);
  return ids;
}

TEST_P(PrefixModel, C19RepeatsAreEqual) {
  for (const std::int64_t block : {16, 32, 64}) {
    test::TestModel model(test::tiny("meta_mp8"), setting(block, 1024));
    for (const std::size_t length : {127U, 128U, 129U}) {
      SCOPED_TRACE(fmt::format("block {}, {} tokens", block, length));
      const std::vector<TokenId> prompt = c19_prompt(length);
      std::vector<TokenId> changed = prompt;
      for (std::size_t i = length - 8; i < length; ++i) changed[i] += 1;
      const std::vector<TokenId> other = std::move(changed);
      std::vector<AnswerSink> answers[2];
      for (const bool cache : {false, true}) {
        auto e = engine(model.runner(), {.max_users = 4, .prefix_cache = cache});
        for (const auto* ids : {&prompt, &prompt, &prompt, &other, &prompt}) {
          Request request = request_of(*ids, 6);
          request.sampling.top_logprobs = 3;
          AnswerSink& sink = answers[cache ? 1 : 0].emplace_back();
          ASSERT_TRUE(e->submit(std::move(request), &sink));
          e->run_until_idle();
          EXPECT_EQ(sink.prompt_tokens, static_cast<std::int64_t>(length));
        }
      }
      for (std::size_t i = 0; i < 5; ++i) {
        expect_same_answer(answers[1][i], answers[0][i]);
        if (i != 3) expect_same_answer(answers[0][i], answers[0][0]);
        const auto kept = static_cast<std::int64_t>(i == 3 ? length - 8 : length - 1);
        EXPECT_EQ(answers[1][i].cached_tokens, i == 0 ? 0 : kept / block * block);
        EXPECT_EQ(answers[0][i].cached_tokens, 0);
      }
    }
  }
}

// Twelve users with one of two beginnings, sampled and greedy, in a pool that is too small for
// them all.
TEST_P(PrefixModel, ACrowdGetsWhatEachGetsAlone) {
  test::TestModel model(test::tiny("meta_mp8"), setting(16, 224));
  std::vector<Request> requests;
  for (std::uint64_t u = 0; u < 12; ++u) {
    std::vector<TokenId> ids = prompt_of(70, u % 2, 1024);
    const std::vector<TokenId> own = prompt_of(1 + static_cast<std::int64_t>(u), 100 + u, 1024);
    ids.insert(ids.end(), own.begin(), own.end());
    Request request = request_of(std::move(ids), 10 + static_cast<std::int64_t>(u * 7 % 20));
    request.sampling.top_logprobs = 2;
    if (u % 3 == 1) {
      request.sampling.temperature = 0.9;
      request.sampling.seed = u;
    }
    request.priority = static_cast<std::int32_t>(u % 4 == 3);
    requests.push_back(std::move(request));
  }
  std::deque<AnswerSink> answers[2];
  for (const bool cache : {false, true}) {
    auto e = engine(model.runner(), {.max_users = cache ? 12 : 1,
                                     .prefill_chunk = cache ? 24 : 0,
                                     .prefix_cache = cache,
                                     .shuffle_pages = 5});
    std::deque<AnswerSink>& sinks = answers[cache ? 1 : 0];
    sinks.resize(requests.size());
    for (std::size_t u = 0; u < requests.size(); ++u) {
      ASSERT_TRUE(e->submit(requests[u], &sinks[u]));
    }
    e->run_until_idle();
    EXPECT_EQ(e->free_pages(), e->total_pages());
    if (!cache) continue;
    EXPECT_GT(e->stats().prefix_hits, 200);
    EXPECT_GT(e->stats().prefix_evictions, 0);
    EXPECT_GT(e->stats().preemptions, 0);
  }
  for (std::size_t u = 0; u < requests.size(); ++u) {
    SCOPED_TRACE(fmt::format("user {}", u));
    expect_same_answer(answers[1][u], answers[0][u]);
  }
}

INSTANTIATE_TEST_SUITE_P(Meshes, PrefixModel,
                         testing::Values(Case{"one_device", {1, 1}}, Case{"two_by_two", {2, 2}}),
                         [](const auto& of) { return std::string(of.param.name); });

}  // namespace
}  // namespace tg
