// The ceilings: each instruction of this CPU runs and takes time in proportion to its rounds, and
// memory is read.
#include "kernels/ceilings.h"

#include <gtest/gtest.h>

#include <set>

#include "kernels/kernel_table.h"

namespace tg {
namespace {

TEST(Ceilings, EveryKernelTableHasItsInstruction) {
  std::set<std::string_view> names;
  for (const Ceiling& c : available_ceilings()) {
    EXPECT_TRUE(names.insert(c.name).second) << c.name;
  }
  for (const KernelTable* table : available_kernels()) {
    EXPECT_TRUE(table->name != "avx2" || names.contains("vfmadd231ps ymm"));
    EXPECT_TRUE(table->name != "avx512" || names.contains("vfmadd231ps zmm"));
    EXPECT_TRUE(table->name != "avx512bf16" || names.contains("vdpbf16ps zmm"));
    EXPECT_TRUE(table->name != "amx" || names.contains("tdpbf16ps"));
  }
}

TEST(Ceilings, RatesArePositiveAndOrdered) {
  ThreadTeam team(2);
  for (const Ceiling& c : available_ceilings()) {
    const RateSpread rate = measure(c, team, 0.02);
    EXPECT_GT(rate.median, 1e8) << c.name;
    EXPECT_GE(rate.best, rate.median) << c.name;
  }
}

TEST(Ceilings, MedianAndBestOfRates) {
  const RateSpread spread = spread_of({3.0, 1.0, 2.0, 9.0, 4.0});
  EXPECT_EQ(spread.median, 3.0);
  EXPECT_EQ(spread.best, 9.0);
}

TEST(ReadSpeed, AnySizeAndTeamIsRead) {
  for (const int threads : {1, 3}) {
    ThreadTeam team(threads);
    auto reads = ReadSpeed::create((std::size_t{3} << 20) + 4096, team);
    ASSERT_TRUE(reads);
    reads->choose_pattern(team);
    EXPECT_GE(reads->pattern().streams, 1);
    const RateSpread rate = reads->measure(team, 0.01);
    EXPECT_GT(rate.median, 1e7);
    EXPECT_GE(rate.best, rate.median);
  }
}

}  // namespace
}  // namespace tg
