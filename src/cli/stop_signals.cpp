#include "cli/stop_signals.h"

#include <atomic>
#include <cstddef>

namespace tg {
namespace {

// All that a handler may do is to leave the number here.
std::atomic<int> first_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);

void on_stop(int number) {
  int none = 0;
  first_signal.compare_exchange_strong(none, number);
}

}  // namespace

int StopSignals::received() { return first_signal.load(); }

StopSignals::StopSignals() {
  struct sigaction action = {};
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kNumbers.size(); ++i) {
    action.sa_handler = kNumbers[i] == SIGXFSZ ? SIG_IGN : on_stop;
    sigaction(kNumbers[i], nullptr, &before_[i]);
    // Who started this with the signal ignored (nohup) wants it to go on.
    if (before_[i].sa_handler != SIG_IGN) sigaction(kNumbers[i], &action, nullptr);
  }
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < kNumbers.size(); ++i) {
    sigaction(kNumbers[i], &before_[i], nullptr);
  }
}

}  // namespace tg
