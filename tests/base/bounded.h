// What: for the tests of what hostile input costs: the processor time and the memory that something
//   took, with limits that are wide enough for a slow machine and a sanitizer.
// Who owns: the test. Thread: one.
#pragma once

#include <gtest/gtest.h>

#include <ctime>
#include <fstream>
#include <string>

#if defined(__has_feature)
#define TG_HAS_FEATURE(name) __has_feature(name)
#else
#define TG_HAS_FEATURE(name) 0
#endif

namespace tg {

class Bounded {
 public:
  // The kernel keeps the highest memory since the last "5" here.
  Bounded() {
    std::ofstream("/proc/self/clear_refs") << "5";
    before_ = highest_memory();
  }

  void expect_within(double seconds, std::size_t mebibytes, const std::string& what) const {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    TG_HAS_FEATURE(address_sanitizer) || TG_HAS_FEATURE(thread_sanitizer)
    constexpr int kSlower = 20;
#else
    constexpr int kSlower = 1;
#endif
    const double took = static_cast<double>(std::clock() - begin_) / CLOCKS_PER_SEC;
    EXPECT_LT(took, kSlower * seconds) << what;
    EXPECT_LT(highest_memory(), before_ + kSlower * (mebibytes << 20)) << what;
  }

 private:
  static std::size_t highest_memory() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6)) << 10;
    }
    return 0;
  }

  std::clock_t begin_ = std::clock();
  std::size_t before_ = 0;
};

}  // namespace tg
