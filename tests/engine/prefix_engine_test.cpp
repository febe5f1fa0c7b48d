// The prefix cache and priorities in the engine: what is not computed again, what is, and that no
// answer shows it.
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "engine/engine_calls.h"
#include "engine/fake_runner.h"
#include "engine/proposers.h"

namespace tg {
namespace {

using test::engine_for;
using test::expected_answer;
using test::FakeRunner;
using test::OracleProposer;
using test::prompt_of;
using test::request_of;
using test::tokens_of;

AnswerSink answer_of(Engine& engine, Request request) {
  AnswerSink sink;
  EXPECT_TRUE(engine.submit(std::move(request), &sink).has_value());
  engine.run_until_idle();
  return sink;
}

std::vector<TokenId> joined(std::vector<TokenId> a, const std::vector<TokenId>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(PrefixCache, ARepeatComputesTheLastPageOnly) {
  for (const std::int64_t length : {1, 15, 16, 17, 31, 32, 33, 100}) {
    SCOPED_TRACE(length);
    FakeRunner runner({.block = 16});
    auto engine = engine_for(runner);
    const std::vector<TokenId> prompt = prompt_of(length, 1);
    const AnswerSink first = answer_of(*engine, request_of(prompt, 5));
    EXPECT_EQ(first.cached_tokens, 0);
    EXPECT_EQ(tokens_of(first), expected_answer(prompt, 5, {}, {}, 64).sampled);
    const std::int64_t rows = engine->stats().prefill_rows;
    const AnswerSink second = answer_of(*engine, request_of(prompt, 5));
    EXPECT_EQ(tokens_of(second), tokens_of(first));
    const std::int64_t cached = (length - 1) / 16 * 16;  // the last token is always computed
    EXPECT_EQ(second.cached_tokens, cached);
    EXPECT_EQ(second.prompt_tokens, length);
    EXPECT_EQ(engine->stats().prefill_rows - rows, length - cached);
    EXPECT_EQ(engine->stats().prefix_queries, 2 * length);
    EXPECT_EQ(engine->stats().prefix_hits, cached);
    EXPECT_EQ(runner.broken_rule, "");
    EXPECT_EQ(engine->free_pages(), engine->total_pages());
  }
}

TEST(PrefixCache, AConversationGoesOnBehindItsAnswer) {
  FakeRunner runner({.block = 16});
  auto engine = engine_for(runner);
  std::vector<TokenId> text = prompt_of(20, 1);
  for (int turn = 0; turn < 4; ++turn) {
    const AnswerSink sink = answer_of(*engine, request_of(text, 30));
    EXPECT_EQ(tokens_of(sink), expected_answer(text, 30, {}, {}, 64).sampled);
    // Of the turn before all but the last token of the answer was computed.
    const auto known = static_cast<std::int64_t>(text.size()) - 8;
    EXPECT_EQ(sink.cached_tokens, turn == 0 ? 0 : (known - 1) / 16 * 16);
    text = joined(joined(text, sink.ids), prompt_of(8, static_cast<std::uint64_t>(turn) + 50));
  }
}

TEST(PrefixCache, UsersOfOnePromptHoldItOnce) {
  FakeRunner runner({.block = 16, .blocks = 24});
  auto engine = engine_for(runner, {.max_users = 8});
  const std::vector<TokenId> common = prompt_of(160, 1);  // ten pages
  std::deque<AnswerSink> sinks(8);
  ASSERT_TRUE(engine->submit(request_of(joined(common, {1}), 40), &sinks.front()).has_value());
  engine->step();
  for (TokenId u = 1; u < 8; ++u) {
    ASSERT_TRUE(
        engine->submit(request_of(joined(common, {u, u}), 14), &sinks[static_cast<std::size_t>(u)])
            .has_value());
  }
  engine->step();
  EXPECT_EQ(engine->running(), 8);  // each has one page besides: eighty more would be needed
  EXPECT_EQ(engine->total_pages() - engine->free_pages(), 10 + 8);
  engine->run_until_idle();
  EXPECT_EQ(engine->stats().preemptions, 0);
  for (TokenId u = 1; u < 8; ++u) {
    EXPECT_EQ(tokens_of(sinks[static_cast<std::size_t>(u)]),
              expected_answer(joined(common, {u, u}), 14, {}, {}, 64).sampled);
  }
  EXPECT_EQ(runner.broken_rule, "");
}

// Nobody could find the other's pages when they started together; afterwards they have the same.
TEST(PrefixCache, UsersWhoStartTogetherEndUpSharing) {
  FakeRunner runner({.block = 16, .blocks = 64, .max_rows = 512});
  auto engine = engine_for(runner);
  const std::vector<TokenId> common = prompt_of(100, 1);
  std::deque<AnswerSink> sinks(4);
  for (AnswerSink& sink : sinks) {
    ASSERT_TRUE(engine->submit(request_of(common, 20), &sink).has_value());
  }
  engine->step();
  EXPECT_EQ(engine->total_pages() - engine->free_pages(), 6 + 4);
  engine->run_until_idle();
  for (const AnswerSink& sink : sinks) {
    EXPECT_EQ(tokens_of(sink), expected_answer(common, 20, {}, {}, 64).sampled);
  }
  EXPECT_EQ(runner.broken_rule, "");
}

TEST(PrefixCache, ScoresNeedEveryRowAndLeaveTheirPages) {
  FakeRunner runner({.block = 16});
  auto engine = engine_for(runner);
  Request request = request_of(prompt_of(50, 1), 3);
  request.score_prompt = true;
  const AnswerSink first = answer_of(*engine, request);
  const AnswerSink second = answer_of(*engine, request);
  EXPECT_EQ(second.cached_tokens, 0);
  EXPECT_EQ(runner.scored_rows, 2 * 49);
  test::expect_same_answer(first, second);
  EXPECT_EQ(engine->stats().prefix_queries, 0);
  const AnswerSink plain = answer_of(*engine, request_of(request.prompt_ids, 3));
  EXPECT_EQ(plain.cached_tokens, 48);
  EXPECT_EQ(tokens_of(plain), tokens_of(first));
}

TEST(PrefixCache, OffMeansOff) {
  FakeRunner runner({.block = 16});
  auto engine = engine_for(runner, {.prefix_cache = false});
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(answer_of(*engine, request_of(prompt_of(50, 1), 3)).cached_tokens, 0);
  }
  EXPECT_EQ(engine->stats().prefill_rows, 100);
  EXPECT_EQ(engine->stats().prefix_queries, 0);
}

// Pages of a step that failed are nobody's, and what was right before it still is.
TEST(PrefixCache, AFailedStepLeavesNothingBehind) {
  FakeRunner runner({.block = 16, .max_rows = 32});
  auto engine = engine_for(runner);
  const std::vector<TokenId> prompt = prompt_of(80, 1);
  runner.fail_at_step = 2;
  EXPECT_EQ(answer_of(*engine, request_of(prompt, 3)).reason, FinishReason::kError);
  const AnswerSink again = answer_of(*engine, request_of(prompt, 3));
  EXPECT_EQ(again.cached_tokens, 32);
  EXPECT_EQ(tokens_of(again), expected_answer(prompt, 3, {}, {}, 64).sampled);
}

TEST(PrefixCache, ThePreemptedFindWhatIsLeftOfTheirs) {
  FakeRunner runner({.block = 4, .blocks = 20});
  auto engine = engine_for(runner, {.max_users = 2});
  AnswerSink older, younger;
  ASSERT_TRUE(engine->submit(request_of(prompt_of(16, 1), 40), &older).has_value());
  ASSERT_TRUE(engine->submit(request_of(prompt_of(16, 2), 40), &younger).has_value());
  engine->run_until_idle();
  EXPECT_EQ(younger.preemptions, 1);
  // 40 positions when it gave way; the older one took four of its ten pages.
  EXPECT_GT(engine->stats().recomputed_rows, 0);
  EXPECT_LT(engine->stats().recomputed_rows, 20);
  EXPECT_EQ(younger.cached_tokens, 0);  // when it started
  EXPECT_EQ(tokens_of(older), expected_answer(prompt_of(16, 1), 40, {}, {}, 64).sampled);
  EXPECT_EQ(tokens_of(younger), expected_answer(prompt_of(16, 2), 40, {}, {}, 64).sampled);
}

// What a wrong guess wrote may fill a page; only known tokens make it findable.
TEST(PrefixCache, GuessedTokensAreNotShared) {
  const std::vector<TokenId> prompt = prompt_of(30, 1);
  const auto answer = expected_answer(prompt, 60, {}, {}, 64).sampled;
  for (const double right : {0.0, 0.5, 1.0}) {
    FakeRunner runner({.block = 4});
    OracleProposer oracle(right, 64);
    auto engine = engine_for(runner, {.speculation = {&oracle, 8, 64}});
    for (RequestId id = 1; id <= 3; ++id) {
      oracle.will_say(id, prompt.size(), answer);
      const AnswerSink sink = answer_of(*engine, request_of(prompt, 60));
      EXPECT_EQ(tokens_of(sink), answer);
    }
    const std::vector<TokenId> longer = joined(prompt, answer);
    oracle.will_say(4, longer.size(), expected_answer(longer, 20, {}, {}, 64).sampled);
    const AnswerSink sink = answer_of(*engine, request_of(longer, 20));
    EXPECT_EQ(tokens_of(sink), expected_answer(longer, 20, {}, {}, 64).sampled);
    EXPECT_GE(sink.cached_tokens, 80);
    EXPECT_EQ(runner.broken_rule, "");
  }
}

TEST(Priorities, DecideWhoLeavesTheQueueFirst) {
  FakeRunner runner({});
  auto engine = engine_for(runner, {.max_users = 1});
  std::vector<int> ended;
  struct Sink : AnswerSink {
    std::vector<int>* ended = nullptr;
    int number = 0;
    void on_finish(const FinishEvent& event) override {
      AnswerSink::on_finish(event);
      ended->push_back(number);
    }
  };
  std::deque<Sink> sinks(6);
  const std::vector<std::int32_t> priorities = {0, 0, 5, -1, 0, -1};
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    sinks[i].ended = &ended;
    sinks[i].number = static_cast<int>(i);
    Request request = request_of({1, 2}, 3);
    request.priority = priorities[i];
    ASSERT_TRUE(engine->submit(request, &sinks[i]).has_value());
    if (i == 0) engine->step();  // it runs: a place is not taken away
  }
  engine->run_until_idle();
  EXPECT_EQ(ended, (std::vector<int>{0, 3, 5, 1, 4, 2}));
}

TEST(Priorities, DecideWhoGivesPagesBack) {
  for (const std::int32_t priority : {0, -1}) {
    FakeRunner runner({.block = 4, .blocks = 20});
    auto engine = engine_for(runner, {.max_users = 2});
    AnswerSink older, younger;
    ASSERT_TRUE(engine->submit(request_of(prompt_of(16, 1), 40), &older).has_value());
    Request request = request_of(prompt_of(16, 2), 40);
    request.priority = priority;
    ASSERT_TRUE(engine->submit(request, &younger).has_value());
    engine->run_until_idle();
    EXPECT_EQ(older.preemptions, priority < 0 ? 1 : 0);
    EXPECT_EQ(younger.preemptions, priority < 0 ? 0 : 1);
  }
}

TEST(PrefillBudget, ADecodingUserWaitsForOneChunk) {
  FakeRunner runner({.blocks = 256, .max_rows = 256});
  auto engine = engine_for(runner, {.max_users = 8, .prefill_chunk = 32});
  std::deque<AnswerSink> sinks(6);
  ASSERT_TRUE(engine->submit(request_of({1, 2, 3}, 100), &sinks.front()).has_value());
  engine->step();
  for (std::uint64_t i = 1; i < 6; ++i) {
    ASSERT_TRUE(engine->submit(request_of(prompt_of(300, i), 2), &sinks[i]).has_value());
  }
  std::int64_t steps = 0;
  while (engine->step() && !sinks[5].finished) {
    ++steps;
    EXPECT_LE(engine->last_step().prefill_rows, 32);
    EXPECT_GE(engine->last_step().decode_rows, 1);
  }
  EXPECT_GE(steps, 5 * 300 / 32);
  engine->run_until_idle();

  FakeRunner other({.blocks = 256, .max_rows = 256});
  auto wide = engine_for(other, {.max_users = 8, .prefill_chunk = 32, .prefill_rows = 96});
  std::deque<AnswerSink> wide_sinks(6);
  for (std::uint64_t i = 0; i < 6; ++i) {
    Request request = i == 0 ? request_of({1, 2, 3}, 100) : request_of(prompt_of(300, i), 2);
    ASSERT_TRUE(wide->submit(std::move(request), &wide_sinks[i]).has_value());
    if (i == 0) wide->step();
  }
  wide->step();
  EXPECT_EQ(wide->last_step().prefill_rows, 96);
}

// Beginnings in common, priorities, guesses, tiny pools, several domains, with the cache and
// without: each answer is that of its request alone.
TEST(PrefixCache, RandomTracesEqualSingleRuns) {
  std::int64_t preemptions = 0, hits = 0, evictions = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    const auto pick = [&](std::int64_t low, std::int64_t high) {
      return low + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(high - low + 1));
    };
    FakeRunner::Options fake;
    fake.block = pick(1, 8);
    fake.blocks = pick(2, 24);
    fake.domains = static_cast<std::int32_t>(pick(1, 2));
    const std::int64_t users = pick(1, 8);
    fake.max_rows = users + pick(0, 20);
    FakeRunner runner(fake);
    OracleProposer oracle(0.7, 64);
    EngineOptions options{.max_users = users, .prefill_chunk = pick(0, 9), .shuffle_pages = seed};
    options.prefix_cache = seed % 8 != 0;
    if (seed % 3 == 0) options.speculation = {&oracle, 4, 32};
    auto engine = engine_for(runner, options);
    struct Life {
      std::vector<TokenId> expected;
      AnswerSink sink;
      RequestId id = 0;
    };
    std::deque<Life> lives;
    const std::int64_t places = fake.block * fake.blocks;
    for (std::int64_t arrivals = pick(1, 20); arrivals > 0 || !engine->idle();) {
      while (arrivals > 0 && pick(0, 1) == 0) {
        --arrivals;
        const std::int64_t length = pick(1, places);
        std::vector<TokenId> prompt = prompt_of(length, static_cast<std::uint64_t>(pick(1, 2)));
        for (std::int64_t i = pick(1, length); i < length; ++i) {
          prompt[static_cast<std::size_t>(i)] = static_cast<TokenId>(pick(0, 63));
        }
        Life& life = lives.emplace_back();
        Request request = request_of(prompt, pick(1, places - length + 1));
        request.sampling.temperature = pick(0, 1) == 0 ? 0.0 : 1.0;
        request.sampling.seed = random();
        request.priority = static_cast<std::int32_t>(pick(0, 1));
        life.expected =
            expected_answer(prompt, *request.max_new_tokens, request.sampling, {}, 64).sampled;
        life.id = lives.size();
        oracle.will_say(life.id, prompt.size(), life.expected);
        ASSERT_TRUE(engine->submit(std::move(request), &life.sink).has_value());
      }
      if (!lives.empty() && pick(0, 40) == 0) {
        engine->cancel(lives[random() % lives.size()].id);
      }
      engine->step();
      ASSERT_EQ(runner.broken_rule, "") << "seed " << seed;
      ASSERT_LT(engine->stats().steps, 100000) << "seed " << seed;
    }
    EXPECT_EQ(engine->free_pages(), engine->total_pages());
    for (Life& life : lives) {
      ASSERT_TRUE(life.sink.finished);
      preemptions += life.sink.preemptions;
      if (life.sink.reason == FinishReason::kCancelled) {
        life.expected.resize(life.sink.sampled.size());
      }
      ASSERT_EQ(tokens_of(life.sink), life.expected) << "seed " << seed << " id " << life.id;
    }
    hits += engine->stats().prefix_hits;
    evictions += engine->stats().prefix_evictions;
  }
  EXPECT_GT(preemptions, 100);
  EXPECT_GT(hits, 1000);
  EXPECT_GT(evictions, 1000);
}

}  // namespace
}  // namespace tg
