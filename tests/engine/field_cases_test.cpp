// The engine's part of cases from the field: C06, C10, C15, C17 (tests/golden/cases).
#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/engine_calls.h"
#include "engine/fake_runner.h"

namespace tg {
namespace {

using test::engine_for;
using test::expected_answer;
using test::FakeRunner;
using test::prompt_of;
using test::request_of;
using test::tokens_of;

// C06: each id of the stop set ends the answer, is counted, and is not text; ignore_eos goes on.
TEST(FieldCases, C06StopSet) {
  FakeRunner runner({.vocab = 128256, .blocks = 8});
  auto engine = engine_for(runner);
  const std::vector<TokenId> stops = {128001, 128008, 128009};
  for (const TokenId id : stops) {
    AnswerSink sink;
    Request request = request_of({128000, 13347}, 8);
    request.stop_ids = stops;
    request.sampling.logit_bias = {{id, 100.0F}};
    ASSERT_TRUE(engine->submit(request, &sink).has_value());
    engine->run_until_idle();
    EXPECT_EQ(sink.reason, FinishReason::kStop);
    EXPECT_EQ(sink.completion_tokens, 1);
    EXPECT_TRUE(sink.ids.empty());
    EXPECT_EQ(sink.stop_id, id);

    AnswerSink ignoring;
    request.ignore_eos = true;
    ASSERT_TRUE(engine->submit(request, &ignoring).has_value());
    engine->run_until_idle();
    EXPECT_EQ(ignoring.reason, FinishReason::kLength);
    EXPECT_EQ(ignoring.ids, std::vector<TokenId>(8, id));
    EXPECT_EQ(ignoring.completion_tokens, 8);
  }
}

// C10: the seed-42 request alone, among unseeded ones, among copies with other seeds.
TEST(FieldCases, C10SeedsInEverySurrounding) {
  FakeRunner runner({.blocks = 30});  // too few pages for eight at once
  auto engine = engine_for(runner);
  const auto seeded = [](std::uint64_t seed) {
    Request request = request_of({5, 6, 7, 8}, 48);
    request.sampling.temperature = 0.8;
    request.sampling.top_p = 0.95;
    request.sampling.seed = seed;
    return request;
  };
  const auto run = [&](std::uint64_t seed, const std::vector<Request>& others, std::size_t slot) {
    std::deque<AnswerSink> sinks(others.size() + 1);
    for (std::size_t i = 0, other = 0; i < sinks.size(); ++i) {
      Request request = i == slot ? seeded(seed) : others[other++];
      EXPECT_TRUE(engine->submit(std::move(request), &sinks[i]).has_value());
    }
    engine->run_until_idle();
    return sinks[slot].ids;
  };
  const std::vector<TokenId> alone = run(42, {}, 0);
  ASSERT_EQ(alone.size(), 48U);
  std::vector<Request> unseeded, copies;
  for (std::uint64_t i = 1; i <= 7; ++i) {
    Request other = request_of(prompt_of(30, i), 64);
    other.sampling.temperature = 1.0;
    other.sampling.seed = 1000 + i;
    unseeded.push_back(other);
    copies.push_back(seeded(i));
  }
  EXPECT_EQ(run(42, {}, 0), alone);
  EXPECT_EQ(run(42, unseeded, 3), alone);
  EXPECT_EQ(run(42, copies, 0), alone);
  EXPECT_EQ(run(42, copies, 7), alone);
  EXPECT_NE(run(43, {}, 0), alone);
  EXPECT_EQ(run(0, {}, 0), run(0, copies, 2));
  EXPECT_NE(run(0, {}, 0), alone);
}

// C15, the engine's part: what can never fit is refused at once with both numbers; the rest
// answers.
TEST(FieldCases, C15WhatNeverFitsIsRefused) {
  FakeRunner runner({.vocab = 128256, .context = 2048, .block = 32, .blocks = 16});
  auto engine = engine_for(runner);
  AnswerSink sink;
  const auto never = engine->submit(request_of(prompt_of(600, 1), 16), &sink);
  ASSERT_FALSE(never.has_value());
  EXPECT_EQ(never.error().code, ErrorCode::kOutOfCapacity);
  EXPECT_NE(never.error().message.find("600"), std::string::npos);
  EXPECT_NE(never.error().message.find("512"), std::string::npos);
  const auto outgrows = engine->submit(request_of(prompt_of(400, 1), 200), &sink);
  ASSERT_FALSE(outgrows.has_value());
  EXPECT_EQ(outgrows.error().message,
            "a prompt of 400 and 200 new tokens need 19 pages of 32 positions: the whole pool has "
            "16 pages, 512 positions");
  const auto context = engine->submit(request_of(prompt_of(400, 1), 2000), &sink);
  ASSERT_FALSE(context.has_value());
  EXPECT_EQ(context.error().message,
            "a prompt of 400 and 2000 new tokens are more than the context of 2048");
  AnswerSink small;
  ASSERT_TRUE(engine->submit(request_of({9906}, 4), &small).has_value());
  engine->run_until_idle();
  EXPECT_EQ(small.completion_tokens, 4);
  EXPECT_FALSE(sink.finished);
  EXPECT_EQ(engine->stats().refused, 3);
}

// C17, the engine's side: page borders of every kind, in pages that hold old data.
TEST(FieldCases, C17PageBorders) {
  const std::vector<std::int64_t> lengths = {1,   2,   15,   16,   17,   31,   32,   33,  63,
                                             64,  65,  127,  128,  129,  255,  256,  257, 511,
                                             512, 513, 1023, 1024, 1025, 2047, 2048, 2049};
  for (const std::int64_t block : {16, 32, 64}) {
    FakeRunner runner({.vocab = 64, .context = 4096, .block = block, .blocks = 4096 / block * 3});
    auto engine = engine_for(runner, {.max_users = 8, .shuffle_pages = 3});
    AnswerSink filler;
    ASSERT_TRUE(engine->submit(request_of(prompt_of(4000, 99), 90), &filler).has_value());
    engine->run_until_idle();
    std::deque<AnswerSink> sinks;
    for (const std::int64_t n : lengths) {
      sinks.emplace_back();
      const auto u = static_cast<std::uint64_t>(n);
      ASSERT_TRUE(engine->submit(request_of(prompt_of(n, u), 20), &sinks.back()).has_value());
    }
    engine->run_until_idle();
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const auto prompt = prompt_of(lengths[i], static_cast<std::uint64_t>(lengths[i]));
      EXPECT_EQ(tokens_of(sinks[i]), expected_answer(prompt, 20, {}, {}, 64).sampled)
          << "length " << lengths[i] << " block " << block;
    }
    EXPECT_EQ(runner.broken_rule, "");
  }
}

}  // namespace
}  // namespace tg
