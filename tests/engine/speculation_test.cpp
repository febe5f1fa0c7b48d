// Speculative decoding changes the number of steps and nothing else: whatever is proposed, each
// request gets the tokens, log-probabilities and ending that plain decoding gives it.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <random>
#include <string>

#include "engine/engine.h"
#include "engine/engine_calls.h"
#include "engine/fake_runner.h"
#include "engine/ngram_proposer.h"
#include "engine/proposers.h"

namespace tg {
namespace {

using test::engine_for;
using test::expect_same_answer;
using test::expected_answer;
using test::FakeRunner;
using test::OracleProposer;
using test::prompt_of;
using test::request_of;
using test::tokens_of;

struct Setting {
  const char* name;
  std::int64_t users, chunk, rows, block, blocks;
  std::int32_t domains;
  std::int64_t tokens, proposal_rows;
  bool crowded;  // some must give their pages back
};

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = {
      {"alone", 1, 0, 256, 16, 64, 1, 8, 16, false},
      {"wide", 1, 0, 256, 16, 64, 1, 40, 64, false},
      {"batch", 32, 0, 256, 16, 640, 1, 8, 64, false},
      {"chunks", 32, 16, 64, 16, 640, 1, 4, 48, false},
      {"few_pages", 32, 512, 256, 32, 7, 1, 8, 64, true},
      {"page_per_token", 5, 3, 24, 1, 200, 1, 8, 24, true},
      {"domains", 32, 64, 256, 4, 50, 4, 8, 64, true},
      {"rows_of_decoding_only", 7, 0, 7, 16, 13, 1, 8, 16, true},
      {"tiny_pages", 256, 1, 256, 2, 100, 2, 3, 256, true},
  };
  return all;
}

// Greedy and sampled, with penalties, stop ids, a least number of tokens, log-probabilities of
// answer and prompt, a bias that leaves nothing, a text of the context's very end.
std::vector<Request> mixed_requests() {
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 40; ++i) {
    Request request = request_of(prompt_of(1 + static_cast<std::int64_t>(i * 7 % 130), i),
                                 1 + static_cast<std::int64_t>(i * 11 % 60));
    SamplingParams& p = request.sampling;
    if (i % 3 == 1) {
      p.temperature = 0.8;
      p.top_p = 0.95;
      p.seed = i;
    }
    if (i % 4 == 2) {
      p.repetition_penalty = 1.3;
      p.frequency_penalty = 0.5;
      p.presence_penalty = -0.3;
    }
    if (i % 5 == 3) p.top_logprobs = 3;
    if (i % 7 == 4) {
      request.score_prompt = true;
      request.prompt_top_n = 2;
    }
    request.stop_ids = {static_cast<TokenId>(i % 64), 17};
    if (i % 6 == 5) request.min_new_tokens = *request.max_new_tokens / 2;
    if (i % 8 == 1) request.ignore_eos = true;
    requests.push_back(std::move(request));
  }
  return requests;
}

class Speculation : public testing::TestWithParam<Setting> {
 protected:
  static FakeRunner::Options runner_options() {
    const Setting& s = GetParam();
    return {.vocab = 64,
            .context = 4096,
            .block = s.block,
            .blocks = s.blocks,
            .max_rows = s.rows,
            .domains = s.domains,
            .habit = 85};
  }

  // All requests twice through one engine (the second time pages hold what the first left).
  std::deque<AnswerSink> run(FakeRunner& runner, Proposer* proposer, EngineStats& stats) {
    const Setting& setting = GetParam();
    auto engine =
        engine_for(runner, {.max_users = setting.users,
                            .prefill_chunk = setting.chunk,
                            .shuffle_pages = 4,
                            .speculation = {proposer, setting.tokens, setting.proposal_rows}});
    std::deque<AnswerSink> sinks;
    for (int round = 0; round < 2; ++round) {
      for (const Request& request : mixed_requests()) {
        sinks.emplace_back();
        EXPECT_TRUE(engine->submit(request, &sinks.back()).has_value());
      }
      while (engine->step()) {
        const StepReport& step = engine->last_step();
        if (step.proposals > 0) {
          EXPECT_LE(step.decode_rows + step.prefill_rows + step.proposals,
                    std::min(setting.proposal_rows, setting.rows));
        }
      }
      EXPECT_EQ(engine->free_pages(), engine->total_pages());
    }
    EXPECT_EQ(runner.broken_rule, "");
    stats = engine->stats();
    EXPECT_EQ(stats.rows, stats.prefill_rows + stats.decode_rows + stats.speculation.proposed);
    SpeculationCounts sum;
    for (const AnswerSink& sink : sinks) sum += sink.speculation;
    EXPECT_EQ(sum.proposed, stats.speculation.proposed);
    EXPECT_EQ(sum.accepted, stats.speculation.accepted);
    EXPECT_EQ(sum.steps, stats.speculation.steps);
    return sinks;
  }

