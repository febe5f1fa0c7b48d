// The engine on its own thread: answers, the bound of the queue, cancellations, stopping, failures;
// from several threads and from sinks.
#include "engine/engine_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <ctime>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/engine_calls.h"
#include "engine/fake_runner.h"

namespace tg {
namespace {

using test::engine_for;
using test::expected_answer;
using test::FakeRunner;
using test::prompt_of;
using test::request_of;

double seconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

// Can be read from any thread; wait() until its request has ended.
class SharedSink : public TokenSink {
 public:
  bool on_token(const TokenEvent& event) override {
    const std::lock_guard lock(mutex_);
    id_ = event.id;
    tokens_.push_back(event.sampled.token);
    changed_.notify_all();
    return true;
  }
  void on_finish(const FinishEvent& event) override {
    if (at_finish) at_finish();
    const std::lock_guard lock(mutex_);
    id_ = event.id;
    ++finishes_;
    reason_ = event.reason;
    error_ = event.error;
    changed_.notify_all();
  }

  SharedSink& wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return finishes_ > 0; });
    return *this;
  }
  void wait_for_tokens(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return tokens_.size() >= count || finishes_ > 0; });
  }
  std::vector<TokenId> tokens() const { return read(tokens_); }
  FinishReason reason() const { return read(reason_); }
  Error error() const { return read(error_); }
  int finishes() const { return read(finishes_); }
  RequestId id() const { return read(id_); }

  std::function<void()> at_finish;  // set before submit

 private:
  template <typename T>
  T read(const T& value) const {
    const std::lock_guard lock(mutex_);
    return value;
  }
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<TokenId> tokens_;
  FinishReason reason_ = FinishReason::kStop;
  Error error_;
  int finishes_ = 0;
  RequestId id_ = 0;
};

// Holds every step of a runner until it is opened.
class Gate {
 public:
  explicit Gate(FakeRunner& runner) {
    runner.in_step = [this] { pass(); };
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait_until_somebody_waits() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waits_; });
  }

 private:
  void pass() {
    std::unique_lock lock(mutex_);
    waits_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  bool waits_ = false;
};

std::shared_ptr<SharedSink> posted(EngineThread& thread, Request request,
                                   RequestTicket* ticket = nullptr) {
  auto sink = std::make_shared<SharedSink>();
  const Result<RequestTicket> result = thread.submit(std::move(request), sink);
  EXPECT_TRUE(result.has_value()) << result.error().text();
  if (ticket != nullptr) *ticket = *result;
  return sink;
}

