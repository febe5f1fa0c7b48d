#include "base/thread_team.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

namespace tg {
namespace {

// Team sizes: alone, as many as the machine here has, and more than any small machine has.
const int kSizes[] = {1, 2, 3, 16};

TEST(ThreadTeam, EachMemberRunsOnceAndOnItsOwnThread) {
  for (const int size : kSizes) {
    ThreadTeam team(size);
    ASSERT_EQ(team.size(), size);
    std::vector<int> calls(static_cast<std::size_t>(size), 0);
    std::vector<std::thread::id> threads(static_cast<std::size_t>(size));
    team.run([&](int member) {
      ++calls[static_cast<std::size_t>(member)];
      threads[static_cast<std::size_t>(member)] = std::this_thread::get_id();
    });
    for (const int c : calls) EXPECT_EQ(c, 1);
    EXPECT_EQ(threads[0], std::this_thread::get_id());
    EXPECT_EQ(std::set(threads.begin(), threads.end()).size(), static_cast<std::size_t>(size));
  }
}

// Plain variables on both sides of a region, thousands of times: a missing ordering shows here as a
// wrong sum, and under the thread sanitizer as a race.
TEST(ThreadTeam, WritesAreVisibleBothWays) {
  for (const int size : {2, 3}) {
    ThreadTeam team(size);
    std::vector<std::int64_t> results(static_cast<std::size_t>(size), 0);
    std::int64_t input = 0;
    for (int region = 1; region <= 5000; ++region) {
      input = region;
      team.run([&](int member) { results[static_cast<std::size_t>(member)] = input + member; });
      for (int member = 0; member < size; ++member) {
        ASSERT_EQ(results[static_cast<std::size_t>(member)], region + member);
      }
    }
  }
}

TEST(ThreadTeam, SleepersWake) {
  for (const int spin : {0, 1, 1000}) {
    ThreadTeam team(3, spin);
    std::atomic<int> calls = 0;
    for (int region = 0; region < 5; ++region) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));  // all others are asleep by now
      team.run([&](int) { calls.fetch_add(1); });
    }
    EXPECT_EQ(calls.load(), 15);
  }
}

// A slow member holds the region open, whichever it is.
TEST(ThreadTeam, RunWaitsForTheLast) {
  ThreadTeam team(3);
  for (int slow = 0; slow < 3; ++slow) {
    std::atomic<int> finished = 0;
    team.run([&](int member) {
      if (member == slow) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      finished.fetch_add(1);
    });
    EXPECT_EQ(finished.load(), 3);
  }
}

TEST(ThreadTeam, PiecesCoverTheRangeOnce) {
  for (const int size : kSizes) {
    ThreadTeam team(size);
    for (const std::int64_t count : {0, 1, 2, 7, 64, 1000}) {
      for (const std::int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
        team.for_pieces(count, grain, [&](std::int64_t begin, std::int64_t end) {
          EXPECT_LT(begin, end);
          EXPECT_LE(end, count);
          EXPECT_LE(end - begin, grain);
          EXPECT_EQ(begin % grain, 0);
          for (std::int64_t i = begin; i < end; ++i) seen[static_cast<std::size_t>(i)].fetch_add(1);
        });
        for (const auto& s : seen) ASSERT_EQ(s.load(), 1) << count << " by " << grain;
      }
    }
  }
}

// Far more threads than CPUs: regions must still pass at a rate of thousands per second, so they
// may not depend on a spinning thread being descheduled by its time slice.
TEST(ThreadTeam, OversubscribedTeamMovesOnAndEnds) {
  for (int round = 0; round < 3; ++round) {
    ThreadTeam team(4 * available_cpus() + 1);
    std::atomic<std::int64_t> calls = 0;
    for (int region = 0; region < 200; ++region) {
      team.run([&](int) { calls.fetch_add(1, std::memory_order_relaxed); });
    }
    EXPECT_EQ(calls.load(), 200 * team.size());
  }
}

TEST(ThreadTeam, TeamsEndWithoutEverRunning) {
  for (const int size : kSizes) ThreadTeam team(size);
}

// One team's region may use another team: the engine's and a loader's are separate.
TEST(ThreadTeam, TeamsInsideRegionsOfOthers) {
  ThreadTeam outer(2);
  std::atomic<int> calls = 0;
  outer.run([&](int) {
    ThreadTeam inner(2);
    inner.run([&](int) { calls.fetch_add(1); });
  });
  EXPECT_EQ(calls.load(), 4);
}

TEST(ThreadTeam, AvailableCpusRespectsAffinity) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  EXPECT_LE(available_cpus(), CPU_COUNT(&before));  // a container's quota may be less
  EXPECT_EQ(static_cast<int>(allowed_cpus().size()), CPU_COUNT(&before));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &before)) {
      CPU_SET(cpu, &one);
      break;
    }
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(available_cpus(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

// The masks as the kernel has them, while the team is there and afterwards.
TEST(ThreadTeam, MembersStayOnTheirCpus) {
  const std::vector<int> before = allowed_cpus();
  ASSERT_FALSE(before.empty());
  for (const int size : {1, 2, 5}) {
    const std::vector<int> cpus = {before.back(), before.front()};
    std::vector<std::vector<int>> masks(static_cast<std::size_t>(size));
    std::vector<int> ran_on(static_cast<std::size_t>(size), -1);
    {
      ThreadTeam team(size, -1, cpus);
      team.run([&](int member) {
        masks[static_cast<std::size_t>(member)] = allowed_cpus();
        ran_on[static_cast<std::size_t>(member)] = ::sched_getcpu();
      });
    }
    for (std::size_t member = 0; member < masks.size(); ++member) {
      EXPECT_EQ(masks[member], std::vector<int>{cpus[member % 2]}) << "member " << member;
      EXPECT_EQ(ran_on[member], cpus[member % 2]) << "member " << member;
    }
    EXPECT_EQ(allowed_cpus(), before);
  }
  ThreadTeam free(2);
  free.run([&](int) { EXPECT_EQ(allowed_cpus(), before); });
}

}  // namespace
}  // namespace tg
