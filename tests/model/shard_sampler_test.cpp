// Rows of logits cut into shards against sample() and score() of the whole rows.
#include "model/shard_sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace tg {
namespace {

using Random = std::mt19937_64;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::size_t below(Random& random, std::size_t n) { return static_cast<std::size_t>(random() % n); }
template <typename T>
T one_of(Random& random, std::initializer_list<T> values) {
  return values.begin()[below(random, values.size())];
}

// Everything an ask points to.
struct Case {
  std::int64_t vocab = 0;
  std::int64_t shard_ids = 0;  // of every shard; the last ones may have fewer or none
  std::int64_t shards = 0;
  std::vector<float> logits;
  SamplingParams params;
  std::vector<TokenId> prompt, output;
  std::vector<std::uint32_t> mask;
  RowAsk ask;

  Case(const Case&) = delete;
  Case& operator=(const Case&) = delete;

  explicit Case(Random& random) {
    vocab = 1 + static_cast<std::int64_t>(below(random, 300));
    shards = 1 + static_cast<std::int64_t>(below(random, 8));
    const std::int64_t panel = one_of<std::int64_t>(random, {1, 8, 32});
    shard_ids = ((vocab + panel - 1) / panel + shards - 1) / shards * panel;
    draw_logits(random);
    draw_params(random);
    draw_mask(random);
    for (std::size_t i = below(random, 40); i > 0; --i) prompt.push_back(any_id(random));
    for (std::size_t i = below(random, 40); i > 0; --i) output.push_back(any_id(random));
    ask.kind = below(random, 4) == 0 ? RowAsk::Kind::kScore : RowAsk::Kind::kSample;
    ask.params = &params;
    ask.context = {prompt, output, mask, random() % 1000};
    ask.next = static_cast<TokenId>(below(random, static_cast<std::size_t>(vocab)));
    ask.top_n = one_of<std::int32_t>(random, {-1, 0, 1, 5, 20, static_cast<std::int32_t>(vocab)});
  }

  std::int64_t first_of(std::int64_t shard) const { return std::min(shard * shard_ids, vocab); }
  std::span<float> shard_of(std::vector<float>& row, std::int64_t shard) const {
    const auto first = static_cast<std::size_t>(first_of(shard));
    return std::span(row).subspan(first, static_cast<std::size_t>(first_of(shard + 1)) - first);
  }
  std::string text() const {
    return fmt::format(
        "vocab {} in {} shards of {}, kind {}: temperature {} top_k {} top_p {} min_p {} top n {} "
        "{}",
        vocab, shards, shard_ids, static_cast<int>(ask.kind), params.temperature, params.top_k,
        params.top_p, params.min_p, params.top_logprobs, ask.top_n);
  }