TEST(EngineThread, AnswersFromSeveralThreads) {
  FakeRunner runner({.blocks = 40});
  auto engine = engine_for(runner, {.max_users = 8});
  EngineThread thread(*engine, {});
  std::vector<std::thread> callers;
  for (std::uint64_t c = 0; c < 4; ++c) {
    callers.emplace_back([&thread, c] {
      for (std::uint64_t i = 0; i < 20; ++i) {
        const auto prompt = prompt_of(1 + static_cast<std::int64_t>(i * 7), c * 100 + i);
        RequestTicket ticket = 0;
        const auto sink = posted(thread, request_of(prompt, 12), &ticket);
        EXPECT_EQ(sink->wait().tokens(), expected_answer(prompt, 12, {}, {}, 64).sampled);
        EXPECT_EQ(sink->reason(), FinishReason::kLength);
        EXPECT_EQ(sink->id(), ticket);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  thread.stop(10);
  const EngineSnapshot end = thread.snapshot();
  EXPECT_EQ(end.stats.finished, 80);
  EXPECT_EQ(end.running + end.waiting, 0);
  EXPECT_EQ(end.free_pages, end.total_pages);
  EXPECT_EQ(runner.broken_rule, "");
}

TEST(EngineThread, TheQueueIsBoundedAndASnapshotWaitsForNoStep) {
  FakeRunner runner({});
  Gate gate(runner);
  auto engine = engine_for(runner, {.max_users = 2});
  EngineThread thread(*engine, {.max_waiting = 3});
  std::vector<std::shared_ptr<SharedSink>> sinks;
  sinks.push_back(posted(thread, request_of({1}, 4)));
  gate.wait_until_somebody_waits();
  // The step holds the first; what it took still counts as waiting until it has ended.
  sinks.push_back(posted(thread, request_of({2}, 4)));
  sinks.push_back(posted(thread, request_of({3}, 4)));
  EXPECT_EQ(thread.snapshot().waiting, 3);
  EXPECT_EQ(thread.snapshot().total_pages, 64);
  auto refused = std::make_shared<SharedSink>();
  const auto full = thread.submit(request_of({4}, 4), refused);
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().code, ErrorCode::kBusy);
  EXPECT_EQ(full.error().message, "3 requests are waiting: the queue holds 3");
  const auto bad = thread.submit(request_of({400}, 4), refused);
  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error().code, ErrorCode::kBadArgument);
  EXPECT_EQ(thread.snapshot().stats.refused, 2);
  gate.open();
  for (const auto& sink : sinks) EXPECT_EQ(sink->wait().tokens().size(), 4U);
  EXPECT_EQ(posted(thread, request_of({4}, 4))->wait().tokens().size(), 4U);
  EXPECT_EQ(refused->finishes(), 0);
}

TEST(EngineThread, CancelledInTheQueueInAStepAndTooLate) {
  FakeRunner runner({});
  Gate gate(runner);
  auto engine = engine_for(runner, {.max_users = 1});
  EngineThread thread(*engine, {});
  RequestTicket first = 0, second = 0;
  const auto running = posted(thread, request_of({1}, 1000), &first);
  gate.wait_until_somebody_waits();
  const auto queued = posted(thread, request_of({2}, 1000), &second);
  const auto last = posted(thread, request_of({3}, 5));
  thread.cancel(first);
  thread.cancel(second);
  thread.cancel(second);
  thread.cancel(777);
  gate.open();
  EXPECT_EQ(running->wait().reason(), FinishReason::kCancelled);
  EXPECT_EQ(running->tokens().size(), 1U);
  EXPECT_EQ(queued->wait().reason(), FinishReason::kCancelled);
  EXPECT_EQ(last->wait().tokens(), expected_answer({3}, 5, {}, {}, 64).sampled);
  thread.cancel(first);
  thread.stop(1);
  EXPECT_EQ(running->finishes() + queued->finishes() + last->finishes(), 3);
}

TEST(EngineThread, AStormOfCancellations) {
  FakeRunner runner({.blocks = 40});
  auto engine = engine_for(runner, {.max_users = 8});
  EngineThread thread(*engine, {.max_waiting = 40});
  std::atomic<int> accepted = 0, refused = 0;
  std::vector<std::vector<std::shared_ptr<SharedSink>>> sinks(4);
  std::vector<std::thread> callers;
  for (std::size_t c = 0; c < sinks.size(); ++c) {
    callers.emplace_back([&, c] {
      for (std::uint64_t i = 0; i < 150; ++i) {
        auto sink = std::make_shared<SharedSink>();
        const auto ticket = thread.submit(
            request_of(prompt_of(1 + static_cast<std::int64_t>(i % 70), i), 300), sink);
        if (!ticket) {
          EXPECT_EQ(ticket.error().code, ErrorCode::kBusy);
          ++refused;
          std::this_thread::yield();
          continue;
        }
        ++accepted;
        sinks[c].push_back(sink);
        if (i % 3 == 0) sink->wait_for_tokens(1 + i % 4);
        for (RequestTicket back = 0; back < 3 && back < *ticket; ++back) {
          thread.cancel(*ticket - back);  // others' too, and some twice
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  thread.stop(30);
  int cancelled = 0;
  for (const auto& of_caller : sinks) {
    for (const auto& sink : of_caller) {
      EXPECT_EQ(sink->finishes(), 1);
      cancelled += sink->reason() == FinishReason::kCancelled;
    }
  }
  EXPECT_GT(cancelled, 100);
  const EngineSnapshot end = thread.snapshot();
  EXPECT_EQ(end.stats.finished, accepted);
  EXPECT_EQ(end.stats.refused, refused);
  EXPECT_EQ(end.running + end.waiting, 0);
  EXPECT_EQ(end.free_pages, end.total_pages);
  EXPECT_EQ(runner.broken_rule, "");
}

TEST(EngineThread, StopLetsThemEndOrCancelsThem) {
  FakeRunner runner({});
  auto engine = engine_for(runner, {.max_users = 2});
  {
    EngineThread thread(*engine, {});
    std::vector<std::shared_ptr<SharedSink>> sinks;
    for (TokenId i = 0; i < 5; ++i) sinks.push_back(posted(thread, request_of({i}, 50)));
    thread.stop(60);
    for (const auto& sink : sinks) EXPECT_EQ(sink->reason(), FinishReason::kLength);
    const auto late = thread.submit(request_of({1}, 1), sinks[0]);
    ASSERT_FALSE(late.has_value());
    EXPECT_EQ(late.error().code, ErrorCode::kBusy);
    thread.stop(1);  // has ended already
  }
  runner.in_step = [] { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
  std::vector<std::shared_ptr<SharedSink>> sinks;
  {
    EngineThread thread(*engine, {});
    for (TokenId i = 0; i < 5; ++i) sinks.push_back(posted(thread, request_of({i}, 900)));
    sinks[0]->wait_for_tokens(3);
  }  // stop(0)
  for (const auto& sink : sinks) EXPECT_EQ(sink->reason(), FinishReason::kCancelled);
  EXPECT_EQ(engine->free_pages(), engine->total_pages());
}

TEST(EngineThread, ASecondStopShortensTheGrace) {
  FakeRunner runner({});
  runner.in_step = [] { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
  auto engine = engine_for(runner, {});
  EngineThread thread(*engine, {});
  const auto sink = posted(thread, request_of({1}, 1000));
  sink->wait_for_tokens(2);
  const auto begin = std::chrono::steady_clock::now();
  std::thread patient([&thread] { thread.stop(3600); });
  thread.stop(0.05);
  thread.stop(1e300);
  patient.join();
  EXPECT_EQ(sink->reason(), FinishReason::kCancelled);
  EXPECT_GE(seconds_since(begin), 0.04);
  EXPECT_LT(seconds_since(begin), 60.0);
}

TEST(EngineThread, ASinkMaySubmitCancelLookAndStop) {
  FakeRunner runner({});
  auto engine = engine_for(runner, {});
  EngineThread thread(*engine, {});
  auto follow_up = std::make_shared<SharedSink>();
  auto refused = std::make_shared<SharedSink>();
  follow_up->at_finish = [&] {
    thread.stop(0);  // does not wait for itself
    EXPECT_EQ(thread.submit(request_of({9}, 2), refused).error().code, ErrorCode::kBusy);
  };
  RequestTicket endless_ticket = 0;
  const auto endless = posted(thread, request_of({4}, 1000), &endless_ticket);
  auto first = std::make_shared<SharedSink>();
  first->at_finish = [&] {
    EXPECT_TRUE(thread.submit(request_of({2}, 3), follow_up).has_value());
    EXPECT_GE(thread.snapshot().waiting, 1);
    thread.cancel(endless_ticket);
  };
  ASSERT_TRUE(thread.submit(request_of({1}, 3), first).has_value());
  EXPECT_EQ(follow_up->wait().tokens(), expected_answer({2}, 3, {}, {}, 64).sampled);
  EXPECT_EQ(endless->wait().reason(), FinishReason::kCancelled);
  thread.stop(5);
  EXPECT_EQ(refused->finishes(), 0);
  EXPECT_EQ(first.use_count(), 1);  // nobody holds a sink that has ended
}

TEST(EngineThread, OneFailedStepIsNotTheEnd) {
  FakeRunner runner({});
  auto engine = engine_for(runner, {.max_users = 1});
  EngineThread thread(*engine, {.failures_in_a_row = 2});
  runner.fail_at_step = 3;
  const auto hit = posted(thread, request_of({1}, 10));
  EXPECT_EQ(hit->wait().reason(), FinishReason::kError);
  EXPECT_EQ(hit->error().message, "the fake fails at step 3");
  EXPECT_EQ(posted(thread, request_of({1}, 2))->wait().reason(), FinishReason::kLength);
  thread.stop(1);
  EXPECT_FALSE(thread.snapshot().failed);
}

TEST(EngineThread, AfterFailuresInARowAllEndsAndNothingIsTaken) {
  FakeRunner runner({});
  Gate gate(runner);
  auto engine = engine_for(runner, {.max_users = 1});
  runner.fail_at_step = 1;
  runner.failures = 1000;
  EngineThread thread(*engine, {});
  std::vector<std::shared_ptr<SharedSink>> sinks;
  std::atomic<int> busy = 0;
  for (TokenId i = 0; i < 6; ++i) {
    sinks.push_back(std::make_shared<SharedSink>());
    sinks.back()->at_finish = [&] {
      const auto again = thread.submit(request_of({1}, 1), std::make_shared<SharedSink>());
      if (!again) ++busy;
    };
    ASSERT_TRUE(thread.submit(request_of({i}, 10), sinks.back()).has_value());
  }
  gate.open();
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->wait().reason(), FinishReason::kError);
    EXPECT_EQ(sink->finishes(), 1);
  }
  EXPECT_GE(busy, 3);  // by then it had failed
  const auto refused = thread.submit(request_of({1}, 1), sinks[0]);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kBusy);
  EXPECT_EQ(refused.error().message, "the engine has failed: the fake fails at step 3");
  thread.stop(5);
  const EngineSnapshot end = thread.snapshot();
  EXPECT_TRUE(end.failed);
  EXPECT_EQ(end.failure.message, "the fake fails at step 3");
  EXPECT_EQ(end.running + end.waiting, 0);
  EXPECT_EQ(end.free_pages, end.total_pages);
  EXPECT_EQ(runner.steps, 3);
}

TEST(EngineThread, WaitingTakesNoTime) {
  FakeRunner runner({});
  auto engine = engine_for(runner, {});
  EngineThread thread(*engine, {});
  posted(thread, request_of({1}, 3))->wait();
  const std::clock_t before = std::clock();  // of the whole process
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 0.02);
}

}  // namespace
}  // namespace tg
