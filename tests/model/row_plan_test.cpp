// Rows of a step over the columns of the mesh, and steps as messages.
#include "model/row_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "kernels/kernel_table.h"
#include "model/step_message.h"

namespace tg {
namespace {

struct Batch {
  std::vector<std::vector<TokenId>> tokens;
  std::vector<StepSequence> sequences;

  void add(std::int64_t count, std::int64_t first_position, std::int32_t domain) {
    std::vector<TokenId> ids(static_cast<std::size_t>(count));
    std::iota(ids.begin(), ids.end(), static_cast<TokenId>(1000 * tokens.size()));
    tokens.push_back(std::move(ids));
    StepSequence& added = sequences.emplace_back();
    added.first_position = first_position;
    added.kv_domain = domain;
    for (std::size_t i = 0; i < tokens.size(); ++i) sequences[i].tokens = tokens[i];
  }
};

// Attention work (pairs of query and key) of each column.
std::vector<std::int64_t> work(const RowPlan& plan, std::int64_t cols) {
  std::vector<std::int64_t> sums;
  for (std::int64_t c = 0; c < cols; ++c) {
    std::int64_t sum = 0;
    for (std::int64_t i = plan.column_cuts()[static_cast<std::size_t>(c)];
         i < plan.column_cuts()[static_cast<std::size_t>(c + 1)]; ++i) {
      sum += plan.row(i).position + 1;
    }
    sums.push_back(sum);
  }
  return sums;
}

// Every span of a row is in one task, and the tasks of a few long contexts are enough for
// everybody.
TEST(RowPlan, ALongContextIsDividedForThreads) {
  constexpr std::int64_t kHeads = 3;
  constexpr std::int64_t kGroup = 2;
  for (const std::int64_t room : {std::int64_t{0}, 33 * kGroup * kHeads, std::int64_t{100000}}) {
    RowPlan plan(1, 1, {0, 1, 0, 1}, kHeads, {8, kGroup, room});
    Batch batch;
    batch.add(1, 16384, 0);
    batch.add(1, 20, 0);
    plan.make(batch.sequences);
    const std::int64_t spans = attention_spans(16384);
    std::vector<std::int64_t> seen(static_cast<std::size_t>(kHeads * spans), 0);
    std::vector<std::int64_t> parts(plan.parts_of_divided().size(), 0);
    std::int64_t whole = 0;
    for (const AttentionTask& task : plan.attention_tasks()) {
      if (task.divided < 0) {
        ++whole;
        continue;
      }
      ++parts[static_cast<std::size_t>(task.divided)];
      EXPECT_EQ(task.sequence, 0);
      EXPECT_LE(task.first_state + kGroup * spans, room);
      EXPECT_LT(task.span_begin, task.span_end);
      for (std::int64_t span = task.span_begin; span < task.span_end; ++span) {
        ++seen[static_cast<std::size_t>(task.kv_head * spans + span)];
      }
    }
    EXPECT_TRUE(std::ranges::equal(parts, plan.parts_of_divided()));
    const std::int64_t divided = room == 0 ? 0 : kHeads;
    EXPECT_EQ(whole, 2 * kHeads - divided);
    EXPECT_EQ(static_cast<std::int64_t>(plan.parts_of_divided().size()), divided);
    EXPECT_LE(plan.parts_of_divided().size(), static_cast<std::size_t>(RowPlan::kDivisions * 8));
    if (divided == 0) continue;
    EXPECT_EQ(seen, std::vector<std::int64_t>(seen.size(), 1));
    EXPECT_GE(plan.attention_tasks().size(), 24U);
  }
}

TEST(RowPlan, ALongPromptIsSpreadEvenlyAndNothingIsDoneTwice) {
  RowPlan plan(4, 4, {0, 8, 0, 4}, 8);
  Batch batch;
  batch.add(1, 70, 2);
  batch.add(1024, 0, 1);
  batch.add(3, 5, 0);
  plan.make(batch.sequences);
  ASSERT_EQ(plan.size(), 1028);
  std::vector<std::int64_t> times(1028, 0);
  for (std::int64_t i = 0; i < plan.size(); ++i)
    ++times[static_cast<std::size_t>(plan.place_of(i))];
  EXPECT_EQ(times, std::vector<std::int64_t>(1028, 1));
  for (std::int64_t i = 0; i < 1024; ++i) {
    const PlannedRow& row = plan.row(plan.place_of(1 + i));
    EXPECT_EQ(row.sequence, 1);
    EXPECT_EQ(row.token, 1000 + i);
    EXPECT_EQ(row.position, i);
  }
  const auto sums = work(plan, 4);
  const auto [least, most] = std::minmax_element(sums.begin(), sums.end());
  EXPECT_LT(*most - *least, *least / 100);
  // Column 0 has chunks 0 and 7 of 8 beside its own short sequence; each task is one run.
  std::int64_t rows = 0;
  for (const AttentionTask& task : plan.attention_tasks()) {
    rows += task.rows;
    for (std::int64_t r = 1; r < task.rows; ++r) {
      EXPECT_EQ(plan.row(task.first_row + r).position, plan.row(task.first_row).position + r);
      EXPECT_EQ(plan.row(task.first_row + r).sequence, task.sequence);
    }
  }
  EXPECT_EQ(rows, 8 * 1028);
}

TEST(RowPlan, ShortWorkStaysOnItsColumn) {
  RowPlan plan(4, 4, {0, 8, 0, 4}, 8);
  Batch batch;
  for (std::int32_t u = 0; u < 32; ++u) batch.add(1, 10 * u, u / 8);
  batch.add(255, 0, 3);
  plan.make(batch.sequences);
  EXPECT_EQ(std::vector<std::int64_t>(plan.column_cuts().begin(), plan.column_cuts().end()),
            (std::vector<std::int64_t>{0, 8, 16, 24, 287}));
}

// A rank with two of four columns works on its own columns' rows; others' prompts stay there.
TEST(RowPlan, RanksThatShareARow) {
  RowPlan plan(4, 2, {0, 1, 2, 4}, 1);
  Batch batch;
  batch.add(400, 0, 3);
  batch.add(400, 0, 0);
  plan.make(batch.sequences);
  EXPECT_EQ(std::vector<std::int64_t>(plan.column_cuts().begin(), plan.column_cuts().end()),
            (std::vector<std::int64_t>{0, 200, 400, 600, 800}));
  std::int64_t rows = 0;
  for (const AttentionTask& task : plan.attention_tasks()) {
    EXPECT_EQ(task.sequence, 0);
    rows += task.rows;
  }
  EXPECT_EQ(rows, 400);
}

TEST(StepMessage, ComesBackAsItWas) {
  const std::vector<TokenId> tokens = {5, 6, 7};
  const std::vector<PageId> pages = {9, 8};
  std::vector<RowAsk> asks(2);
  asks[0].row = 1;
  asks[0].kind = asks[1].kind = RowAsk::Kind::kLogits;
  asks[1].row = 2;
  std::vector<StepSequence> sequences(2);
  sequences[0].tokens = tokens;
  sequences[0].first_position = 62;
  sequences[0].pages = pages;
  sequences[0].kv_domain = 3;
  sequences[0].asks = asks;
  sequences[1].tokens = std::span(tokens).first(1);
  sequences[1].pages = pages;
  std::vector<std::byte> message;
  pack_step({sequences}, true, message);
  const auto step = unpack_step(message);
  ASSERT_TRUE(step);
  ASSERT_EQ(step->sequences.size(), 2U);
  const StepSequence& s = step->sequences[0];
  EXPECT_EQ(std::vector<TokenId>(s.tokens.begin(), s.tokens.end()), tokens);
  EXPECT_EQ(std::vector<PageId>(s.pages.begin(), s.pages.end()), pages);
  EXPECT_EQ(s.first_position, 62);
  EXPECT_EQ(s.kv_domain, 3);
  ASSERT_EQ(s.asks.size(), 2U);
  EXPECT_EQ(s.asks[1].row, 2);
  EXPECT_EQ(step->sequences[1].tokens.size(), 1U);
  EXPECT_TRUE(step->sequences[1].asks.empty());
  for (std::size_t size = 0; size < message.size(); ++size) {
    EXPECT_FALSE(unpack_step(std::span(message).first(size))) << size;
  }
  message.push_back(std::byte{0});
  EXPECT_FALSE(unpack_step(message));
}

// Everything that a choice looks at; the text only where penalties look at it.
TEST(StepMessage, AsksComeInFull) {
  const std::vector<TokenId> tokens = {5, 6, 7};
  const std::vector<PageId> pages = {9};
  const std::vector<TokenId> prompt = {1, 2, 3, 4}, output = {8, 9};
  const std::vector<std::uint32_t> mask = {0xf0U, 1U};
  SamplingParams penalised;
  penalised.temperature = 0.7;
  penalised.top_k = 32;
  penalised.top_p = 0.9;
  penalised.min_p = 0.01;
  penalised.seed = ~std::uint64_t{0};
  penalised.repetition_penalty = 1.1;
  penalised.presence_penalty = 0.5;
  penalised.frequency_penalty = -0.5;
  penalised.logit_bias = {{3, -1.5F}, {4, 2.0F}};
  penalised.top_logprobs = 7;
  const SamplingParams plain;
  std::vector<RowAsk> asks(3);
  asks[0].params = &plain;
  asks[0].context = {prompt, output, mask, 17};
  asks[1].kind = RowAsk::Kind::kScore;
  asks[1].row = 1;
  asks[1].next = 12;
  asks[1].top_n = 3;
  asks[2].row = 2;
  asks[2].params = &penalised;
  asks[2].context = {prompt, output, {}, 18};
  StepSequence sequence;
  sequence.tokens = tokens;
  sequence.pages = pages;
  sequence.asks = asks;
  std::vector<std::byte> message;
  pack_step({{&sequence, 1}}, true, message);
  auto unpacked = unpack_step(message);
  ASSERT_TRUE(unpacked);
  const UnpackedStep step = std::move(*unpacked);
  const std::span<const RowAsk> got = step.sequences.at(0).asks;
  ASSERT_EQ(got.size(), 3U);
  const auto list = [](auto span) { return std::vector(span.begin(), span.end()); };

  EXPECT_EQ(got[0].kind, RowAsk::Kind::kSample);
  EXPECT_TRUE(got[0].params->greedy());
  EXPECT_TRUE(got[0].context.prompt.empty());
  EXPECT_TRUE(got[0].context.output.empty());
  EXPECT_EQ(list(got[0].context.allowed), mask);
  EXPECT_EQ(got[0].context.token_index, 17U);

  EXPECT_EQ(got[1].kind, RowAsk::Kind::kScore);
  EXPECT_EQ(got[1].row, 1);
  EXPECT_EQ(got[1].next, 12);
  EXPECT_EQ(got[1].top_n, 3);

  EXPECT_EQ(got[2].row, 2);
  EXPECT_EQ(list(got[2].context.prompt), prompt);
  EXPECT_EQ(list(got[2].context.output), output);
  EXPECT_TRUE(got[2].context.allowed.empty());
  EXPECT_EQ(got[2].context.token_index, 18U);
  const SamplingParams& p = *got[2].params;
  EXPECT_EQ(p.temperature, 0.7);
  EXPECT_EQ(p.top_k, 32);
  EXPECT_EQ(p.top_p, 0.9);
  EXPECT_EQ(p.min_p, 0.01);
  EXPECT_EQ(p.seed, ~std::uint64_t{0});
  EXPECT_EQ(p.repetition_penalty, 1.1);
  EXPECT_EQ(p.presence_penalty, 0.5);
  EXPECT_EQ(p.frequency_penalty, -0.5);
  EXPECT_EQ(p.logit_bias, penalised.logit_bias);
  EXPECT_EQ(p.top_logprobs, 7);

  for (std::size_t size = 0; size < message.size(); ++size) {
    EXPECT_FALSE(unpack_step(std::span(message).first(size))) << size;
  }
  // Any eight bytes may be nonsense: refused or not, nothing is read outside of the message.
  for (std::size_t at = 0; at + 8 <= message.size(); at += 8) {
    std::vector<std::byte> garbled = message;
    std::fill_n(garbled.begin() + static_cast<std::ptrdiff_t>(at), 8, std::byte{0x7f});
    const auto result = unpack_step(garbled);
    EXPECT_TRUE(!result || result->asks.size() == 3U);
  }

  pack_step({{&sequence, 1}}, false, message);
  const auto bare = unpack_step(message);
  ASSERT_TRUE(bare);
  for (const RowAsk& ask : bare->asks) EXPECT_EQ(ask.kind, RowAsk::Kind::kLogits);
  EXPECT_TRUE(bare->texts.empty());
  EXPECT_TRUE(bare->masks.empty());
}

}  // namespace
}  // namespace tg
