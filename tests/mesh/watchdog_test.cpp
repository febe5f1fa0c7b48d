// The watchdog's end of a job, in a process of its own: what it says and with which status.
#include "mesh/watchdog.h"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace tg {
namespace {

using std::chrono::milliseconds;

// Rank 0 with its watchdog, and rank 1 as the test plays it: waiting or not, going on or not, and
// beating for so long.
void play(bool rank_0_waits, bool rank_1_waits, bool rank_1_goes_on, milliseconds time,
          milliseconds beats_for = milliseconds(10000)) {
  auto zero = Heartbeats::open();
  auto one = Heartbeats::open();
  TG_CHECK(zero && one);
  const std::vector<Whereabouts> places = {zero->here(), one->here()};
  zero->join(0, places, 5);
  one->join(1, places, 5);
  Watchdog::Options options;
  options.ranks = 2;
  options.watchdog_s = 1.0;
  options.place_of = [](int, int) { return std::string("(0,0)"); };
  Watchdog watchdog(std::move(*zero), options);
  if (rank_0_waits) watchdog.begin_wait({"all_gather WO", 7, 3});
  Progress progress{1, rank_1_waits};
  const auto begin = std::chrono::steady_clock::now();
  for (auto now = begin; now - begin < time; now = std::chrono::steady_clock::now()) {
    if (now - begin < beats_for) one->send(Sign::kAlive, 0, progress);
    if (rank_1_goes_on) ++progress.waits;
    std::this_thread::sleep_for(milliseconds(50));
  }
}

class WatchdogEnd : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

TEST_F(WatchdogEnd, WhenAllWaitForEachOther) {
  EXPECT_EXIT(play(true, true, false, milliseconds(8000)), testing::ExitedWithCode(1),
              "all 2 ranks wait for each other and none has gone on for 0.5 s; rank 0 waits in "
              "all_gather WO, step 7, layer 3. The job ends.");
}

TEST_F(WatchdogEnd, NotWhileOneOfThemGoesOnOrComputes) {
  const auto lives = [](bool zero_waits, bool one_waits, bool one_goes_on) {
    play(zero_waits, one_waits, one_goes_on, milliseconds(2000));
    std::_Exit(42);
  };
  EXPECT_EXIT(lives(true, true, true), testing::ExitedWithCode(42), "");
  EXPECT_EXIT(lives(true, false, false), testing::ExitedWithCode(42), "");
  EXPECT_EXIT(lives(false, true, false), testing::ExitedWithCode(42), "");
}

TEST_F(WatchdogEnd, WhenOneFallsSilent) {
  EXPECT_EXIT(
      play(true, false, false, milliseconds(8000), milliseconds(300)), testing::ExitedWithCode(1),
      "rank 1 with devices .0,0. not heard of for 0.[5-9] s; rank 0 waits in all_gather WO, "
      "step 7, layer 3. The job ends.");
}

// Rank 2 with its watchdog. Rank 1 falls silent, rank 0 does so much later, and then the launcher
// ends the job.
void play_launcher_that_ends_some_first() {
  std::vector<Heartbeats> beats;
  std::vector<Whereabouts> places;
  for (int rank = 0; rank < 3; ++rank) {
    auto opened = Heartbeats::open();
    TG_CHECK(opened);
    places.push_back(opened->here());
    beats.push_back(std::move(*opened));
  }
  for (int rank = 0; rank < 3; ++rank) beats[static_cast<std::size_t>(rank)].join(rank, places, 5);
  Watchdog::Options options;
  options.rank = 2;
  options.ranks = 3;
  options.watchdog_s = 60.0;
  options.place_of = [](int, int) { return std::string("(0,0)"); };
  Watchdog watchdog(std::move(beats[2]), options);
  watchdog.begin_wait({"all_gather WO", 7, 3});
  for (int tenth = 0; tenth < 24; ++tenth) {
    if (tenth < 19) beats[0].send(Sign::kAlive, 0, {});
    if (tenth < 3) beats[1].send(Sign::kAlive, 0, {});
    std::this_thread::sleep_for(milliseconds(100));
  }
  std::raise(SIGTERM);
  std::this_thread::sleep_for(milliseconds(5000));
}

TEST_F(WatchdogEnd, ByTheLauncherNamesTheFirstToFallSilentOnly) {
  EXPECT_EXIT(play_launcher_that_ends_some_first(), testing::ExitedWithCode(128 + SIGTERM),
              "error: rank 1 with devices .0,0. not heard of for [2-4].[0-9] s; rank 2 waits in "
              "all_gather WO, step 7, layer 3. The job ends.");
}

}  // namespace
}  // namespace tg
