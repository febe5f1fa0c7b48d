// What: one line on stderr that shows how far a long job is; nothing when stderr is not a terminal.
// Who owns: the command that runs the job. Thread: one caller at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace tg {

class ProgressBar {
 public:
  explicit ProgressBar(std::string what);
  // Removes the line.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void show(std::int64_t done, std::int64_t total);

 private:
  std::string what_;
  bool on_terminal_ = false;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace tg
