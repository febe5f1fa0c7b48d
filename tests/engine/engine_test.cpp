#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <random>

#include "engine/engine_calls.h"
#include "engine/fake_runner.h"

namespace tg {
namespace {

using test::engine_for;
using test::expected_answer;
using test::FakeRunner;
using test::logits_after;
using test::prompt_of;
using test::request_of;
using test::tokens_of;

TEST(Engine, OneRequestFromPromptToLength) {
  FakeRunner runner({});
  auto engine = engine_for(runner);
  AnswerSink sink;
  const Result<RequestId> id = engine->submit(request_of({1, 2, 3}, 5), &sink);
  ASSERT_TRUE(id.has_value());
  EXPECT_EQ(*id, 1U);
  EXPECT_FALSE(engine->idle());
  EXPECT_EQ(engine->waiting(), 1);
  EXPECT_TRUE(sink.sampled.empty());  // nothing before the first step
  engine->run_until_idle();
  EXPECT_TRUE(sink.finished);
  EXPECT_EQ(sink.reason, FinishReason::kLength);
  EXPECT_EQ(tokens_of(sink), expected_answer({1, 2, 3}, 5, {}, {}, 64).sampled);
  EXPECT_EQ(sink.ids, tokens_of(sink));
  EXPECT_EQ(sink.prompt_tokens, 3);
  EXPECT_EQ(sink.completion_tokens, 5);
  EXPECT_EQ(engine->free_pages(), engine->total_pages());
  EXPECT_TRUE(engine->idle());
  EXPECT_FALSE(engine->step());
  EXPECT_EQ(engine->stats().steps, 5);
  EXPECT_EQ(engine->stats().prefill_rows, 3);
  EXPECT_EQ(engine->stats().decode_rows, 4);
  EXPECT_EQ(engine->stats().sampled_tokens, 5);
  EXPECT_EQ(engine->stats().finished, 1);
}

// The same request in many surroundings: alone, among 31 others, in chunks, with other page sizes,
// with shuffled pages that hold old data, in pools too small for all.
TEST(Engine, TokensDependOnTheRequestAlone) {
  struct Setting {
    std::int64_t users, chunk, rows, block, blocks;
    std::optional<std::uint64_t> shuffle;
    std::int32_t domains;
  };
  const std::vector<Setting> settings = {
      {1, 0, 256, 16, 64, {}, 1}, {32, 0, 256, 16, 640, {}, 1}, {32, 16, 64, 16, 640, 5, 1},
      {32, 7, 33, 64, 160, 6, 1}, {32, 512, 256, 32, 12, 7, 1}, {5, 3, 9, 1, 200, 8, 1},
      {32, 16, 64, 16, 40, 9, 4}, {256, 1, 256, 2, 90, 10, 2},  {7, 0, 7, 16, 11, 11, 1},
  };
  std::int64_t preemptions = 0;
  for (const Setting& setting : settings) {
    FakeRunner runner({.vocab = 64,
                       .context = 4096,
                       .block = setting.block,
                       .blocks = setting.blocks,
                       .max_rows = setting.rows,
                       .domains = setting.domains});
    auto engine = engine_for(runner, {.max_users = setting.users,
                                      .max_rows = 0,
                                      .prefill_chunk = setting.chunk,
                                      .shuffle_pages = setting.shuffle});
    for (int round = 0; round < 2; ++round) {  // the second finds the first one's data in the pages
      std::deque<AnswerSink> sinks;
      std::vector<Request> requests;
      for (std::uint64_t i = 0; i < 40; ++i) {
        Request request = request_of(prompt_of(1 + static_cast<std::int64_t>(i * 7 % 130), i),
                                     1 + static_cast<std::int64_t>(i * 5 % 48));
        if (i % 3 == 1) {
          request.sampling.temperature = 0.8;
          request.sampling.top_p = 0.95;
          request.sampling.seed = i;
        }
        if (i % 4 == 2) {
          request.sampling.repetition_penalty = 1.3;
          request.sampling.frequency_penalty = 0.5;
        }
        request.stop_ids = {static_cast<TokenId>(i % 64), 17};
        requests.push_back(request);
        sinks.emplace_back();
        ASSERT_TRUE(engine->submit(request, &sinks.back()).has_value());
      }
      engine->run_until_idle();
      EXPECT_EQ(runner.broken_rule, "");
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const auto expected = expected_answer(requests[i].prompt_ids, *requests[i].max_new_tokens,
                                              requests[i].sampling, requests[i].stop_ids, 64);
        EXPECT_EQ(tokens_of(sinks[i]), expected.sampled) << "request " << i;
        EXPECT_EQ(sinks[i].reason, expected.stopped ? FinishReason::kStop : FinishReason::kLength);
        preemptions += sinks[i].preemptions;
      }
      EXPECT_EQ(engine->free_pages(), engine->total_pages());
    }
    EXPECT_LE(static_cast<std::int64_t>(runner.most_sequences), setting.users);
  }
  EXPECT_GT(preemptions, 10);
}

TEST(Engine, MinNewTokensForbidsTheStopIdsUntilThen) {
  FakeRunner runner({});
  auto engine = engine_for(runner);
  Request request = request_of({1, 2, 3}, 20);
  request.stop_ids = {9, 500};  // an id outside the vocabulary stops nothing
  request.sampling.logit_bias = {{9, 50.0F}};
  request.min_new_tokens = 6;
  AnswerSink sink;
  ASSERT_TRUE(engine->submit(request, &sink).has_value());
  engine->run_until_idle();
  EXPECT_EQ(sink.completion_tokens, 7);
  EXPECT_EQ(sink.stop_id, 9);
  EXPECT_EQ(sink.ids.size(), 6U);
  EXPECT_EQ(std::count(sink.ids.begin(), sink.ids.end(), 9), 0);
}

TEST(Engine, TheLastTokenThatFits) {
  FakeRunner runner({.context = 100, .block = 16, .blocks = 4});  // 64 places
  auto engine = engine_for(runner);
  EXPECT_EQ(engine->max_tokens_per_request(), 65);
  AnswerSink exact, open;
  ASSERT_TRUE(engine->submit(request_of(prompt_of(60, 1), 5), &exact).has_value());
  EXPECT_FALSE(engine->submit(request_of(prompt_of(60, 1), 6), &exact).has_value());
  Request request = request_of(prompt_of(50, 2), 0);
  request.max_new_tokens.reset();  // to the end
  ASSERT_TRUE(engine->submit(request, &open).has_value());
  engine->run_until_idle();
  EXPECT_EQ(exact.completion_tokens, 5);
  EXPECT_EQ(open.completion_tokens, 15);
  EXPECT_EQ(open.reason, FinishReason::kLength);
  EXPECT_EQ(runner.broken_rule, "");

  FakeRunner short_context({.context = 40, .block = 16, .blocks = 10});
  auto other = engine_for(short_context);
  AnswerSink to_the_context;
  request.prompt_ids = prompt_of(33, 3);
  ASSERT_TRUE(other->submit(request, &to_the_context).has_value());
  other->run_until_idle();
  EXPECT_EQ(to_the_context.completion_tokens, 7);
  EXPECT_EQ(to_the_context.reason, FinishReason::kLength);
  request.prompt_ids = prompt_of(40, 3);
  EXPECT_FALSE(other->submit(request, &to_the_context).has_value());
}

TEST(Engine, RefusalsNameTheNumbers) {
  FakeRunner runner({});
  auto engine = engine_for(runner);
  AnswerSink sink;
  const auto message = [&](const std::function<void(Request&)>& change) {
    Request request = request_of({1, 2, 3}, 4);
    change(request);
    const auto id = engine->submit(request, &sink);
    return id ? std::string("accepted") : id.error().text();
  };
  EXPECT_EQ(message([](Request& r) { r.prompt_ids.clear(); }), "the prompt has no tokens");
  EXPECT_EQ(message([](Request& r) { r.prompt_ids[1] = 64; }),
            "prompt token 1 is 64: the vocabulary's ids are 0..63");
  EXPECT_NE(message([](Request& r) { r.prompt_ids[0] = -1; }), "accepted");
  EXPECT_EQ(message([](Request& r) { r.sampling.temperature = 2.5; }),
            "temperature 2.5 is not in 0..2");
  EXPECT_EQ(message([](Request& r) { r.sampling.logit_bias = {{64, 1.0F}}; }),
            "logit_bias of id 64: the ids are 0..63");
  EXPECT_NE(message([](Request& r) { r.prompt_top_n = 65; }), "accepted");
  EXPECT_NE(message([](Request& r) { r.max_new_tokens = -1; }), "accepted");
  EXPECT_NE(message([](Request& r) { r.min_new_tokens = 5; }), "accepted");
  EXPECT_NE(
      message([](Request& r) { r.max_new_tokens = std::numeric_limits<std::int64_t>::max(); }),
      "accepted");
  EXPECT_EQ(message([](Request&) {}), "accepted");
}

TEST(Engine, CreateRefusesWhatCannotWork) {
  FakeRunner runner({.max_rows = 16});
  EXPECT_FALSE(Engine::create(runner, {.max_users = 0}).has_value());
  EXPECT_FALSE(Engine::create(runner, {.max_users = 257}).has_value());
  EXPECT_FALSE(Engine::create(runner, {.prefill_chunk = -1}).has_value());
  const auto few_rows = Engine::create(runner, {.max_users = 17});
  ASSERT_FALSE(few_rows.has_value());
  EXPECT_EQ(few_rows.error().message, "17 users need 17 rows in a step of decoding, but it has 16");
  FakeRunner no_pages({.blocks = 0});
  EXPECT_FALSE(Engine::create(no_pages, {}).has_value());
}

// Prompt scores equal a direct calculation whatever the chunks, and survive a preemption.
TEST(Engine, PromptScores) {
  for (const std::int64_t chunk : {0, 1, 7, 16}) {
    FakeRunner runner({.blocks = 14, .max_rows = 64});
    auto engine = engine_for(runner, {.max_users = 4, .prefill_chunk = chunk});
    std::deque<AnswerSink> sinks(4);
    for (std::size_t i = 0; i < sinks.size(); ++i) {
      Request request =
          request_of(prompt_of(60 + static_cast<std::int64_t>(i), i), i == 3 ? 0 : 40);
      request.score_prompt = true;
      request.prompt_top_n = 3;
      ASSERT_TRUE(engine->submit(request, &sinks[i]).has_value());
    }
    engine->run_until_idle();
    SamplerScratch scratch;
    for (std::size_t i = 0; i < sinks.size(); ++i) {
      const auto prompt = prompt_of(60 + static_cast<std::int64_t>(i), i);
      ASSERT_EQ(sinks[i].prompt_scores.size(), prompt.size() - 1);
      for (std::size_t p = 0; p + 1 < prompt.size(); ++p) {
        const auto logits = logits_after(std::span(prompt).first(p + 1), 64);
        const SampledToken direct = score(logits, prompt[p + 1], 3, scratch);
        EXPECT_EQ(sinks[i].prompt_scores[p].token, prompt[p + 1]);
        EXPECT_EQ(sinks[i].prompt_scores[p].logprob, direct.logprob);
        ASSERT_EQ(sinks[i].prompt_scores[p].top.size(), 3U);
        EXPECT_EQ(sinks[i].prompt_scores[p].top[0].token, direct.top[0].token);
      }
    }
    EXPECT_EQ(sinks[3].completion_tokens, 0);  // max_new_tokens 0: scores alone
    EXPECT_EQ(sinks[3].reason, FinishReason::kLength);
    EXPECT_EQ(runner.scored_rows, 59 + 60 + 61 + 62);  // none twice, preempted or not
    EXPECT_GT(engine->stats().preemptions, 0);
    EXPECT_GT(engine->stats().recomputed_rows, 0);
  }
}

TEST(Engine, PromptScoresSurviveAPreemptionInTheMiddle) {
  // After 40 steps of one row for each, both have ten of the twenty pages and the younger gives
  // way.
  FakeRunner runner({.block = 4, .blocks = 20, .max_rows = 64});
  auto engine = engine_for(runner, {.max_users = 2, .prefill_chunk = 1});
  AnswerSink older, younger;
  ASSERT_TRUE(engine->submit(request_of(prompt_of(16, 1), 60), &older).has_value());
  Request request = request_of(prompt_of(48, 2), 3);
  request.score_prompt = true;
  ASSERT_TRUE(engine->submit(request, &younger).has_value());
  while (engine->stats().preemptions == 0) ASSERT_TRUE(engine->step());
  EXPECT_GT(runner.scored_rows, 30);
  EXPECT_TRUE(younger.prompt_scores.empty());  // not complete yet
  engine->run_until_idle();
  EXPECT_EQ(runner.scored_rows, 47);
  ASSERT_EQ(younger.prompt_scores.size(), 47U);
  SamplerScratch scratch;
  for (std::size_t p = 0; p < 47; ++p) {
    const auto logits = logits_after(std::span(request.prompt_ids).first(p + 1), 64);
    EXPECT_EQ(younger.prompt_scores[p].logprob,
              score(logits, request.prompt_ids[p + 1], 0, scratch).logprob);
  }
  EXPECT_EQ(tokens_of(younger), expected_answer(request.prompt_ids, 3, {}, {}, 64).sampled);
  EXPECT_EQ(tokens_of(older), expected_answer(prompt_of(16, 1), 60, {}, {}, 64).sampled);
}

TEST(Engine, OneTokenPromptHasAnEmptyListOfScores) {
  struct Sink : AnswerSink {
    int calls = 0;
    void on_prompt_scores(RequestId id, std::vector<SampledToken> scores) override {
      ++calls;
      AnswerSink::on_prompt_scores(id, std::move(scores));
    }
  } sink;
  FakeRunner runner({});
  auto engine = engine_for(runner);
  Request request = request_of({4}, 3);
  request.score_prompt = true;
  ASSERT_TRUE(engine->submit(request, &sink).has_value());
  engine->run_until_idle();
  EXPECT_EQ(sink.calls, 1);
  EXPECT_TRUE(sink.prompt_scores.empty());
}

TEST(Engine, LogprobsComeWithTheTokens) {
  FakeRunner runner({});
  auto engine = engine_for(runner);
  Request request = request_of({1, 2}, 4);
  request.sampling.top_logprobs = 2;
  AnswerSink sink;
  ASSERT_TRUE(engine->submit(request, &sink).has_value());
  engine->run_until_idle();
  for (const SampledToken& s : sink.sampled) {
    EXPECT_LT(s.logprob, 0.0F);
    ASSERT_EQ(s.top.size(), 2U);
    EXPECT_EQ(s.top[0].token, s.token);  // greedy
    EXPECT_EQ(s.top[0].logprob, s.logprob);
    EXPECT_GE(s.top[0].logprob, s.top[1].logprob);
  }
}

TEST(Engine, CancelBeforeDuringAndAfter) {
  FakeRunner runner({.blocks = 8});
  auto engine = engine_for(runner, {.max_users = 1});
  AnswerSink running_one, waiting_one, other;
  const RequestId first = *engine->submit(request_of(prompt_of(20, 1), 50), &running_one);
  const RequestId second = *engine->submit(request_of({1}, 5), &waiting_one);
  ASSERT_TRUE(engine->submit(request_of({2}, 5), &other).has_value());
  ASSERT_TRUE(engine->step());
  ASSERT_TRUE(engine->step());
  EXPECT_EQ(engine->running(), 1);
  EXPECT_EQ(engine->waiting(), 2);
  EXPECT_TRUE(engine->cancel(first));
  EXPECT_TRUE(engine->cancel(second));
  EXPECT_FALSE(engine->cancel(77));
  EXPECT_FALSE(running_one.finished);  // by the next step
  ASSERT_TRUE(engine->step());
  EXPECT_TRUE(running_one.finished);
  EXPECT_EQ(running_one.reason, FinishReason::kCancelled);
  EXPECT_EQ(running_one.completion_tokens, 2);
  EXPECT_EQ(waiting_one.reason, FinishReason::kCancelled);
  EXPECT_EQ(waiting_one.completion_tokens, 0);
  EXPECT_EQ(other.sampled.size(), 1U);  // took the slot in that very step
  EXPECT_FALSE(engine->cancel(first));
  engine->run_until_idle();
  EXPECT_EQ(other.reason, FinishReason::kLength);
  EXPECT_EQ(engine->free_pages(), engine->total_pages());
}

TEST(Engine, TheSinkCanStopSubmitAndCancel) {
  FakeRunner runner({});
  auto engine = engine_for(runner);
  AnswerSink follow_up, victim;
  struct Sink : AnswerSink {
    Engine* engine = nullptr;
    AnswerSink* follow_up = nullptr;
    RequestId victim = 0;
    bool on_token(const TokenEvent& event) override {
      EXPECT_TRUE(AnswerSink::on_token(event));
      EXPECT_EQ(event.index + 1, static_cast<std::int64_t>(sampled.size()));
      if (event.index == 1) {
        EXPECT_TRUE(engine->cancel(victim));
      }
      return event.index < 2;  // as if a stop string ended here
    }
    void on_finish(const FinishEvent& event) override {
      AnswerSink::on_finish(event);
      EXPECT_TRUE(engine->submit(request_of({3}, 2), follow_up).has_value());
    }
  } sink;
  sink.engine = engine.get();
  sink.follow_up = &follow_up;
  ASSERT_TRUE(engine->submit(request_of({1}, 50), &sink).has_value());
  sink.victim = *engine->submit(request_of({2}, 50), &victim);
  engine->run_until_idle();
  EXPECT_EQ(sink.reason, FinishReason::kStop);
  EXPECT_EQ(sink.completion_tokens, 3);
  EXPECT_EQ(victim.reason, FinishReason::kCancelled);
  EXPECT_EQ(follow_up.completion_tokens, 2);
}

TEST(Engine, ARunnerFailureEndsThatStepsRequestsOnly) {
  FakeRunner runner({});
  auto engine = engine_for(runner, {.max_users = 2});
  AnswerSink a, b, queued;
  ASSERT_TRUE(engine->submit(request_of({1}, 5), &a).has_value());
  ASSERT_TRUE(engine->submit(request_of({2}, 5), &b).has_value());
  ASSERT_TRUE(engine->submit(request_of({3}, 5), &queued).has_value());
  runner.fail_at_step = 3;
  engine->run_until_idle();
  for (const AnswerSink* sink : {&a, &b}) {
    EXPECT_EQ(sink->reason, FinishReason::kError);
    EXPECT_EQ(sink->error.message, "the fake fails at step 3");
    EXPECT_EQ(sink->completion_tokens, 2);
  }
  EXPECT_EQ(queued.reason, FinishReason::kLength);
  EXPECT_EQ(engine->free_pages(), engine->total_pages());

  runner.drop_an_answer = true;
  AnswerSink c;
  ASSERT_TRUE(engine->submit(request_of({1}, 5), &c).has_value());
  engine->run_until_idle();
  EXPECT_EQ(c.reason, FinishReason::kError);
  EXPECT_EQ(c.error.code, ErrorCode::kInternal);
}

// A mask that allows only ids with the parity of the text's length.
class ParityMask : public TokenMask {
 public:
  std::int64_t fail_after = 1000;
  bool allow_nothing = false;
  Result<std::span<const std::uint32_t>> allowed_after(std::span<const TokenId> output) override {
    if (static_cast<std::int64_t>(output.size()) >= fail_after) {
      return error(ErrorCode::kBadInput, "no rule after {} tokens", output.size());
    }
    words_.assign(2, allow_nothing ? 0U : output.size() % 2 == 0 ? 0x55555555U : 0xaaaaaaaaU);
    return std::span<const std::uint32_t>(words_);
  }

