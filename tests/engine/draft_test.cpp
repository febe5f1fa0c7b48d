// Proposals of a draft model: what it would say greedily, from pages of its own that follow the
// text through wrong guesses, preemptions and prompts longer than a step; and the plain answer
// whatever it says.
#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "engine/draft_proposer.h"
#include "engine/engine.h"
#include "engine/engine_calls.h"
#include "engine/fake_runner.h"
#include "engine/proposers.h"

namespace tg {
namespace {

using test::engine_for;
using test::expect_same_answer;
using test::expected_answer;
using test::FakeRunner;
using test::logits_after;
using test::prompt_of;
using test::request_of;

// The greedy continuation of a text by a FakeRunner.
std::vector<TokenId> continuation(std::span<const TokenId> tokens, std::size_t count,
                                  std::uint64_t habit) {
  std::vector<TokenId> text(tokens.begin(), tokens.end());
  SamplerScratch scratch;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<float> logits = logits_after(text, 64, habit);
    text.push_back(sample(logits, {}, {}, scratch).token);
  }
  return {text.end() - static_cast<std::ptrdiff_t>(count), text.end()};
}

// Compares what the draft says with what it should.
class CheckedDraft : public DraftProposer {
 public:
  CheckedDraft(FakeRunner& runner, std::uint64_t habit) : DraftProposer(runner), habit_(habit) {}
  Status propose(std::span<ProposalAsk> asks) override {
    TG_RETURN_IF_ERROR(DraftProposer::propose(asks));
    for (const ProposalAsk& ask : asks) {
      EXPECT_LE(std::ssize(*ask.proposals), ask.most);
      EXPECT_EQ(*ask.proposals, continuation(ask.tokens, ask.proposals->size(), habit_));
      (ask.proposals->empty() ? silent : spoken) += 1;
    }
    return {};
  }
  std::int64_t spoken = 0;
  std::int64_t silent = 0;

