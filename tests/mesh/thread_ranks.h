// Ranks that are threads of the test: a Transport over mailboxes, and a launcher. Who waits longer
// than ten seconds ends the test program with a message.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "mesh/transport.h"

namespace tg::test {

// Letters between ranks, in order per (from, to, channel).
class PostOffice {
 public:
  using Address = std::tuple<int, int, int>;  // from, to, channel

  void send(const Address& address, std::vector<std::byte> letter) {
    const std::lock_guard lock(mutex_);
    boxes_[address].push_back(std::move(letter));
    arrived_.notify_all();
  }
  std::vector<std::byte> receive(const Address& address, const std::string& what) {
    std::unique_lock lock(mutex_);
    const bool came =
        arrived_.wait_for(lock, std::chrono::seconds(10), [&] { return !boxes_[address].empty(); });
    if (!came) {
      std::fprintf(stderr, "rank %d waits for rank %d in %s\n", std::get<1>(address),
                   std::get<0>(address), what.c_str());
      std::abort();
    }
    std::vector<std::byte> letter = std::move(boxes_[address].front());
    boxes_[address].pop_front();
    return letter;
  }
  std::size_t unread() {
    const std::lock_guard lock(mutex_);
    std::size_t letters = 0;
    for (const auto& [address, box] : boxes_) letters += box.size();
    return letters;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<Address, std::deque<std::vector<std::byte>>> boxes_;
};

class ThreadTransport : public Transport {
 public:
  ThreadTransport(PostOffice& office, int rank, int ranks)
      : office_(office), rank_(rank), ranks_(ranks) {}
  int rank() const override { return rank_; }
  int ranks() const override { return ranks_; }

  void exchange(const Position& at, std::span<const Outgoing> sends,
                std::span<const Incoming> receives) override {
    for (const Outgoing& out : sends) {
      bytes_sent_ += out.bytes.size();
      office_.send({rank_, out.to, out.channel}, {out.bytes.begin(), out.bytes.end()});
    }
    for (const Incoming& in : receives) {
      const auto letter = office_.receive({in.from, rank_, in.channel}, at.collective);
      if (letter.size() != in.bytes.size()) {
        std::fprintf(stderr, "%s: %zu bytes came, %zu were awaited\n", at.collective.c_str(),
                     letter.size(), in.bytes.size());
        std::abort();
      }
      std::copy(letter.begin(), letter.end(), in.bytes.begin());
    }
  }

  void broadcast(const Position& at, std::vector<std::byte>& message) override {
    constexpr int kChannel = 99;
    if (rank_ != 0) {
      message = office_.receive({0, rank_, kChannel}, at.collective);
      return;
    }
    for (int r = 1; r < ranks_; ++r) office_.send({0, r, kChannel}, message);
  }

  std::uint64_t bytes_sent() const override { return bytes_sent_; }

 private:
  PostOffice& office_;
  int rank_;
  int ranks_;
  std::uint64_t bytes_sent_ = 0;
};

// Runs f(transport) once on each rank and returns when all have.
inline void on_ranks(int ranks, const std::function<void(ThreadTransport&)>& f) {
  PostOffice office;
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&office, &f, r, ranks] {
      ThreadTransport transport(office, r, ranks);
      f(transport);
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(office.unread(), 0U) << "letters that nobody awaited";
}

}  // namespace tg::test
