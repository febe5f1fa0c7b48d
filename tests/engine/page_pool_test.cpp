#include "engine/page_pool.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>

namespace tg {
namespace {

TEST(PagePool, AscendingOrSeededOrder) {
  PagePool plain(5);
  PageTable table;
  ASSERT_TRUE(plain.allocate(5, table));
  EXPECT_EQ(table, (PageTable{0, 1, 2, 3, 4}));

  PageTable first, again, other;
  PagePool a(100, 7), b(100, 7), c(100, 8);
  ASSERT_TRUE(a.allocate(100, first));
  ASSERT_TRUE(b.allocate(100, again));
  ASSERT_TRUE(c.allocate(100, other));
  EXPECT_EQ(first, again);
  EXPECT_NE(first, other);
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
  EXPECT_EQ(std::set<PageId>(first.begin(), first.end()).size(), 100U);
}

TEST(PagePool, AllOrNothing) {
  PagePool pool(3);
  PageTable table;
  ASSERT_TRUE(pool.allocate(2, table));
  EXPECT_FALSE(pool.allocate(2, table));
  EXPECT_EQ(table.size(), 2U);
  EXPECT_EQ(pool.free_pages(), 1);
  EXPECT_TRUE(pool.allocate(0, table));
  pool.release(table);
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(pool.free_pages(), 3);
}

TEST(PagePoolDeathTest, ReleasingTwiceOrAStrangerIsOurMistake) {
  PagePool pool(3);
  PageTable table;
  ASSERT_TRUE(pool.allocate(1, table));
  PageTable copy = table;
  pool.release(table);
  EXPECT_DEATH(pool.release(copy), "holders");
  PageTable stranger = {3};
  EXPECT_DEATH(pool.release(stranger), "holders");
  PageTable negative = {-1};
  EXPECT_DEATH(pool.release(negative), "holders");
}

TEST(PagePool, APageIsFreeWhenNobodyHoldsIt) {
  PagePool pool(2);
  PageTable first, second;
  ASSERT_TRUE(pool.allocate(1, first));
  pool.share(first[0]);
  second = first;
  EXPECT_EQ(pool.holders(first[0]), 2);
  pool.release(first);
  EXPECT_EQ(pool.free_pages(), 1);
  pool.release(second);
  EXPECT_EQ(pool.free_pages(), 2);
  pool.share(0);  // a free one: its contents are still there
  EXPECT_EQ(pool.free_pages(), 1);
  ASSERT_TRUE(pool.allocate(1, second));
  EXPECT_EQ(second[0], 1);
  EXPECT_FALSE(pool.allocate(1, second));
  pool.release(0);
  EXPECT_EQ(pool.free_pages(), 1);
}

TEST(PagePool, KeptPagesGoLastTheOldestFirst) {
  PagePool pool(5);
  PageTable table;
  ASSERT_TRUE(pool.allocate(5, table));
  for (const PageId page : {1, 3, 4}) pool.keep(page);
  pool.release(3);
  pool.release(0);
  pool.release(1);
  pool.release(2);
  pool.release(4);
  table.clear();
  ASSERT_TRUE(pool.allocate(5, table));
  EXPECT_EQ(table, (PageTable{2, 0, 3, 1, 4}));
  pool.release(table);  // handed out: nothing is kept any more
  ASSERT_TRUE(pool.allocate(5, table));
  EXPECT_EQ(table, (PageTable{2, 0, 3, 1, 4}));
}

TEST(PagesFor, RoundsUp) {
  EXPECT_EQ(pages_for(0, 16), 0);
  EXPECT_EQ(pages_for(1, 16), 1);
  EXPECT_EQ(pages_for(16, 16), 1);
  EXPECT_EQ(pages_for(17, 16), 2);
}

// Any sequence of takes and gives: no page is in two tables, and none is lost.
RC_GTEST_PROP(PagePool, NoPageTwiceAndNoneLost, ()) {
  const auto size = *rc::gen::inRange<std::int64_t>(1, 40);
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  PagePool pool(size, seed);
  std::vector<PageTable> tables(4);
  const auto moves = *rc::gen::container<std::vector<std::pair<std::size_t, std::int64_t>>>(
      rc::gen::pair(rc::gen::inRange<std::size_t>(0, 4), rc::gen::inRange<std::int64_t>(-1, 12)));
  for (const auto& [who, count] : moves) {
    if (count < 0) {
      pool.release(tables[who]);
    } else {
      const bool fits = count <= pool.free_pages();
      RC_ASSERT(pool.allocate(count, tables[who]) == fits);
    }
    std::set<PageId> taken;
    std::size_t held = 0;
    for (const PageTable& table : tables) {
      held += table.size();
      taken.insert(table.begin(), table.end());
    }
    RC_ASSERT(taken.size() == held);
    RC_ASSERT(pool.free_pages() + static_cast<std::int64_t>(held) == pool.size());
  }
}

}  // namespace
}  // namespace tg
