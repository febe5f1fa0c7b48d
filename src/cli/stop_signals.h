// What: while this lives, signals that would end the process ask for an orderly end instead, so
// that
//   no partial file stays; and a file that grows past the process's limit is an error, not a
//   signal.
// Who owns: a command that writes large files; one at a time. Thread: received() from any.
#pragma once

#include <signal.h>

#include <array>

namespace tg {

class StopSignals {
 public:
  StopSignals();
  // What each signal did before.
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // The number of the first signal that asked for an end; 0 for none.
  static int received();

 private:
  static constexpr std::array kNumbers = {SIGINT, SIGTERM, SIGHUP, SIGXFSZ};
  std::array<struct sigaction, kNumbers.size()> before_ = {};
};

}  // namespace tg