  static void expect_same(const std::deque<AnswerSink>& a, const std::deque<AnswerSink>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      SCOPED_TRACE(fmt::format("request {}", i));
      expect_same_answer(a[i], b[i]);
    }
  }
};

TEST_P(Speculation, AnyGuessGivesThePlainAnswer) {
  const Setting& setting = GetParam();
  EngineStats plain_stats;
  FakeRunner plain_runner(runner_options());
  const std::deque<AnswerSink> plain = run(plain_runner, nullptr, plain_stats);
  EXPECT_EQ(plain_stats.speculation.proposed, 0);
  EXPECT_EQ(plain_stats.preemptions > 0, setting.crowded);
  for (const double right : {0.0, 0.5, 0.9, 1.0}) {
    SCOPED_TRACE(fmt::format("{} of the guesses are right", right));
    OracleProposer oracle(right, 64);
    oracle.says_no_ids = true;
    for (std::size_t i = 0; i < plain.size(); ++i) {
      oracle.will_say(i + 1, static_cast<std::size_t>(plain[i].prompt_tokens), tokens_of(plain[i]));
    }
    EngineStats stats;
    FakeRunner runner(runner_options());
    expect_same(run(runner, &oracle, stats), plain);
    EXPECT_EQ(oracle.remembered(), 0U);  // every user was forgotten at his end
    if (setting.rows > setting.users) {
      EXPECT_GT(stats.speculation.proposed, 0);
      EXPECT_EQ(stats.speculation.accepted > 0, right > 0.0);
    }
    if (right == 1.0 && !setting.crowded) {
      EXPECT_LT(stats.steps, plain_stats.steps);
    }
  }
}

