// Signs of life between ranks: who hears what, and what is not for this job.
#include "mesh/heartbeats.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

namespace tg {
namespace {

// As many ranks in this process, all of one job.
std::vector<Heartbeats> ranks(int count, std::uint64_t job = 77) {
  std::vector<Heartbeats> all;
  std::vector<Whereabouts> places;
  all.reserve(static_cast<std::size_t>(count));
  for (int r = 0; r < count; ++r) {
    auto beats = Heartbeats::open();
    TG_CHECK(beats);
    places.push_back(beats->here());
    all.push_back(std::move(*beats));
  }
  for (int r = 0; r < count; ++r) all[static_cast<std::size_t>(r)].join(r, places, job);
  return all;
}

// What has come within two seconds, at least `wanted` beats if they come.
std::vector<Heartbeats::Beat> hear(Heartbeats& beats, std::size_t wanted) {
  std::vector<Heartbeats::Beat> heard = beats.hear();
  for (int i = 0; i < 200 && heard.size() < wanted; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    for (const Heartbeats::Beat& beat : beats.hear()) heard.push_back(beat);
  }
  return heard;
}

TEST(Heartbeats, EveryoneElseHears) {
  std::vector<Heartbeats> all = ranks(3);
  all[1].send(Sign::kAlive);
  all[1].send(Sign::kHasSaid, 2, {9, true});
  for (const std::size_t reader : {0U, 2U}) {
    const auto heard = hear(all[reader], 2);
    ASSERT_EQ(heard.size(), 2);
    for (const Heartbeats::Beat& beat : heard) EXPECT_EQ(beat.rank, 1);
    EXPECT_EQ(heard[0].sign, Sign::kAlive);
    EXPECT_EQ(heard[1].sign, Sign::kHasSaid);
    EXPECT_EQ(heard[1].status, 2);
    EXPECT_EQ(heard[0].progress, Progress{});
    EXPECT_EQ(heard[1].progress, (Progress{9, true}));
    EXPECT_TRUE(all[reader].hear().empty());
  }
  EXPECT_TRUE(all[1].hear().empty());
}

TEST(Heartbeats, OneThatIsGoneDisturbsNobody) {
  std::vector<Heartbeats> all = ranks(3);
  all.pop_back();
  for (int i = 0; i < 5; ++i) {
    all[0].send(Sign::kAlive);
    all[1].send(Sign::kLeaves);
    ASSERT_EQ(hear(all[0], 1).size(), 1);
    ASSERT_EQ(hear(all[1], 1).size(), 1);
  }
}

// Another job's ranks and strangers that send anything to the same port.
TEST(Heartbeats, WhatIsNotOfThisJobIsIgnored) {
  std::vector<Heartbeats> all = ranks(2);
  auto stranger = Heartbeats::open();
  ASSERT_TRUE(stranger);
  stranger->join(0, {stranger->here(), all[1].here()}, 78);
  stranger->send(Sign::kHasSaid, 1);

  const int raw = ::socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_GE(raw, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = static_cast<in_port_t>(all[1].here().port);
  const std::vector<char> junk(2000, 'x');
  for (const std::size_t bytes : {0U, 1U, 24U, 2000U}) {
    ::sendto(raw, junk.data(), bytes, 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to));
  }
  ::close(raw);

  all[0].send(Sign::kAlive);
  const auto heard = hear(all[1], 1);
  ASSERT_EQ(heard.size(), 1);
  EXPECT_EQ(heard[0].rank, 0);
  EXPECT_EQ(heard[0].sign, Sign::kAlive);
}

// A process number means something only where the same processes are seen; host names do not tell.
TEST(Heartbeats, ProcessesOfOtherMachinesAreNotVisible) {
  auto beats = Heartbeats::open();
  ASSERT_TRUE(beats);
  Whereabouts elsewhere = beats->here();
  elsewhere.processes += 1;
  Whereabouts unknown = beats->here();
  unknown.processes = 0;
  beats->join(0, {beats->here(), elsewhere, unknown, beats->here()}, 1);
  EXPECT_EQ(beats->visible_pid(1), 0);
  EXPECT_EQ(beats->visible_pid(2), 0);
  if (beats->here().processes != 0) {
    EXPECT_EQ(beats->visible_pid(3), ::getpid());
  }
}

}  // namespace
}  // namespace tg
