// What: how a server is asked to end: the first SIGTERM, SIGINT or SIGUSR1 for an orderly end, the
//   second one to cancel what is in progress, the third one to wait for nothing. Before it serves,
//   each ends the process as ever. SIGUSR1 is for jobs of several ranks: mpirun hands it on and
//   leaves the ranks their time, while after SIGTERM it kills them within a second. SIGHUP is one
//   of them when the terminal is gone, and nothing when a process sends it, as tools that rotate
//   logs do. A closed pipe behind a log is an error of the write, not a signal.
// Who owns: the serve command; one at a time. Thread: wait() on one, wake() from any.
#pragma once

#include <signal.h>

#include <array>

namespace tg {

class ServeSignals {
 public:
  ServeSignals();
  // What each signal did before.
  ~ServeSignals();
  ServeSignals(const ServeSignals&) = delete;
  ServeSignals& operator=(const ServeSignals&) = delete;

  // Signals are counted from now on and end nothing by themselves, but for the third one.
  static void start_counting();
  // Until the next signal or wake().
  static void wait();
  static void wake();

 private:
  static constexpr std::array kNumbers = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE};
  std::array<struct sigaction, kNumbers.size()> before_ = {};
};

}  // namespace tg
