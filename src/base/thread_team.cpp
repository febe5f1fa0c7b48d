#include "base/thread_team.h"

#include <immintrin.h>

#include <algorithm>

namespace tg {
namespace {

// About 40 us at 1.3 GHz and more: longer than the serial gaps inside a step (a few us), far
// shorter than a scheduler slice, so a member whose core was taken away does not burn another
// one's.
constexpr int kDefaultSpinPauses = 2000;

// Waits until `value` differs from `old`: a bounded spin, then the kernel's futex.
void wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old, int spin_pauses) {
  for (int i = 0; i < spin_pauses; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    _mm_pause();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadTeam::ThreadTeam(int threads, int spin_pauses, std::span<const int> cpus)
    : spin_pauses_(spin_pauses >= 0 ? spin_pauses
                                    : (threads <= available_cpus() ? kDefaultSpinPauses : 0)) {
  const auto cpu_of = [cpus](int member) {
    return cpus[static_cast<std::size_t>(member) % cpus.size()];
  };
  if (!cpus.empty()) {
    if (spin_pauses < 0 && threads > static_cast<int>(cpus.size())) spin_pauses_ = 0;
  }
  for (int member = 1; member < threads; ++member) {
    const int cpu = cpus.empty() ? -1 : cpu_of(member);
    workers_.emplace_back([this, member, cpu] {
      if (cpu >= 0) run_on({&cpu, 1});
      work(member);
    });
  }
  if (cpus.empty()) return;
  callers_cpus_ = allowed_cpus();  // last, as a new thread has what its maker has
  const int own = cpu_of(0);
  run_on({&own, 1});
}

ThreadTeam::~ThreadTeam() {
  stopping_ = true;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& t : workers_) t.join();
  if (!callers_cpus_.empty()) run_on(callers_cpus_);
}

void ThreadTeam::run_erased(Body body, const void* object) {
  body_ = body;
  object_ = object;
  unfinished_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  body(object, 0);
  for (;;) {
    const std::uint32_t left = unfinished_.load(std::memory_order_acquire);
    if (left == 0) return;
    wait_for_change(unfinished_, left, spin_pauses_);
  }
}

void ThreadTeam::work(int member) {
  std::uint32_t seen = 0;
  for (;;) {
    wait_for_change(epoch_, seen, spin_pauses_);
    ++seen;  // exactly one region at a time: run() returns only after every member finished
    if (stopping_) return;
    body_(object_, member);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_all();
  }
}

}  // namespace tg