 private:
  std::vector<std::uint32_t> words_;
};

TEST(Engine, MasksBindAndTheirFailuresEndTheirRequest) {
  FakeRunner runner({});
  auto engine = engine_for(runner);
  ParityMask good, failing, empty;
  failing.fail_after = 2;
  empty.allow_nothing = true;
  std::deque<AnswerSink> sinks(4);
  Request request = request_of({1, 2, 3}, 6);
  ASSERT_TRUE(engine->submit(request, &sinks[0]).has_value());
  request.mask = &good;
  ASSERT_TRUE(engine->submit(request, &sinks[1]).has_value());
  request.mask = &failing;
  ASSERT_TRUE(engine->submit(request, &sinks[2]).has_value());
  request.mask = &empty;
  ASSERT_TRUE(engine->submit(request, &sinks[3]).has_value());
  engine->run_until_idle();
  EXPECT_EQ(sinks[0].reason, FinishReason::kLength);
  ASSERT_EQ(sinks[1].ids.size(), 6U);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(sinks[1].ids[i] % 2, static_cast<TokenId>(i % 2));
  }
  EXPECT_EQ(sinks[2].reason, FinishReason::kError);
  EXPECT_EQ(sinks[2].error.message, "no rule after 2 tokens");
  EXPECT_EQ(sinks[2].completion_tokens, 2);
  EXPECT_EQ(sinks[3].reason, FinishReason::kError);
  EXPECT_EQ(sinks[3].error.message, "mask and bias leave no token to choose after 0 tokens");
  EXPECT_EQ(engine->free_pages(), engine->total_pages());
}