TEST_P(Speculation, NgramGivesThePlainAnswer) {
  EngineStats plain_stats, stats;
  FakeRunner plain_runner(runner_options()), runner(runner_options());
  const std::deque<AnswerSink> plain = run(plain_runner, nullptr, plain_stats);
  NgramProposer ngram;
  expect_same(run(runner, &ngram, stats), plain);
  if (GetParam().rows > GetParam().users) {
    EXPECT_GT(stats.speculation.accepted, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, Speculation, testing::ValuesIn(settings()),
                         [](const auto& of) { return std::string(of.param.name); });

// Ends an answer, or cancels it, in the middle of the tokens of one step.
class EndingSink : public AnswerSink {
 public:
  bool on_token(const TokenEvent& event) override {
    AnswerSink::on_token(event);
    if (event.index == cancel_at) {
      EXPECT_TRUE(engine->cancel(event.id));
    }
    return event.index != end_at;
  }
  Engine* engine = nullptr;
  std::int64_t cancel_at = -1;
  std::int64_t end_at = -1;
};

TEST(SpeculativeEngine, ASinkEndsOrCancelsInTheMiddleOfAStep) {
  const std::vector<TokenId> ids = prompt_of(20, 3);
  FakeRunner plain_runner({.habit = 100});
  auto plain_engine = engine_for(plain_runner);
  AnswerSink plain;
  ASSERT_TRUE(plain_engine->submit(request_of(ids, 60), &plain).has_value());
  plain_engine->run_until_idle();
  for (std::int64_t at = 0; at < 59; ++at) {
    for (const bool cancels : {false, true}) {
      OracleProposer oracle(1.0, 64);
      FakeRunner runner({.habit = 100});
      auto engine = engine_for(runner, {.speculation = {&oracle, 8, 16}});
      EndingSink sink;
      sink.engine = engine.get();
      (cancels ? sink.cancel_at : sink.end_at) = at;
      const auto id = engine->submit(request_of(ids, 60), &sink);
      ASSERT_TRUE(id.has_value());
      oracle.will_say(*id, 20, tokens_of(plain));
      engine->run_until_idle();
      EXPECT_EQ(sink.reason, cancels ? FinishReason::kCancelled : FinishReason::kStop);
      EXPECT_EQ(sink.completion_tokens, at + 1);
      ASSERT_EQ(static_cast<std::int64_t>(sink.ids.size()), at + 1);
      EXPECT_TRUE(std::equal(sink.ids.begin(), sink.ids.end(), plain.ids.begin()));
      EXPECT_EQ(engine->free_pages(), engine->total_pages());
    }
  }
}

TEST(SpeculativeEngine, RightGuessesSaveSteps) {
  FakeRunner runner({.blocks = 400, .habit = 100});
  NgramProposer ngram;
  auto engine = engine_for(runner, {.speculation = {&ngram, 15, 16}});
  AnswerSink sink;
  ASSERT_TRUE(engine->submit(request_of({1, 2, 3}, 1000), &sink).has_value());
  engine->run_until_idle();
  EXPECT_EQ(sink.completion_tokens, 1000);
  EXPECT_LT(engine->stats().steps, 110);  // 1000 tokens, up to 16 a step
  EXPECT_EQ(engine->stats().decode_rows, engine->stats().steps - 1);
}

TEST(SpeculativeEngine, NothingIsGuessedThatCouldNotCount) {
  for (std::int64_t max_new = 0; max_new <= 6; ++max_new) {
    FakeRunner runner({.habit = 100});
    OracleProposer wrong(0.0, 64);
    auto engine = engine_for(runner, {.speculation = {&wrong, 8, 16}});
    AnswerSink sink;
    wrong.will_say(1, 3, expected_answer({1, 2, 3}, max_new, {}, {}, 64, 100).sampled);
    ASSERT_TRUE(engine->submit(request_of({1, 2, 3}, max_new), &sink).has_value());
    engine->run_until_idle();
    EXPECT_EQ(sink.completion_tokens, max_new);
    // The first token comes from the prompt, and the last is sampled by the row before it. Two
    // guesses, two more, and after a step of rest again two, as far as there is room.
    const std::vector<std::int64_t> guesses = {0, 0, 0, 1, 3, 4, 5};
    EXPECT_EQ(sink.speculation.proposed, guesses[static_cast<std::size_t>(max_new)]) << max_new;
  }
}

TEST(SpeculativeEngine, WrongGuessesCostTwoRowsInSixteenSteps) {
  FakeRunner runner({.blocks = 400});
  OracleProposer wrong(0.0, 64);
  wrong.will_say(1, 3, expected_answer({1, 2, 3}, 1000, {}, {}, 64).sampled);
  auto engine = engine_for(runner, {.speculation = {&wrong, 8, 16}});
  AnswerSink sink;
  ASSERT_TRUE(engine->submit(request_of({1, 2, 3}, 1000), &sink).has_value());
  engine->run_until_idle();
  EXPECT_EQ(engine->stats().steps, 1000);
  EXPECT_EQ(sink.speculation.accepted, 0);
  EXPECT_LE(sink.speculation.proposed, 2 * (1000 / 16 + 5));
  EXPECT_GE(sink.speculation.proposed, 100);
}

TEST(SpeculativeEngine, AProposerThatFailsIsLeftAlone) {
  FakeRunner runner({.habit = 100});
  OracleProposer oracle(1.0, 64);
  oracle.fail_at = 3;
  auto engine = engine_for(runner, {.speculation = {&oracle, 8, 16}});
  AnswerSink sink, plain;
  const auto id = engine->submit(request_of({1, 2, 3}, 100), &sink);
  ASSERT_TRUE(id.has_value());
  FakeRunner plain_runner({.habit = 100});
  auto plain_engine = engine_for(plain_runner);
  ASSERT_TRUE(plain_engine->submit(request_of({1, 2, 3}, 100), &plain).has_value());
  plain_engine->run_until_idle();
  oracle.will_say(*id, 3, tokens_of(plain));
  engine->run_until_idle();
  expect_same_answer(sink, plain);
  EXPECT_EQ(oracle.calls, 3);
  EXPECT_EQ(oracle.remembered(), 0U);
  EXPECT_NE(engine->stats().proposer_error.text().find("the oracle is silent"), std::string::npos);
}

TEST(SpeculativeEngine, AProposerMayServeOneEngineAfterAnother) {
  NgramProposer ngram;
  for (const TokenId first : {1, 2, 3}) {  // every time request 1, and another text
    FakeRunner runner({.habit = 100});
    auto engine = engine_for(runner, {.speculation = {&ngram, 8, 16}});
    AnswerSink sink;
    ASSERT_TRUE(engine->submit(request_of({first, 2, 3}, 100), &sink).has_value());
    for (int step = 0; step < 12; ++step) engine->step();
    EXPECT_GT(engine->stats().speculation.accepted, 0);
    const auto expected = expected_answer({first, 2, 3}, 100, {}, {}, 64, 100).sampled;
    const std::vector<TokenId> got = tokens_of(sink);
    EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin()));
  }
  OracleProposer oracle(0.0, 64);
  oracle.will_say(1, 3, {});
  FakeRunner runner({});
  AnswerSink sink;
  {
    auto engine = engine_for(runner, {.speculation = {&oracle, 8, 16}});
    ASSERT_TRUE(engine->submit(request_of({1, 2, 3}, 100), &sink).has_value());
    for (int step = 0; step < 5; ++step) engine->step();
    EXPECT_EQ(oracle.remembered(), 1U);
  }
  EXPECT_EQ(oracle.remembered(), 0U);
}

