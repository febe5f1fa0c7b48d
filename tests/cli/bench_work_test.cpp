// The bench command's parts: words to measurements, prompts taken for cached, and the steps that
// are timed.
#include "cli/bench_work.h"

#include <gtest/gtest.h>

#include <array>

#include "cli/cached_prompts.h"
#include "engine/fake_runner.h"

namespace tg {
namespace {

using test::FakeRunner;

TEST(BenchWork, WordsAreRead) {
  const auto decode = parse_bench_work("decode:8:16384:4");
  ASSERT_TRUE(decode);
  EXPECT_EQ(decode->kind, BenchWork::Kind::kDecode);
  EXPECT_EQ(decode->users, 8);
  EXPECT_EQ(decode->tokens, 16384);
  EXPECT_EQ(decode->steps, 4);
  // Warm-up and timed steps each take a position; 64 of them are a page.
  EXPECT_EQ(positions_of(*decode), 16384 + 3 + 4);
  EXPECT_EQ(pages_of(*decode, 64), 8 * 257);
  const auto prefill = parse_bench_work("prefill:128");
  ASSERT_TRUE(prefill);
  EXPECT_EQ(prefill->kind, BenchWork::Kind::kPrefill);
  EXPECT_EQ(prefill->users, 1);
  EXPECT_EQ(positions_of(*prefill), 129);
  const auto read = parse_bench_work("read:0.25");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->kind, BenchWork::Kind::kRead);
  EXPECT_EQ(read->seconds, 0.25);
  EXPECT_EQ(positions_of(*read), 0);
  for (const char* wrong : {"", "decode", "decode:8:128", "decode:0:128:4", "decode:257:128:4",
                            "decode:8:128:4:1", "decode:8:12x:4", "prefill:", "prefill:0",
                            "prefill:-1", "read:0", "read:nan", "Decode:1:1:1"}) {
    EXPECT_FALSE(parse_bench_work(wrong)) << wrong;
  }
}

TEST(BenchWork, DecodeRunsOneRowOfEachUserAndPromptsCostNothing) {
  FakeRunner runner({.blocks = 256, .max_rows = 8});
  const auto times = run_bench_work(runner, *parse_bench_work("decode:8:400:5"));
  ASSERT_TRUE(times) << times.error().text();
  EXPECT_EQ(runner.broken_rule, "");
  EXPECT_EQ(runner.most_rows, 8);  // although the prompts have 3200
  EXPECT_EQ(runner.steps, kBenchWarmUp + 5);
  EXPECT_EQ(times->tokens, 40);
  EXPECT_EQ(times->step_s.size(), 5U);
  EXPECT_EQ(times->runner_s.size(), 5U);
  EXPECT_GT(times->total_s(), 0.0);
}

TEST(BenchWork, PrefillRunsEveryRow) {
  FakeRunner runner({.max_rows = 100});
  const auto times = run_bench_work(runner, *parse_bench_work("prefill:250"));
  ASSERT_TRUE(times) << times.error().text();
  EXPECT_EQ(runner.most_rows, 100);
  EXPECT_EQ(runner.steps, 3);
  EXPECT_EQ(times->tokens, 250);
  EXPECT_EQ(times->step_s.size(), 3U);
}

TEST(BenchWork, WhatDoesNotFitOrFailsIsSaid) {
  FakeRunner runner({});  // 64 pages of 16 positions
  EXPECT_FALSE(run_bench_work(runner, *parse_bench_work("decode:1:2000:5")));
  runner.fail_at_step = 2;
  const auto failed = run_bench_work(runner, *parse_bench_work("decode:2:16:5"));
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().text().find("the fake fails"), std::string::npos);
}

TEST(CachedPrompts, RunsTheLastTokenAtItsPlace) {
  FakeRunner runner({});
  CachedPrompts cached(runner, 1000);
  EXPECT_EQ(cached.kv_capacity().max_rows, 1000);
  const std::array<TokenId, 20> prompt = {1, 2, 3};
  const std::array<PageId, 2> pages = {0, 1};
  StepSequence chunk;
  chunk.tokens = prompt;
  chunk.pages = pages;
  auto result = cached.step({{&chunk, 1}});  // nothing is asked: nothing runs
  ASSERT_TRUE(result);
  EXPECT_EQ(runner.steps, 0);
  SamplingParams greedy;
  RowAsk ask;
  ask.row = 19;
  ask.params = &greedy;
  chunk.asks = {&ask, 1};
  result = cached.step({{&chunk, 1}});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->answers.size(), 1U);
  EXPECT_EQ(runner.most_rows, 1);
  ask.row = 3;
  EXPECT_FALSE(cached.step({{&chunk, 1}}));
}

}  // namespace
}  // namespace tg
