// The index of pages by what they hold, and the pages of a domain with it.
#include "engine/prefix_index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "engine/engine_calls.h"
#include "engine/kv_pages.h"

namespace tg {
namespace {

using test::prompt_of;
using Tokens = std::vector<TokenId>;

constexpr PageId kNone = PrefixIndex::kNone;

TEST(PrefixIndex, FindsWhatWasAddedBehindItsParentOnly) {
  PrefixIndex index(8, 2);
  EXPECT_EQ(index.find(kNone, Tokens{1, 2}), kNone);
  index.add(5, kNone, Tokens{1, 2});
  index.add(3, 5, Tokens{1, 2});
  index.add(0, 3, Tokens{7, 8});
  EXPECT_EQ(index.find(kNone, Tokens{1, 2}), 5);
  EXPECT_EQ(index.find(5, Tokens{1, 2}), 3);
  EXPECT_EQ(index.find(3, Tokens{7, 8}), 0);
  EXPECT_EQ(index.find(kNone, Tokens{2, 1}), kNone);
  EXPECT_EQ(index.find(5, Tokens{7, 8}), kNone);
  EXPECT_EQ(index.find(kNone, Tokens{7, 8}), kNone);
  EXPECT_EQ(index.entries(), 3);
  EXPECT_TRUE(index.remove(0));
  EXPECT_FALSE(index.remove(0));
  EXPECT_EQ(index.find(3, Tokens{7, 8}), kNone);
  EXPECT_TRUE(index.remove(3));
  EXPECT_TRUE(index.remove(5));
  EXPECT_EQ(index.entries(), 0);
}

TEST(PrefixIndexDeathTest, AParentStays) {
  PrefixIndex index(4, 1);
  index.add(0, kNone, Tokens{1});
  index.add(1, 0, Tokens{1});
  EXPECT_DEATH(index.remove(0), "children");
  EXPECT_DEATH(index.add(1, 0, Tokens{2}), "contains");
  EXPECT_DEATH(static_cast<void>(index.find(2, Tokens{1})), "contains");
}

// Against a plain map from whole texts to pages, with few and short texts so that buckets, chains
// and parents are hit all the time.
TEST(PrefixIndex, EqualsAMapOfWholeTexts) {
  std::mt19937_64 random(1);
  PrefixIndex index(40, 2);
  std::map<Tokens, PageId> pages;  // a text of n blocks -> the page of its last
  std::map<PageId, Tokens> texts;
  for (int move = 0; move < 20000; ++move) {
    Tokens text;
    PageId parent = kNone;
    for (;;) {  // down from the beginning, as far as it goes or chance wants
      const Tokens block = {static_cast<TokenId>(random() % 2), static_cast<TokenId>(random() % 2)};
      const PageId found = index.find(parent, block);
      text.insert(text.end(), block.begin(), block.end());
      const auto expected = pages.find(text);
      ASSERT_EQ(found, expected == pages.end() ? kNone : expected->second);
      if (found != kNone && random() % 4 != 0) {
        parent = found;
        continue;
      }
      const auto page = static_cast<PageId>(random() % 40);
      if (found == kNone && !texts.contains(page)) {
        index.add(page, parent, block);
        pages[text] = page;
        texts[page] = text;
      }
      break;
    }
    const auto victim = static_cast<PageId>(random() % 40);
    const auto known = texts.find(victim);
    if (known == texts.end()) {
      ASSERT_FALSE(index.remove(victim));
      continue;
    }
    const auto behind = std::next(pages.find(known->second));
    const bool is_parent =
        behind != pages.end() && behind->first.size() > known->second.size() &&
        std::equal(known->second.begin(), known->second.end(), behind->first.begin());
    if (is_parent) continue;
    ASSERT_TRUE(index.remove(victim));
    pages.erase(known->second);
    texts.erase(known);
  }
  EXPECT_EQ(index.entries(), std::ssize(pages));
}

std::span<const TokenId> first(const Tokens& tokens, std::size_t count) {
  return std::span(tokens).first(count);
}

TEST(KvPages, FullPagesStayFindableUntilHandedOut) {
  KvPages pages(6, 4, true);
  const Tokens text = prompt_of(14, 1);
  PageTable table, other;
  ASSERT_TRUE(pages.allocate(4, table));
  EXPECT_EQ(pages.publish(first(text, 7), 0, table), 1);
  EXPECT_EQ(pages.publish(first(text, 14), 1, table), 3);
  EXPECT_EQ(pages.find(text).pages, 3);
  EXPECT_EQ(pages.find(text).free_pages, 0);
  EXPECT_EQ(pages.find(first(text, 11)).pages, 2);
  pages.release(table);
  EXPECT_EQ(pages.free_pages(), 6);
  EXPECT_EQ(pages.find(text).free_pages, 3);
  ASSERT_TRUE(pages.allocate(3, other));  // those that nobody wants
  EXPECT_EQ(pages.find(text).pages, 3);
  ASSERT_TRUE(pages.allocate(1, other));  // then the end of the text
  EXPECT_EQ(pages.find(text).pages, 2);
  EXPECT_EQ(pages.evictions(), 1);
  pages.share(text, 2, table);
  EXPECT_EQ(pages.free_pages(), 0);
  EXPECT_EQ(pages.find(text).free_pages, 0);
  EXPECT_FALSE(pages.allocate(1, other));
  pages.release(table);
  ASSERT_TRUE(pages.allocate(2, other));
  EXPECT_EQ(pages.find(text).pages, 0);
  EXPECT_EQ(pages.findable_pages(), 0);
}

TEST(KvPages, TheLeastRecentlyUsedGoesFirst) {
  KvPages pages(4, 2, true);
  const std::vector<Tokens> texts = {{1, 1}, {2, 2}, {3, 3}, {4, 4}};
  for (const Tokens& text : texts) {
    PageTable table;
    ASSERT_TRUE(pages.allocate(1, table));
    EXPECT_EQ(pages.publish(text, 0, table), 1);
    pages.release(table);
  }
  PageTable used, table;
  pages.share(texts[0], 1, used);  // a use makes it the youngest
  pages.release(used);
  for (const std::size_t next : {1U, 2U, 3U, 0U}) {
    EXPECT_EQ(pages.find(texts[next]).pages, 1);
    ASSERT_TRUE(pages.allocate(1, table));
    EXPECT_EQ(pages.find(texts[next]).pages, 0);
  }
}

TEST(KvPages, TwoWhoComputedTheSameEndUpWithOnePage) {
  KvPages pages(6, 2, true);
  const Tokens text = {1, 2, 3, 4, 5};
  PageTable a, b;
  ASSERT_TRUE(pages.allocate(3, a));
  ASSERT_TRUE(pages.allocate(3, b));
  EXPECT_EQ(pages.publish(text, 0, a), 2);
  EXPECT_EQ(pages.publish(text, 0, b), 2);
  EXPECT_EQ(b[0], a[0]);
  EXPECT_EQ(b[1], a[1]);
  EXPECT_NE(b[2], a[2]);
  EXPECT_EQ(pages.free_pages(), 2);
  pages.start_counting();
  EXPECT_EQ(pages.seen_before(a), 0);
  EXPECT_EQ(pages.seen_before(b), 2);
  pages.start_counting();
  EXPECT_EQ(pages.seen_before(b), 0);
  pages.release(a);
  EXPECT_EQ(pages.free_pages(), 3);
  EXPECT_EQ(pages.find(text).free_pages, 0);
  pages.release(b);
  EXPECT_EQ(pages.free_pages(), 6);
}

TEST(KvPages, WithoutTheCacheNothingIsFound) {
  KvPages pages(2, 2, false);
  PageTable table;
  ASSERT_TRUE(pages.allocate(2, table));
  EXPECT_EQ(pages.publish(Tokens{1, 2, 3, 4}, 0, table), 0);
  EXPECT_EQ(pages.find(Tokens{1, 2, 3, 4}).pages, 0);
  EXPECT_EQ(pages.seen_before(table), 0);
  pages.release(table);
  EXPECT_EQ(pages.free_pages(), 2);
  EXPECT_EQ(pages.findable_pages(), 0);
}

}  // namespace
}  // namespace tg
