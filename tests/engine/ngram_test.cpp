// The index of a text's own runs of tokens, and what is proposed from it.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "engine/ngram_index.h"
#include "engine/ngram_proposer.h"
#include "engine/speculation_window.h"

namespace tg {
namespace {

// All places before the last token at which the last n tokens ended, the latest first.
std::vector<std::int32_t> places_by_hand(std::span<const TokenId> text, std::size_t n) {
  std::vector<std::int32_t> places;
  if (text.size() <= n) return places;
  const auto run = text.last(n);
  for (std::size_t end = text.size() - 1; end-- > n - 1;) {
    const auto other = text.subspan(end + 1 - n, n);
    if (std::equal(run.begin(), run.end(), other.begin())) {
      places.push_back(static_cast<std::int32_t>(end));
    }
  }
  return places;
}

TEST(NgramIndex, FindsEveryPlaceOfRandomTexts) {
  for (const std::int64_t vocab : {1, 2, 5, 40}) {
    for (const std::size_t n : {2U, 3U}) {
      std::mt19937_64 random(n);
      NgramIndex index(n);
      std::vector<TokenId> text;
      std::size_t found = 0;
      while (text.size() < 700) {
        // Sometimes several tokens at once, as after a prompt.
        for (std::uint64_t i = 0; i <= random() % 4; ++i) {
          text.push_back(static_cast<TokenId>(random() % static_cast<std::uint64_t>(vocab)));
        }
        index.extend(text);
        std::vector<std::int32_t> places;
        for (auto at = index.latest(text); at != NgramIndex::kNone; at = index.before(at)) {
          places.push_back(at);
        }
        EXPECT_EQ(places, places_by_hand(text, n));
        found += places.size();
      }
      EXPECT_GT(found, 2U);
    }
  }
}

TEST(NgramIndex, AnEmptyTextAndOneTokenHaveNothing) {
  NgramIndex index(2);
  index.extend({});
  EXPECT_EQ(index.latest({}), NgramIndex::kNone);
  const std::vector<TokenId> one = {5};
  index.extend(one);
  EXPECT_EQ(index.latest(one), NgramIndex::kNone);
}

std::vector<TokenId> proposed(Proposer& proposer, RequestId id, const std::vector<TokenId>& text,
                              std::int64_t most) {
  std::vector<TokenId> ids;
  const std::int64_t count = proposer.count(id, text, most);
  if (count == 0) return ids;
  ProposalAsk ask = {id, text, count, &ids};
  EXPECT_TRUE(proposer.propose({&ask, 1}));
  return ids;
}

TEST(NgramProposer, WhatFollowedBeforeIsProposedAgain) {
  NgramProposer proposer;
  const std::vector<TokenId> text = {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3};
  EXPECT_EQ(proposed(proposer, 1, text, 4), (std::vector<TokenId>{4, 5, 6, 7}));
  EXPECT_EQ(proposed(proposer, 2, {1, 2, 3, 4}, 4), std::vector<TokenId>{});
  EXPECT_EQ(proposed(proposer, 3, {9, 2, 3, 4, 7, 2, 3}, 1), std::vector<TokenId>{4});  // by two
}

TEST(NgramProposer, AShortPeriodGoesOn) {
  NgramProposer proposer;
  EXPECT_EQ(proposed(proposer, 1, {7, 7, 7}, 5), (std::vector<TokenId>{7, 7, 7, 7, 7}));
  EXPECT_EQ(proposed(proposer, 2, {1, 2, 3, 1, 2, 3}, 7),
            (std::vector<TokenId>{1, 2, 3, 1, 2, 3, 1}));
}

TEST(NgramProposer, WhatStandsBeforeSaysWhichPlaceItIs) {
  NgramProposer proposer;
  // "20 21 22" stood twice, the first time after "5 6" as now.
  EXPECT_EQ(proposed(proposer, 1, {5, 6, 20, 21, 22, 1, 8, 9, 20, 21, 22, 2, 5, 6, 20, 21, 22}, 1),
            std::vector<TokenId>{1});
  // Nothing tells them apart: the later one.
  EXPECT_EQ(proposed(proposer, 2, {5, 6, 20, 21, 22, 1, 8, 9, 20, 21, 22, 2, 3, 4, 20, 21, 22}, 1),
            std::vector<TokenId>{2});
}

TEST(NgramProposer, AUsersTextGrowsAndIsForgotten) {
  NgramProposer proposer;
  std::vector<TokenId> text = {1, 2, 3, 4};
  EXPECT_EQ(proposed(proposer, 1, text, 2), std::vector<TokenId>{});
  text.insert(text.end(), {1, 2, 3});
  EXPECT_EQ(proposed(proposer, 1, text, 2), (std::vector<TokenId>{4, 1}));
  EXPECT_EQ(proposed(proposer, 2, {8, 1, 2, 3}, 2), std::vector<TokenId>{});  // another user
  proposer.forget(1);
  EXPECT_EQ(proposed(proposer, 1, {5, 1, 2, 3}, 2), std::vector<TokenId>{});
}

TEST(SpeculationWindow, GrowsWithSuccessAndRestsAfterFailure) {
  SpeculationWindow window;
  EXPECT_EQ(window.size(8), 2);
  EXPECT_EQ(window.size(1), 1);
  window.record(2, 2);
  EXPECT_EQ(window.size(8), 4);
  window.record(1, 1);  // nothing against four
  EXPECT_EQ(window.size(8), 4);
  window.record(4, 4);
  EXPECT_EQ(window.size(8), 8);
  window.record(8, 2);
  EXPECT_EQ(window.size(8), 3);
  for (const int rest : {0, 1, 3, 7, 15, 15}) {
    window.record(window.size(8), 0);
    for (int i = 0; i < rest; ++i) {
      EXPECT_EQ(window.size(8), 0);
      window.pass();
    }
    EXPECT_EQ(window.size(8), 2);
  }
  window.record(1, 1);
  EXPECT_EQ(window.size(8), 2);
  window.record(2, 0);
  EXPECT_EQ(window.size(8), 2);
}

}  // namespace
}  // namespace tg
