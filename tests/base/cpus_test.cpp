// Lists of CPUs, quotas, and what shares a core.
#include "base/cpus.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace tg {
namespace {

TEST(Cpus, ListsAreRead) {
  EXPECT_EQ(parse_cpu_list("0"), std::vector<int>{0});
  EXPECT_EQ(parse_cpu_list("0,2,4-7"), (std::vector<int>{0, 2, 4, 5, 6, 7}));
  EXPECT_EQ(parse_cpu_list("9,3-3,1"), (std::vector<int>{9, 3, 1}));  // in its order
  for (const char* wrong : {"", ",", "1,", ",1", "a", "1-", "-1", "4-2", "1 2", "1;2",
                            "99999999999", "0-99999999", "1.5", "none"}) {
    const auto cpus = parse_cpu_list(wrong);
    ASSERT_FALSE(cpus) << wrong;
    EXPECT_EQ(cpus.error().code, ErrorCode::kBadArgument);
  }
  EXPECT_EQ(parse_cpu_list("1,0-3").error().message, "CPU 1 is twice in the list");
}

TEST(Cpus, AreShownInRanges) {
  EXPECT_EQ(cpus_text({}), "");
  EXPECT_EQ(cpus_text(std::vector<int>{0, 1, 2, 3, 8}), "0-3, 8");
  EXPECT_EQ(cpus_text(std::vector<int>{4, 5, 1}), "4, 5, 1");
}

TEST(Cpus, QuotasOfBothVersions) {
  EXPECT_EQ(quota_of("200000 100000"), 2.0);
  EXPECT_EQ(quota_of("150000 100000"), 1.5);
  for (const char* none : {"max 100000", "-1 100000", "", " ", "100000"}) {
    EXPECT_EQ(quota_of(none), 0.0) << none;
  }
}

TEST(Cpus, OfThisMachine) {
  const std::vector<int> own = allowed_cpus();
  ASSERT_FALSE(own.empty());
  EXPECT_TRUE(std::is_sorted(own.begin(), own.end()));
  EXPECT_GE(available_cpus(), 1);
  EXPECT_LE(available_cpus(), static_cast<int>(own.size()));
  const int cores = physical_cores(own);
  EXPECT_GE(cores, 1);
  EXPECT_LE(cores, static_cast<int>(own.size()));
  std::vector<int> ordered = core_by_core(own);
  // The first so many are of as many cores.
  EXPECT_EQ(physical_cores(std::span(ordered).first(static_cast<std::size_t>(cores))), cores);
  std::sort(ordered.begin(), ordered.end());
  EXPECT_EQ(ordered, own);
}

}  // namespace
}  // namespace tg
