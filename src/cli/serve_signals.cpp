#include "cli/serve_signals.h"

#include <semaphore.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

namespace tg {
namespace {

constexpr int kEndAtOnce = 3;  // the second one was obeyed by then, and something hangs

// All that a handler may use: a number and a semaphore.
std::atomic<int> signals_counted = -1;  // -1: not counting
static_assert(std::atomic<int>::is_always_lock_free);
sem_t signal_came;

void on_serve_signal(int number, siginfo_t* info, void* /*context*/) {
  if (number == SIGHUP && info->si_code != SI_KERNEL) return;
  const int saved = errno;
  if (signals_counted.load() < 0) ::_exit(128 + number);
  if (signals_counted.fetch_add(1) + 1 >= kEndAtOnce) ::_exit(128 + number);
  ::sem_post(&signal_came);
  errno = saved;
}

}  // namespace

ServeSignals::ServeSignals() {
  ::sem_init(&signal_came, 0, 0);
  signals_counted.store(-1);
  struct sigaction action = {};
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kNumbers.size(); ++i) {
    const int number = kNumbers[i];
    sigaction(number, nullptr, &before_[i]);
    // Whoever started this in the background or with nohup wants it to go on.
    const bool stays = (number == SIGINT || number == SIGHUP) && before_[i].sa_handler == SIG_IGN;
    if (number == SIGPIPE || stays) {
      action.sa_flags = 0;
      action.sa_handler = SIG_IGN;
    } else {
      action.sa_flags = SA_RESTART | SA_SIGINFO;
      action.sa_sigaction = on_serve_signal;
    }
    sigaction(number, &action, nullptr);
  }
}

ServeSignals::~ServeSignals() {
  for (std::size_t i = 0; i < kNumbers.size(); ++i) {
    sigaction(kNumbers[i], &before_[i], nullptr);
  }
  ::sem_destroy(&signal_came);
}

void ServeSignals::start_counting() { signals_counted.store(0); }

void ServeSignals::wait() {
  while (::sem_wait(&signal_came) != 0 && errno == EINTR) {
  }
}

void ServeSignals::wake() { ::sem_post(&signal_came); }

}  // namespace tg