 private:
  std::uint64_t habit_;
};

TEST(DraftProposer, CatchesUpAndGoesOn) {
  FakeRunner runner({.max_rows = 32});
  CheckedDraft draft(runner, 0);
  std::vector<TokenId> text = prompt_of(100, 1);
  std::vector<TokenId> said;
  ProposalAsk ask = {1, text, 5, &said};
  for (int step = 0; step < 3; ++step) {  // 32 rows of the prompt in each
    ASSERT_TRUE(draft.propose({&ask, 1}));
    EXPECT_TRUE(said.empty());
  }
  EXPECT_EQ(runner.steps, 3);
  ASSERT_TRUE(draft.propose({&ask, 1}));
  ASSERT_EQ(said.size(), 5U);
  EXPECT_EQ(runner.steps, 8);  // the prompt's end, then a step for each further token
  // Two of five were right; then all five; then none.
  for (const std::size_t right : {2U, 5U, 0U}) {
    text.insert(text.end(), said.begin(), said.begin() + static_cast<std::ptrdiff_t>(right));
    text.push_back(right < 5 ? (said[right] + 1) % 64 : 9);
    said.clear();
    ask.tokens = text;
    ASSERT_TRUE(draft.propose({&ask, 1}));
    EXPECT_EQ(said.size(), 5U);
  }
  EXPECT_EQ(runner.broken_rule, "");
  draft.forget(1);
  draft.forget(1);
  EXPECT_EQ(draft.free_pages(), draft.total_pages());
}

TEST(DraftProposer, ALongPromptDoesNotHoldUpTheOthers) {
  FakeRunner runner({.max_rows = 32});
  CheckedDraft draft(runner, 0);
  const std::vector<TokenId> longer = prompt_of(90, 1), shorter = prompt_of(20, 2);
  std::vector<TokenId> of_longer, of_shorter;
  std::vector<ProposalAsk> asks = {{1, longer, 4, &of_longer}, {2, shorter, 4, &of_shorter}};
  ASSERT_TRUE(draft.propose(asks));
  EXPECT_TRUE(of_longer.empty());
  EXPECT_EQ(of_shorter.size(), 4U);
}

TEST(DraftProposer, ItsContextAndPagesMayEndBeforeTheText) {
  FakeRunner runner({.context = 40, .block = 8, .blocks = 6});
  CheckedDraft draft(runner, 0);
  const std::vector<TokenId> text = prompt_of(60, 1);
  const auto count = [&](std::size_t tokens) {
    return draft.count(1, std::span(text).first(tokens), 4);
  };
  EXPECT_EQ(count(30), 4);
  EXPECT_EQ(count(37), 4);
  EXPECT_EQ(count(38), 3);
  EXPECT_EQ(count(40), 1);
  EXPECT_EQ(count(41), 0);
  std::vector<TokenId> first, second;
  std::vector<ProposalAsk> asks = {{1, std::span(text).first(38), 3, &first},
                                   {2, std::span(text).first(8), 3, &second}};
  ASSERT_TRUE(draft.propose(asks));  // 48 places: 1 has five pages and 2 one
  EXPECT_EQ(first.size(), 3U);
  EXPECT_EQ(second.size(), 1U);
  EXPECT_EQ(runner.broken_rule, "");
}

TEST(DraftProposer, TheEnginesAnswersArePlain) {
  struct Setting {
    std::int64_t users, chunk, block, blocks, draft_block, draft_blocks, draft_rows;
    std::uint64_t draft_habit;
    double temperature;
  };
  const std::vector<Setting> settings = {
      {1, 0, 16, 64, 16, 64, 256, 100, 0.0},  {8, 16, 16, 200, 16, 200, 256, 100, 0.0},
      {8, 0, 16, 13, 16, 13, 64, 85, 0.8},    {16, 7, 4, 60, 1, 150, 40, 100, 0.8},
      {8, 512, 32, 80, 8, 20, 512, 100, 0.0},  // the draft has fewer pages
  };
  for (const Setting& setting : settings) {
    std::vector<Request> requests;
    for (std::uint64_t i = 0; i < 24; ++i) {
      Request request = request_of(prompt_of(1 + static_cast<std::int64_t>(i * 17 % 110), i),
                                   2 + static_cast<std::int64_t>(i * 11 % 60));
      request.sampling.temperature = setting.temperature;
      request.sampling.seed = i;
      request.sampling.top_logprobs = 1;
      request.stop_ids = {static_cast<TokenId>(i)};
      requests.push_back(std::move(request));
    }
    const auto run = [&](Proposer* proposer, EngineStats& stats) {
      FakeRunner runner({.block = setting.block, .blocks = setting.blocks, .habit = 85});
      auto engine = engine_for(runner, {.max_users = setting.users,
                                        .prefill_chunk = setting.chunk,
                                        .speculation = {proposer, 4, 64}});
      std::deque<AnswerSink> sinks(requests.size());
      for (std::size_t i = 0; i < requests.size(); ++i) {
        EXPECT_TRUE(engine->submit(requests[i], &sinks[i]));
      }
      engine->run_until_idle();
      EXPECT_EQ(runner.broken_rule, "");
      stats = engine->stats();
      EXPECT_EQ(stats.proposer_error.text(), EngineStats{}.proposer_error.text());
      return sinks;
    };
    EngineStats plain_stats, stats;
    const std::deque<AnswerSink> plain = run(nullptr, plain_stats);
    FakeRunner draft_runner({.block = setting.draft_block,
                             .blocks = setting.draft_blocks,
                             .max_rows = setting.draft_rows,
                             .habit = setting.draft_habit});
    CheckedDraft draft(draft_runner, setting.draft_habit);
    const std::deque<AnswerSink> drafted = run(&draft, stats);
    for (std::size_t i = 0; i < plain.size(); ++i) {
      SCOPED_TRACE(fmt::format("request {}", i));
      expect_same_answer(drafted[i], plain[i]);
    }
    EXPECT_EQ(draft_runner.broken_rule, "");
    EXPECT_EQ(draft.free_pages(), draft.total_pages());
    EXPECT_GT(draft.spoken, 0);
    EXPECT_GT(stats.speculation.accepted, stats.speculation.proposed / 2);
    EXPECT_LT(stats.steps, plain_stats.steps);
  }
}

TEST(DraftProposer, AFailingDraftModelLeavesPlainDecoding) {
  FakeRunner runner({.habit = 85}), draft_runner({.habit = 85});
  draft_runner.fail_at_step = 9;
  DraftProposer draft(draft_runner);
  auto engine = engine_for(runner, {.speculation = {&draft, 4, 16}});
  AnswerSink sink;
  ASSERT_TRUE(engine->submit(request_of({1, 2, 3}, 60), &sink));
  engine->run_until_idle();
  EXPECT_EQ(sink.completion_tokens, 60);
  EXPECT_EQ(draft_runner.steps, 9);
  EXPECT_NE(engine->stats().proposer_error.text().find("step 9"), std::string::npos);
}

}  // namespace
}  // namespace tg
