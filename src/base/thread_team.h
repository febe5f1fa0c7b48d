// What: a fixed team of threads that runs one function on all of them, again and again (a
//   "region"). The caller is member 0. Between regions the others spin for a bounded number of
//   pauses and then sleep, because a spin is the fastest wait when the cores are ours and a
//   disaster when they are not (see docs/measuring.md).
// Who owns: whoever made it; it must outlive the regions. Thread: run() from one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/cpus.h"

namespace tg {

class ThreadTeam {
 public:
  // threads >= 1. spin_pauses < 0 picks the default: a short spin when every member can have a CPU
  // of its own, none otherwise. With `cpus`, member i stays on cpus[i % size], the caller too as
  // long as the team is there; what cannot be bound runs anywhere, as without.
  explicit ThreadTeam(int threads, int spin_pauses = -1, std::span<const int> cpus = {});
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls f(member) once on each member, 0 <= member < size(), and returns when all have returned.
  // f must not throw. Everything written before run() is visible to the members, and everything
  // they wrote is visible after it.
  template <typename F>
  void run(const F& f) {
    if (workers_.empty()) {
      f(0);
      return;
    }
    run_erased([](const void* object, int member) { (*static_cast<const F*>(object))(member); },
               &f);
  }

  // Calls f(member, begin, end) with [0, count) cut into pieces of `grain`, handed out first come
  // first served: which member does a piece is not fixed, so f may not let it show in a result (the
  // member is for picking its scratch).
  template <typename F>
  void for_pieces_by_member(std::int64_t count, std::int64_t grain, const F& f) {
    if (count <= 0) return;
    if (workers_.empty() || count <= grain) {
      for (std::int64_t b = 0; b < count; b += grain)
        f(0, b, b + grain < count ? b + grain : count);
      return;
    }
    next_piece_.store(0, std::memory_order_relaxed);
    run([&](int member) {
      for (;;) {
        const std::int64_t b = next_piece_.fetch_add(grain, std::memory_order_relaxed);
        if (b >= count) return;
        f(member, b, b + grain < count ? b + grain : count);
      }
    });
  }

  // The same for f(begin, end).
  template <typename F>
  void for_pieces(std::int64_t count, std::int64_t grain, const F& f) {
    for_pieces_by_member(count, grain,
                         [&f](int, std::int64_t begin, std::int64_t end) { f(begin, end); });
  }

 private:
  using Body = void (*)(const void* object, int member);
  void run_erased(Body body, const void* object);
  void work(int member);

  // The epoch counts regions; members wait for it to move. Own cache lines: both are hot.
  alignas(64) std::atomic<std::uint32_t> epoch_{0};
  alignas(64) std::atomic<std::uint32_t> unfinished_{0};
  alignas(64) std::atomic<std::int64_t> next_piece_{0};
  Body body_ = nullptr;
  const void* object_ = nullptr;
  bool stopping_ = false;
  int spin_pauses_ = 0;
  std::vector<int> callers_cpus_;  // before it was bound; empty: it was not
  std::vector<std::thread> workers_;
};

}  // namespace tg
