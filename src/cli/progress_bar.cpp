#include "cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "cli/print.h"

namespace tg {

ProgressBar::ProgressBar(std::string what)
    : what_(std::move(what)), on_terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (shown_) print_error("\r\x1b[K");
}

void ProgressBar::show(std::int64_t done, std::int64_t total) {
  if (!on_terminal_ || total <= 0) return;
  const auto now = std::chrono::steady_clock::now();
  // Ten times a second is as fast as anyone reads.
  if (shown_ && done < total && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  shown_ = true;
  constexpr std::int64_t kWidth = 40;
  const auto filled = static_cast<std::size_t>(kWidth * done / total);
  print_error("\r{} [{}{}] {:3} %", what_, std::string(filled, '#'),
              std::string(static_cast<std::size_t>(kWidth) - filled, ' '), 100 * done / total);
  std::fflush(stderr);
}

}  // namespace tg
