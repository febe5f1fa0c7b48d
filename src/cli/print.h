// What: printing that does not throw when the other end is gone or full. Whether all of stdout
//   arrived is asked once, at the end of the program (run_command_line).
// Who owns: nothing. Thread: the main thread.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

namespace tg {

inline void print_text(std::FILE* file, const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), file);
}

// To stdout.
template <typename... Args>
void print_out(fmt::format_string<Args...> format, Args&&... args) {
  print_text(stdout, fmt::format(format, std::forward<Args>(args)...));
}

// To stderr.
template <typename... Args>
void print_error(fmt::format_string<Args...> format, Args&&... args) {
  print_text(stderr, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tg