TEST(Engine, TimesComeFromTheInjectedClock) {
  FakeRunner runner({});
  double now = 100.0;
  auto engine = engine_for(runner, {.max_users = 1, .clock = [&] { return now; }});
  AnswerSink first, second;
  ASSERT_TRUE(engine->submit(request_of({1}, 2), &first).has_value());
  ASSERT_TRUE(engine->submit(request_of({2}, 1), &second).has_value());
  for (now = 101.0; engine->step(); now += 1.0) {
  }
  EXPECT_EQ(first.timing.submitted_s, 100.0);
  EXPECT_EQ(first.timing.started_s, 101.0);
  EXPECT_EQ(first.timing.token_times_s, (std::vector<double>{101.0, 102.0}));
  EXPECT_EQ(first.timing.ttft_s(), 1.0);
  EXPECT_EQ(second.timing.started_s, 103.0);  // waited for the slot, which is refilled at once
  EXPECT_EQ(second.timing.ttft_s(), 3.0);
  EXPECT_EQ(second.timing.finished_s, 103.0);
}

TEST(Engine, ListsWhoRunsOnWhichDomain) {
  FakeRunner runner({.vocab = 64, .block = 16, .blocks = 8, .domains = 2});
  auto engine = engine_for(runner, {.max_users = 2});
  std::vector<RunningUser> users(3);  // what was in it goes
  engine->list_running(users);
  EXPECT_TRUE(users.empty());
  std::deque<AnswerSink> sinks(3);
  for (std::uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(engine->submit(request_of(prompt_of(20, i), 5), &sinks[i]).has_value());
  }
  engine->step();
  engine->list_running(users);
  ASSERT_EQ(users.size(), 2U);  // the third waits
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(users[i].id, i + 1);
    EXPECT_EQ(users[i].kv_domain, static_cast<std::int32_t>(i));
    EXPECT_EQ(users[i].prompt_tokens, 20);
    EXPECT_EQ(users[i].sampled_tokens, 1);
    EXPECT_EQ(users[i].cached_tokens, 20);
    EXPECT_EQ(users[i].pages, 2);
  }
  engine->run_until_idle();
  engine->list_running(users);
  EXPECT_TRUE(users.empty());
}