TEST(SpeculativeEngine, ARunnerThatFailsEndsTheRequestsOfTheStep) {
  FakeRunner runner({.habit = 100});
  runner.fail_at_step = 12;
  NgramProposer ngram;
  auto engine = engine_for(runner, {.speculation = {&ngram, 8, 16}});
  AnswerSink sink, next;
  ASSERT_TRUE(engine->submit(request_of({1, 2, 3}, 500), &sink).has_value());
  engine->run_until_idle();
  EXPECT_EQ(sink.reason, FinishReason::kError);
  EXPECT_EQ(sink.completion_tokens, static_cast<std::int64_t>(sink.sampled.size()));
  EXPECT_GT(sink.completion_tokens, 11);
  EXPECT_EQ(engine->free_pages(), engine->total_pages());
  ASSERT_TRUE(engine->submit(request_of({1, 2, 3}, 50), &next).has_value());
  engine->run_until_idle();
  EXPECT_EQ(next.completion_tokens, 50);
}

// Allows what `output` says, and wants to be asked for each token once.
class EvenMask : public TokenMask {
 public:
  Result<std::span<const std::uint32_t>> allowed_after(std::span<const TokenId> output) override {
    EXPECT_EQ(output.size(), calls++);
    return std::span<const std::uint32_t>(words_);
  }
  std::size_t calls = 0;

 private:
  std::vector<std::uint32_t> words_ = {0x55555555U, 0x55555555U};
};

TEST(SpeculativeEngine, ARequestWithAMaskIsDecodedPlainly) {
  FakeRunner runner({.habit = 100});
  NgramProposer ngram;
  auto engine = engine_for(runner, {.speculation = {&ngram, 8, 16}});
  EvenMask mask;
  AnswerSink sink;
  Request request = request_of({2, 4, 2, 4, 2, 4}, 40);
  request.mask = &mask;
  ASSERT_TRUE(engine->submit(request, &sink).has_value());
  engine->run_until_idle();
  EXPECT_EQ(mask.calls, 40U);
  EXPECT_EQ(sink.speculation.proposed, 0);
  for (const TokenId id : sink.ids) EXPECT_EQ(id % 2, 0);
}

TEST(SpeculativeEngine, AskingForNothingIsRefused) {
  FakeRunner runner({});
  NgramProposer ngram;
  EXPECT_FALSE(Engine::create(runner, {.speculation = {&ngram, 0, 16}}));
  EXPECT_FALSE(Engine::create(runner, {.speculation = {&ngram, 8, 1}}));
}

}  // namespace
}  // namespace tg