 private:
  TokenId any_id(Random& random) const {  // some outside of the vocabulary
    return static_cast<TokenId>(below(random, static_cast<std::size_t>(vocab) + 4)) - 2;
  }
  void draw_logits(Random& random) {
    const std::size_t style = below(random, 5);
    std::normal_distribution<float> noise(0.0F, 3.0F);
    for (std::int64_t i = 0; i < vocab; ++i) {
      float x = noise(random);
      if (style == 0) x = 1.5F;                                           // all tied
      if (style == 1) x = static_cast<float>(below(random, 4));           // most are
      if (style == 2) x = static_cast<float>(below(random, 200)) / 8.0F;  // some are
      if (style == 3 && below(random, 20) == 0) x = one_of(random, {kNan, kForbidden});
      logits.push_back(x);
    }
  }
  void draw_params(Random& random) {
    params.temperature = one_of(random, {0.0, 0.001, 0.3, 0.7, 1.0, 2.0});
    params.top_k = one_of<std::int64_t>(random, {0, 1, 2, 5, 32, 100, vocab, -1, vocab - 1});
    params.top_p = one_of(random, {1.0, 1.0, 0.9, 0.5, 0.01, 0.0});
    params.min_p = one_of(random, {0.0, 0.0, 0.05, 0.7, 1.0});
    params.seed = random();
    if (below(random, 2) == 0) {
      params.repetition_penalty = one_of(random, {1.0, 1.3, 0.8});
      params.presence_penalty = one_of(random, {0.0, 0.5, -2.0});
      params.frequency_penalty = one_of(random, {0.0, 1.0, -0.25});
    }
    for (std::size_t i = below(random, 6); i > 0; --i) {
      params.logit_bias.emplace_back(any_id(random),
                                     one_of(random, {2.0F, -3.0F, kForbidden, 3e38F, -3e38F}));
    }
    params.top_logprobs =
        one_of<std::int32_t>(random, {-1, -1, 0, 1, 5, 40, static_cast<std::int32_t>(vocab)});
  }
  void draw_mask(Random& random) {
    const std::size_t style = below(random, 6);
    if (style > 3) return;
    mask.assign(static_cast<std::size_t>((vocab + 31) / 32), 0);
    if (style == 3) return;  // nothing is allowed
    const auto forbidden = static_cast<std::int64_t>(below(random, 8));
    for (std::int64_t id = 0; id < vocab; ++id) {
      bool allowed = true;
      if (style == 0) allowed = below(random, 2) == 0;
      if (style == 1) allowed = id / shard_ids != forbidden;  // a whole shard is not
      if (style == 2) allowed = below(random, 100) == 0;
      if (allowed) mask[static_cast<std::size_t>(id / 32)] |= 1U << (id % 32);
    }
  }
};

bool near_enough(float a, float b) {
  if (a == b) return true;
  return std::abs(a - b) <= std::max(1e-6F, 1.5e-7F * std::abs(a));  // or one bit
}

void expect_same(const SampledToken& got, const SampledToken& expected) {
  EXPECT_EQ(got.token, expected.token);
  EXPECT_TRUE(near_enough(got.logprob, expected.logprob)) << got.logprob << " " << expected.logprob;
  ASSERT_EQ(got.top.size(), expected.top.size());
  for (std::size_t i = 0; i < got.top.size(); ++i) {
    EXPECT_EQ(got.top[i].token, expected.top[i].token) << i;
    EXPECT_TRUE(near_enough(got.top[i].logprob, expected.top[i].logprob)) << i;
  }
}

SampledToken of_whole_row(const Case& c) {
  SamplerScratch scratch;
  std::vector<float> row = c.logits;
  if (c.ask.kind == RowAsk::Kind::kScore) return score(row, c.ask.next, c.ask.top_n, scratch);
  return sample(row, c.params, c.ask.context, scratch);
}

// The row's shards looked through one by one; leaves the adjusted row in `row`.
std::optional<SampledToken> of_shards(const Case& c, const ShardQuery& query,
                                      std::vector<float>& row, SamplerScratch& scratch) {
  constexpr std::int64_t kGap = 3;  // slots of other rows lie between
  constexpr float kUntouched = 12345.0F;
  const std::int64_t stride = query.floats() + kGap;
  std::vector<float> slots(static_cast<std::size_t>(c.shards * stride), kUntouched);
  for (std::int64_t s = c.shards - 1; s >= 0; --s) {
    const std::span<float> logits = c.shard_of(row, s);
    const auto first = static_cast<TokenId>(c.first_of(s));
    if (c.ask.kind == RowAsk::Kind::kSample) {
      adjust_logits(logits, first, c.params, c.ask.context, scratch);
    }
    fill_slot(c.ask, query, logits, first, scratch,
              std::span(slots).subspan(static_cast<std::size_t>(s * stride),
                                       static_cast<std::size_t>(query.floats())));
  }
  for (std::int64_t s = 0; s < c.shards; ++s) {
    EXPECT_EQ(slots[static_cast<std::size_t>((s + 1) * stride - kGap)], kUntouched);
  }
  return merge_slots(c.ask, query, {slots.data(), stride, c.shards}, c.vocab, scratch);
}

// Whether some shard has more ids at or above the row's top-k-th logit than it may list.
bool leaves_some_out(const Case& c, const ShardQuery& query, std::vector<float> row) {
  if (c.ask.kind == RowAsk::Kind::kScore || c.params.greedy()) return false;
  std::vector<float> sorted;
  for (const float x : row) {
    if (x > kForbidden) sorted.push_back(x);
  }
  std::sort(sorted.rbegin(), sorted.rend());
  const auto k = static_cast<std::size_t>(c.params.top_k);
  const float floor = k <= sorted.size() ? sorted[k - 1] : kForbidden;
  for (std::int64_t s = 0; s < c.shards; ++s) {
    const std::span<float> logits = c.shard_of(row, s);
    const auto n = std::count_if(logits.begin(), logits.end(),
                                 [floor](float x) { return x >= floor && x > kForbidden; });
    if (n > query.candidates) return true;
  }
  return false;
}

TEST(ShardSampler, ShardsChooseAsTheWholeRowDoes) {
  Random random(7);
  SamplerScratch scratch;  // used over and over
  int merged = 0, left_out = 0, whole = 0, forbidden = 0;
  for (int i = 0; i < 60000 && !::testing::Test::HasFailure(); ++i) {
    const Case c(random);
    SCOPED_TRACE(fmt::format("case {}: {}", i, c.text()));
    const auto query = query_of(c.ask, c.vocab, c.shard_ids);
    const bool any_may_win = c.ask.kind == RowAsk::Kind::kSample && !c.params.greedy() &&
                             (c.params.top_k <= 0 || c.params.top_k >= c.vocab);
    ASSERT_EQ(query.has_value(), !any_may_win);
    if (!query) {
      ++whole;
      continue;
    }
    const SampledToken expected = of_whole_row(c);
    std::vector<float> row = c.logits;
    const auto got = of_shards(c, *query, row, scratch);
    const bool allowed = largest_logit(row) > kForbidden;
    ASSERT_EQ(got.has_value(), !(allowed && leaves_some_out(c, *query, row)));
    if (got) {
      expect_same(*got, expected);
      ++merged;
      forbidden += allowed ? 0 : 1;
    } else {
      expect_same(choose(row, c.params, c.ask.context, scratch), expected);
      ++left_out;
    }
  }
  // All ways are gone often.
  EXPECT_GT(merged, 30000);
  EXPECT_GT(left_out, 1000);
  EXPECT_GT(whole, 5000);
  EXPECT_GT(forbidden, 3000);
}

RowAsk sample_ask(const SamplingParams& params) {
  RowAsk ask;
  ask.params = &params;
  return ask;
}

TEST(ShardSampler, QueriesAskForNoMoreThanNeeded) {
  SamplingParams params;
  params.top_k = 32;
  EXPECT_EQ(query_of(sample_ask(params), 1000, 125)->candidates, 1);  // greedy: temperature 0
  EXPECT_FALSE(query_of(sample_ask(params), 1000, 125)->log_sum);
  params.temperature = 0.7;
  EXPECT_EQ(query_of(sample_ask(params), 1000, 125)->candidates, 32);
  EXPECT_EQ(query_of(sample_ask(params), 1000, 16)->candidates, 16);  // a shard has no more
  params.top_logprobs = 40;
  EXPECT_EQ(query_of(sample_ask(params), 1000, 125)->candidates, 40);
  EXPECT_TRUE(query_of(sample_ask(params), 1000, 125)->log_sum);
  params.top_k = 0;
  EXPECT_FALSE(query_of(sample_ask(params), 1000, 125));
  params.top_p = 0.0;  // greedy again
  EXPECT_EQ(query_of(sample_ask(params), 1000, 125)->candidates, 40);

  RowAsk ask;
  ask.kind = RowAsk::Kind::kScore;
  EXPECT_EQ(query_of(ask, 1000, 125)->candidates, 0);
  ask.top_n = 3;
  EXPECT_EQ(query_of(ask, 1000, 125)->candidates, 3);
  ask.kind = RowAsk::Kind::kLogits;
  EXPECT_FALSE(query_of(ask, 1000, 125));
}

// Of 8 shards of a Llama 3 vocabulary; and where the slots would be no fewer bytes, or ids not f32.
TEST(ShardSampler, ShardsWhereTheyAreFewerBytes) {
  EXPECT_LT(ShardQuery{.candidates = 32}.floats() * 200, 16032);
  EXPECT_TRUE(worth_sharding({.candidates = 1}, 128256, 16032));
  EXPECT_TRUE(worth_sharding({.candidates = 8000}, 128256, 16032));
  EXPECT_FALSE(worth_sharding({.candidates = 8016}, 128256, 16032));
  EXPECT_TRUE(worth_sharding({.candidates = 1}, kMaxShardedVocab, kMaxShardedVocab / 8));
  EXPECT_FALSE(worth_sharding({.candidates = 1}, kMaxShardedVocab + 1, kMaxShardedVocab / 8));
}

// The largest id of all comes through a slot as it is.
TEST(ShardSampler, IdsAreExact) {
  constexpr auto kFirst = static_cast<TokenId>(kMaxShardedVocab - 3);
  const std::vector<float> logits = {0.0F, 1.0F, 2.0F};
  const SamplingParams params;
  const RowAsk ask = sample_ask(params);
  const ShardQuery query = *query_of(ask, kMaxShardedVocab, 3);
  SamplerScratch scratch;
  std::vector<float> slot(static_cast<std::size_t>(query.floats()));
  fill_slot(ask, query, logits, kFirst, scratch, slot);
  const auto got =
      merge_slots(ask, query, {slot.data(), query.floats(), 1}, kMaxShardedVocab, scratch);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->token, kFirst + 2);
}

}  // namespace
}  // namespace tg