// Random lives: arrivals between steps, cancels, pools too small, several domains.
TEST(Engine, RandomTracesEqualSingleRuns) {
  std::int64_t preemptions = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    const auto pick = [&](std::int64_t low, std::int64_t high) {
      return low + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(high - low + 1));
    };
    FakeRunner::Options fake;
    fake.block = pick(1, 8);
    fake.blocks = pick(2, 20);
    fake.domains = static_cast<std::int32_t>(pick(1, 2));
    const std::int64_t users = pick(1, 8);
    fake.max_rows = users + pick(0, 20);
    FakeRunner runner(fake);
    auto engine = engine_for(
        runner, {.max_users = users, .prefill_chunk = pick(0, 9), .shuffle_pages = seed});
    struct Life {
      Request request;
      AnswerSink sink;
      RequestId id = 0;
      bool cancelled = false;
    };
    std::deque<Life> lives;
    std::int64_t arrivals = pick(1, 16);
    const std::int64_t places = fake.block * fake.blocks;
    while (arrivals > 0 || !engine->idle()) {
      while (arrivals > 0 && pick(0, 1) == 0) {
        --arrivals;
        Life& life = lives.emplace_back();
        const std::int64_t prompt = pick(1, places);
        life.request = request_of(prompt_of(prompt, random()), pick(1, places - prompt + 1));
        life.request.sampling.temperature = pick(0, 1) == 0 ? 0.0 : 1.0;
        life.request.sampling.seed = random();
        life.request.stop_ids = {static_cast<TokenId>(pick(0, 63))};
        const auto id = engine->submit(life.request, &life.sink);
        ASSERT_TRUE(id.has_value()) << id.error().text();
        life.id = *id;
      }
      if (!lives.empty() && pick(0, 40) == 0) {
        Life& life = lives[random() % lives.size()];
        life.cancelled = engine->cancel(life.id) || life.cancelled;
      }
      engine->step();
      ASSERT_EQ(runner.broken_rule, "") << "seed " << seed;
      ASSERT_LT(engine->stats().steps, 100000) << "seed " << seed;
    }
    EXPECT_EQ(engine->free_pages(), engine->total_pages());
    for (const Life& life : lives) {
      ASSERT_TRUE(life.sink.finished);
      preemptions += life.sink.preemptions;
      auto expected = expected_answer(life.request.prompt_ids, *life.request.max_new_tokens,
                                      life.request.sampling, life.request.stop_ids, 64);
      EXPECT_EQ(life.sink.reason == FinishReason::kCancelled, life.cancelled);
      if (life.cancelled) expected.sampled.resize(life.sink.sampled.size());  // a prefix of it
      EXPECT_EQ(tokens_of(life.sink), expected.sampled) << "seed " << seed << " id " << life.id;
    }
  }
  EXPECT_GT(preemptions, 100);
}

}  // namespace
}  // namespace tg
