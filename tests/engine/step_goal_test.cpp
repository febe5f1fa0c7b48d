// A goal for the length of steps: what StepPace learns, and what the engine makes of it. The time
// is the test's own: a step takes a base and a share for each row.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "engine/engine_calls.h"
#include "engine/step_pace.h"

namespace tg {
namespace {

using test::engine_for;
using test::expected_answer;
using test::FakeRunner;
using test::prompt_of;
using test::request_of;
using test::tokens_of;

TEST(StepPace, NothingIsKnownAtFirst) {
  StepPace pace;
  EXPECT_EQ(pace.rows_within(1.0), 0);
  for (int i = 0; i < 3; ++i) pace.add(4, 0.010);
  EXPECT_EQ(pace.rows_within(1.0), 0);
}

TEST(StepPace, ALineIsLearned) {
  StepPace pace;
  for (int i = 0; i < 200; ++i) {
    const std::int64_t rows = 4 + i * 7 % 60;
    pace.add(rows, 0.008 + 0.0005 * static_cast<double>(rows));
  }
  // (0.030 - 0.008) / 0.0005
  EXPECT_NEAR(static_cast<double>(pace.rows_within(0.030)), 44.0, 2.0);
  EXPECT_NEAR(static_cast<double>(pace.rows_within(0.018)), 20.0, 2.0);
  EXPECT_EQ(pace.rows_within(0.004), 0);
}

// A base of 8 rows is assumed where no two steps differ: 12 rows in 20 ms are 1 ms each.
TEST(StepPace, EqualStepsLeaveTheGuess) {
  StepPace pace;
  for (int i = 0; i < 200; ++i) pace.add(12, 0.020);
  EXPECT_NEAR(static_cast<double>(pace.rows_within(0.030)), 22.0, 1.0);
  EXPECT_NEAR(static_cast<double>(pace.rows_within(0.016)), 8.0, 1.0);
}

TEST(StepPace, ItFollowsAChange) {
  StepPace pace;
  for (int i = 0; i < 200; ++i) {
    const std::int64_t rows = 4 + i * 7 % 60;
    pace.add(rows, 0.008 + 0.0005 * static_cast<double>(rows));
  }
  for (int i = 0; i < 150; ++i) {
    const std::int64_t rows = 4 + i * 7 % 30;
    pace.add(rows, 0.012 + 0.0010 * static_cast<double>(rows));
  }
  EXPECT_NEAR(static_cast<double>(pace.rows_within(0.030)), 18.0, 2.0);
}

// Of steps with noise, nearly all end in time; one that the machine held up for a second does not
// stop everything.
TEST(StepPace, NoiseIsLeftRoomFor) {
  StepPace pace;
  std::mt19937 random(5);  // NOLINT(bugprone-random-generator-seed)
  std::normal_distribution<double> noise(0.0, 0.002);
  const auto seconds = [&](std::int64_t rows) {
    return 0.008 + 0.0005 * static_cast<double>(rows) + noise(random);
  };
  for (int i = 0; i < 200; ++i) pace.add(4 + i * 7 % 60, seconds(4 + i * 7 % 60));
  int late = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t rows = pace.rows_within(0.030);
    ASSERT_GT(rows, 20);
    const double took = seconds(rows);
    late += took > 0.030 ? 1 : 0;
    pace.add(rows, took);
  }
  EXPECT_LT(late, 60);
  pace.add(30, 1.0);
  EXPECT_GT(pace.rows_within(0.030), 10);
}

// A FakeRunner whose steps take time.
class TimedRunner : public FakeRunner {
 public:
  explicit TimedRunner(Options options) : FakeRunner(options) {}

  Result<StepResult> step(const StepBatch& batch) override {
    std::int64_t rows = 0;
    for (const StepSequence& s : batch.sequences) rows += std::ssize(s.tokens);
    now += base + each * static_cast<double>(rows);
    return FakeRunner::step(batch);
  }

  double now = 100.0;
  double base = 0.004;
  double each = 0.0005;
};

struct Crowd {
  std::vector<std::vector<TokenId>> answers;
  std::vector<double> busy_steps;  // seconds of steps in which somebody decoded
  double mean = 0.0;               // of them
};

Crowd run_crowd(double goal_s) {
  TimedRunner runner({.blocks = 512});
  auto engine = engine_for(
      runner, {.prefill_chunk = 128, .step_goal_s = goal_s, .clock = [&] { return runner.now; }});
  std::vector<AnswerSink> sinks(32);
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    EXPECT_TRUE(engine->submit(request_of(prompt_of(60 + 3 * static_cast<std::int64_t>(i), i), 50),
                               &sinks[i]));
  }
  Crowd crowd;
  while (engine->step()) {
    const StepReport& step = engine->last_step();
    if (step.decode_rows == 0) continue;
    crowd.busy_steps.push_back(step.total_s);
    crowd.mean += step.total_s;
  }
  EXPECT_EQ(runner.broken_rule, "");
  EXPECT_EQ(engine->free_pages(), engine->total_pages());
  crowd.mean /= static_cast<double>(crowd.busy_steps.size());
  for (const AnswerSink& sink : sinks) {
    EXPECT_EQ(sink.reason, FinishReason::kLength);
    crowd.answers.push_back(tokens_of(sink));
  }
  return crowd;
}

TEST(StepGoal, StepsKeepItAndAnswersDoNotShowIt) {
  constexpr double kGoal = 0.020;  // (20 - 4) / 0.5 = 32 rows
  const Crowd free = run_crowd(0.0);
  const Crowd bound = run_crowd(kGoal);
  EXPECT_GT(*std::max_element(free.busy_steps.begin(), free.busy_steps.end()), 2 * kGoal);
  // It has to learn first.
  ASSERT_GT(bound.busy_steps.size(), 100U);
  for (std::size_t i = 20; i < bound.busy_steps.size(); ++i) {
    EXPECT_LE(bound.busy_steps[i], 1.05 * kGoal) << "step " << i;
  }
  EXPECT_GT(bound.mean, 0.7 * kGoal);  // and they use what they may
  EXPECT_EQ(bound.answers, free.answers);
  for (std::size_t i = 0; i < free.answers.size(); ++i) {
    const auto length = 60 + 3 * static_cast<std::int64_t>(i);
    EXPECT_EQ(free.answers[i], expected_answer(prompt_of(length, i), 50, {}, {}, 64).sampled);
  }
}

// A goal that not even one user's step keeps: one after the other, but all get their answers.
TEST(StepGoal, OneThatCannotBeKeptEndsNothing) {
  const Crowd crowd = run_crowd(0.001);
  for (const auto& answer : crowd.answers) EXPECT_EQ(answer.size(), 50U);
  EXPECT_LE(*std::max_element(crowd.busy_steps.begin(), crowd.busy_steps.end()),
            0.004 + 0.0005 * static_cast<double>(1 + kLeastPrefillRows) + 1e-9);
}

}  // namespace
}  // namespace tg
