#include "model/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <set>
#include <string>

namespace tg {
namespace {

using Json = nlohmann::json;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kLlamaVocab = 128256;

Json read_json(const std::string& path) {
  std::ifstream file(std::string(TG_SOURCE_DIR "/tests/golden/") + path);
  EXPECT_TRUE(file.good()) << path;
  return Json::parse(file);
}

SampledToken sample_copy(std::vector<float> logits, const SamplingParams& params,
                         const SamplingContext& context = {}) {
  SamplerScratch scratch;
  return sample(logits, params, context, scratch);
}

SamplingParams with(const std::function<void(SamplingParams&)>& change) {
  SamplingParams params;
  params.temperature = 1.0;
  change(params);
  return params;
}

// What a language model's row looks like: a few strong logits over a broad noise.
std::vector<float> random_logits(std::int64_t vocab, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> noise(0.0F, 2.5F);
  std::vector<float> logits(static_cast<std::size_t>(vocab));
  for (float& x : logits) x = noise(random);
  for (int i = 0; i < 40; ++i) {
    logits[random() % logits.size()] += 6.0F + 0.2F * static_cast<float>(i);
  }
  return logits;
}

// The golden file: the README of the oracle says how it was made and what it leaves open.
class SamplingGolden : public ::testing::Test {
 protected:
  struct Case {
    std::string label;
    std::vector<float> logits;
    SamplingParams params;
    std::map<TokenId, double> expected;
    bool border = false;
    bool tie_dependent = false;
  };

  void SetUp() override {
    const Json file = read_json("sampling.json");
    prompt_ = file.at("prompt_ids").get<std::vector<TokenId>>();
    output_ = file.at("output_ids").get<std::vector<TokenId>>();
    for (const Json& entry : file.at("cases")) {
      Case c;
      c.label = entry.at("logits").get<std::string>() + " " + entry.at("params").dump();
      for (const Json& x : file.at("logits").at(entry.at("logits").get<std::string>())) {
        c.logits.push_back(x.is_null() ? kMinusInfinity : static_cast<float>(x.get<double>()));
      }
      const Json& p = entry.at("params");
      c.params.temperature = p.at("temperature").get<double>();
      c.params.top_k = p.at("top_k").get<std::int64_t>();
      c.params.top_p = p.at("top_p").get<double>();
      c.params.min_p = p.at("min_p").get<double>();
      c.params.repetition_penalty = p.at("repetition_penalty").get<double>();
      c.params.presence_penalty = p.at("presence_penalty").get<double>();
      c.params.frequency_penalty = p.at("frequency_penalty").get<double>();
      for (const auto& [id, probability] : entry.at("vllm").items()) {
        c.expected[static_cast<TokenId>(std::stol(id))] = probability.get<double>();
      }
      c.border = entry.value("border_case", false);
      c.tie_dependent = entry.value("tie_dependent", false);
      if (!c.tie_dependent && !c.params.greedy() && cut_between_equals(c)) {
        c.tie_dependent = true;
        ++unmarked_ties_;
      }
      cases_.push_back(std::move(c));
    }
  }

  // The file marks ties for its rows "ties" and "flat" only, but ids 0 and 29 of "base" are equal
  // as well. The references keep the higher id of equals at a top-p cut, we keep the lower one.
  bool cut_between_equals(const Case& c) const {
    const auto penalised = [&](TokenId id) {
      return std::count(prompt_.begin(), prompt_.end(), id) +
                 std::count(output_.begin(), output_.end(), id) >
             0;
    };
    for (const auto& [kept, probability] : c.expected) {
      for (std::size_t i = 0; i < c.logits.size(); ++i) {
        const auto other = static_cast<TokenId>(i);
        if (c.logits[i] == c.logits[static_cast<std::size_t>(kept)] && probability > 1e-9 &&
            !c.expected.contains(other) && !penalised(kept) && !penalised(other)) {
          return true;
        }
      }
    }
    return false;
  }

  SamplingContext context() const {
    SamplingContext context;
    context.prompt = prompt_;
    context.output = output_;
    return context;
  }

  int unmarked_ties_ = 0;
  std::vector<TokenId> prompt_, output_;
  std::vector<Case> cases_;
};

TEST_F(SamplingGolden, EveryDistribution) {
  ASSERT_EQ(cases_.size(), 255U);
  int compared = 0;
  for (const Case& c : cases_) {
    const std::vector<double> got = distribution(c.logits, c.params, context());
    ASSERT_EQ(got.size(), c.logits.size());
    EXPECT_NEAR(std::accumulate(got.begin(), got.end(), 0.0), 1.0, 1e-9) << c.label;
    if (c.border) continue;  // the cut falls on a rounding: both sides are right
    ++compared;
    if (c.tie_dependent) {  // which of the equal tokens stays is ours to say
      std::vector<double> sorted_got, sorted_expected;
      for (const double p : got) {
        if (p > 0.0) sorted_got.push_back(p);
      }
      for (const auto& [id, p] : c.expected) sorted_expected.push_back(p);
      std::sort(sorted_got.begin(), sorted_got.end());
      std::sort(sorted_expected.begin(), sorted_expected.end());
      ASSERT_EQ(sorted_got.size(), sorted_expected.size()) << c.label;
      for (std::size_t i = 0; i < sorted_got.size(); ++i) {
        EXPECT_NEAR(sorted_got[i], sorted_expected[i], 1e-6) << c.label;
      }
      continue;
    }
    for (std::size_t id = 0; id < got.size(); ++id) {
      const auto found = c.expected.find(static_cast<TokenId>(id));
      EXPECT_EQ(got[id] > 0.0, found != c.expected.end()) << c.label << " id " << id;
      if (found != c.expected.end()) {
        EXPECT_NEAR(got[id], found->second, 1e-6) << c.label << " id " << id;
      }
    }
  }
  EXPECT_EQ(compared, 241);
  EXPECT_EQ(unmarked_ties_, 1);
}

// Each draw is the token whose slice of the cumulative distribution holds the uniform number.
TEST_F(SamplingGolden, SampleDrawsFromDistribution) {
  SamplerScratch scratch;
  for (Case& c : cases_) {
    const std::vector<double> probabilities = distribution(c.logits, c.params, context());
    for (std::uint64_t index = 0; index < 40; ++index) {
      SamplingContext at = context();
      at.token_index = index;
      c.params.seed = 7 * index + 1;
      std::vector<float> logits = c.logits;
      const SampledToken got = sample(logits, c.params, at, scratch);
      const double u = uniform_draw(c.params.seed, index);
      double below = 0.0;
      for (TokenId id = 0; id < got.token; ++id) {
        below += probabilities[static_cast<std::size_t>(id)];
      }
      const double own = probabilities[static_cast<std::size_t>(got.token)];
      ASSERT_GT(own, 0.0) << c.label;
      EXPECT_LE(below, u + 1e-12) << c.label;
      EXPECT_GE(below + own, u - 1e-12) << c.label;
    }
  }
}

TEST(Sampler, TiesGoToTheLowestId) {
  std::vector<float> logits = {1.0F, 5.0F, 2.0F, 5.0F, 5.0F};
  EXPECT_EQ(sample_copy(logits, SamplingParams{}).token, 1);
  EXPECT_EQ(sample_copy(logits, with([](auto& p) { p.top_p = 0.0; })).token, 1);
  const std::vector<double> nucleus =
      distribution(logits, with([](auto& p) { p.top_p = 0.5; }), {});
  EXPECT_GT(nucleus[1], 0.0);
  EXPECT_GT(nucleus[3], 0.0);
  EXPECT_EQ(nucleus[4], 0.0);
  // The vector part of the search for the largest must keep the rule at every place.
  for (std::size_t first = 0; first < 70; ++first) {
    std::vector<float> row(71, 0.0F);
    row[first] = row[70] = 1.0F;
    EXPECT_EQ(sample_copy(row, SamplingParams{}).token, static_cast<TokenId>(first));
  }
}

TEST(Sampler, GreedyAfterPenaltiesAndBias) {
  const std::vector<float> logits = {3.0F, 2.9F, -1.0F};
  SamplingParams params;
  params.repetition_penalty = 1.1;
  const std::vector<TokenId> prompt = {0};
  SamplingContext context;
  context.prompt = prompt;
  EXPECT_EQ(sample_copy(logits, params, context).token, 1);
  params.repetition_penalty = 1.0;
  params.presence_penalty = 0.2;  // looks at the output only
  EXPECT_EQ(sample_copy(logits, params, context).token, 0);
  context.output = prompt;
  EXPECT_EQ(sample_copy(logits, params, context).token, 1);
  params.logit_bias = {{2, 100.0F}};
  EXPECT_EQ(sample_copy(logits, params, context).token, 2);
  params.logit_bias = {{2, 100.0F}, {2, kMinusInfinity}};
  EXPECT_EQ(sample_copy(logits, params, context).token, 1);
}

TEST(Sampler, ScratchLeavesNoTraceOfTheRowBefore) {
  SamplerScratch scratch;
  SamplingParams params;
  params.repetition_penalty = 1.5;
  params.frequency_penalty = 1.0;
  const std::vector<TokenId> text = {0, 0, 1, 99, -5};  // ids outside are skipped, not read
  SamplingContext context;
  context.prompt = text;
  context.output = text;
  std::vector<float> logits = {5.0F, 4.0F, 3.9F};
  EXPECT_EQ(sample(logits, params, context, scratch).token, 2);
  EXPECT_TRUE(std::all_of(scratch.counts.begin(), scratch.counts.end(),
                          [](std::uint32_t n) { return n == 0; }));
  logits = {5.0F, 4.0F, 3.9F};
  EXPECT_EQ(sample(logits, params, {}, scratch).token, 0);
}

TEST(Sampler, MaskLeavesOnlyAllowedIds) {
  const std::vector<float> logits = random_logits(1000, 3);
  std::vector<std::uint32_t> allowed(1000 / 32 + 1, 0);
  for (const std::size_t id : {5U, 500U, 999U}) allowed[id / 32] |= 1U << (id % 32);
  SamplingContext context;
  context.allowed = allowed;
  SamplingParams params = with([](auto& p) { p.top_logprobs = 5; });
  std::set<TokenId> seen;
  for (std::uint64_t i = 0; i < 300; ++i) {
    params.seed = i;
    const SampledToken got = sample_copy(logits, params, context);
    seen.insert(got.token);
    ASSERT_EQ(got.top.size(), 5U);
    double mass = 0.0;
    for (std::size_t k = 0; k < 3; ++k) mass += std::exp(static_cast<double>(got.top[k].logprob));
    EXPECT_NEAR(mass, 1.0, 1e-6);
    EXPECT_EQ(got.top[3].token, 0);  // forbidden ids fill up, lowest first
    EXPECT_EQ(got.top[3].logprob, kMinusInfinity);
  }
  for (const TokenId id : seen) EXPECT_TRUE(id == 5 || id == 500 || id == 999);
  context.allowed = std::span(allowed).first(2);  // ids past a short mask are forbidden
  EXPECT_EQ(sample_copy(logits, params, context).token, 5);
  allowed.assign(allowed.size(), 0);
  const SampledToken none = sample_copy(logits, SamplingParams{}, context);
  EXPECT_EQ(none.token, 0);
  EXPECT_EQ(none.logprob, kMinusInfinity);
}

TEST(Sampler, ExtremeNumbersStayNumbers) {
  const float huge = std::numeric_limits<float>::max();
  const std::vector<std::vector<float>> rows = {
      {huge, -huge, 0.0F, kMinusInfinity},
      {std::numeric_limits<float>::infinity(), 1.0F, 0.0F, 0.0F},
      {std::numeric_limits<float>::quiet_NaN(), 1.0F, 0.0F, kMinusInfinity},
      {-huge, -huge, -huge, kMinusInfinity},
      {1e-38F, 0.0F, -1e-38F, 88.0F},
  };
  for (const std::vector<float>& row : rows) {
    for (const double temperature : {0.0, 1e-12, 1e-6, 1e-4, 0.01, 1.0, 2.0}) {
      SamplingParams params;
      params.temperature = temperature;
      params.top_p = 0.9;
      params.min_p = 0.1;
      params.repetition_penalty = 0.01;
      params.frequency_penalty = -2.0;
      params.logit_bias = {{1, huge}, {2, -huge}};
      params.top_logprobs = 4;
      const std::vector<TokenId> output = {0, 1, 1};
      SamplingContext context;
      context.output = output;
      const SampledToken got = sample_copy(row, params, context);
      EXPECT_TRUE(std::isfinite(got.logprob));
      ASSERT_EQ(got.top.size(), 4U);
      for (const TokenLogprob& t : got.top) EXPECT_FALSE(std::isnan(t.logprob));
      for (const double p : distribution(row, params, context)) EXPECT_TRUE(std::isfinite(p));
      SamplerScratch scratch;
      for (TokenId next = 0; next < 4; ++next) {
        EXPECT_FALSE(std::isnan(score(row, next, 2, scratch).logprob));
      }
    }
  }
}

TEST(Sampler, LogprobsOverTheWholeVocabularyAtTemperatureOne) {
  const std::vector<float> logits = random_logits(5000, 11);
  double sum = 0.0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x));
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  });
  SamplerScratch scratch;
  for (const std::int32_t n : {0, 1, 20, 157, 158, 4999, 5000}) {
    const SamplingParams params = with([&](auto& p) {
      p.temperature = 0.3;
      p.top_k = 3;
      p.top_logprobs = n;
      p.seed = 5;
    });
    const SampledToken got = sample_copy(logits, params);
    const auto expected = [&](TokenId id) {
      return static_cast<double>(logits[static_cast<std::size_t>(id)]) - std::log(sum);
    };
    EXPECT_NEAR(got.logprob, expected(got.token), 1e-5);
    ASSERT_EQ(got.top.size(), static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < got.top.size(); ++i) {
      ASSERT_EQ(got.top[i].token, order[i]);
      EXPECT_NEAR(got.top[i].logprob, expected(order[i]), 1e-5);
    }
    const SampledToken scored = score(logits, 17, n, scratch);
    EXPECT_EQ(scored.token, 17);
    EXPECT_NEAR(scored.logprob, expected(17), 1e-5);
    EXPECT_EQ(scored.top.size(), static_cast<std::size_t>(n));
  }
  EXPECT_EQ(score(logits, 5000, 1, scratch).logprob, kMinusInfinity);
  EXPECT_EQ(score(logits, -1, 1, scratch).logprob, kMinusInfinity);
}

// The short cuts (bounds from block maxima, growing prefixes) against a plain sort of everything.
std::vector<double> plain_distribution(const std::vector<float>& logits, const SamplingParams& p) {
  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    order.emplace_back(-static_cast<double>(logits[i]) / p.temperature, i);
  }
  std::sort(order.begin(), order.end());
  const double best = order[0].first;
  std::size_t n = order.size();
  const auto weight = [&](std::size_t i) { return std::exp(best - order[i].first); };
  while (p.min_p > 0.0 && weight(n - 1) < p.min_p) --n;
  if (p.top_k > 0) {
    const auto k = std::min(static_cast<std::size_t>(p.top_k), n);
    while (n > k && order[n - 1].first > order[k - 1].first) --n;
  }
  double mass = 0.0;
  for (std::size_t i = 0; i < n; ++i) mass += weight(i);
  double before = 0.0;
  std::size_t kept = 0;
  while (kept < n && (p.top_p >= 1.0 || before < p.top_p * mass)) before += weight(kept++);
  std::vector<double> dense(logits.size(), 0.0);
  for (std::size_t i = 0; i < kept; ++i) dense[order[i].second] = weight(i) / before;
  return dense;
}

TEST(Sampler, PartialSelectionEqualsAFullSort) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 60; ++round) {
    const auto vocab = static_cast<std::int64_t>(round % 3 == 0 ? 33 : 4000 + random() % 20000);
    std::vector<float> logits = random_logits(vocab, random());
    if (round % 4 == 1) {  // many ties, and flat: the nucleus is longer than the first prefix
      for (float& x : logits) x = std::round(x * 0.5F) * 0.25F;
    }
    SamplingParams params;
    params.temperature = std::array{0.3, 1.0, 2.0}[random() % 3];
    params.top_k = std::array<std::int64_t, 5>{0, 1, 50, 200, 3000}[random() % 5];
    params.top_p = std::array{1.0, 0.9, 0.5, 0.9999}[random() % 4];
    params.min_p = std::array{0.0, 0.0, 0.02}[random() % 3];
    const std::vector<double> got = distribution(logits, params, {});
    const std::vector<double> expected = plain_distribution(logits, params);
    std::size_t differing_support = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], expected[i], 1e-7);
      differing_support += (got[i] > 0.0) != (expected[i] > 0.0) ? 1U : 0U;
    }
    EXPECT_LE(differing_support, 1U);  // a cut on a rounding
  }
}

TEST(Sampler, UniformDrawIsKeyedAndUniform) {
  EXPECT_EQ(uniform_draw(42, 3), uniform_draw(42, 3));
  EXPECT_NE(uniform_draw(42, 3), uniform_draw(43, 3));
  EXPECT_NE(uniform_draw(42, 3), uniform_draw(42, 4));
  // Chi-square over 256 cells, along tokens of one seed and along seeds of one token; 255 degrees
  // of freedom: 330.5 is the 99.9 % point.
  for (const bool along_seeds : {false, true}) {
    constexpr int kCells = 256, kDraws = 256 * 400;
    std::vector<int> cells(kCells, 0);
    double lag = 0.0, previous = 0.5;
    for (int i = 0; i < kDraws; ++i) {
      const auto n = static_cast<std::uint64_t>(i);
      const double u = along_seeds ? uniform_draw(n, 0) : uniform_draw(42, n);
      ASSERT_GE(u, 0.0);
      ASSERT_LT(u, 1.0);
      ++cells[static_cast<std::size_t>(u * kCells)];
      lag += (u - 0.5) * (previous - 0.5);
      previous = u;
    }
    double chi = 0.0;
    for (const int n : cells) chi += std::pow(n - kDraws / kCells, 2) / (kDraws / kCells);
    EXPECT_LT(chi, 330.5);
    EXPECT_GT(chi, 190.0);  // the 0.1 % point: too even is wrong as well
    EXPECT_LT(std::abs(lag / kDraws * 12.0), 4.0 / std::sqrt(kDraws));  // correlation of neighbours
  }
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const std::vector<float> logits = {1.0F, 0.5F, 2.0F, -1.0F, 0.0F, 1.5F, -0.5F, 0.2F};
  for (const double temperature : {0.5, 1.0, 2.0}) {
    SamplingParams params = with([&](auto& p) { p.temperature = temperature; });
    params.seed = 1234;
    const std::vector<double> p = distribution(logits, params, {});
    constexpr int kDraws = 40000;
    std::vector<int> seen(logits.size(), 0);
    SamplerScratch scratch;
    for (int i = 0; i < kDraws; ++i) {
      SamplingContext context;
      context.token_index = static_cast<std::uint64_t>(i);
      std::vector<float> row = logits;
      ++seen[static_cast<std::size_t>(sample(row, params, context, scratch).token)];
    }
    double chi = 0.0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      chi += std::pow(seen[i] - kDraws * p[i], 2) / (kDraws * p[i]);
    }
    EXPECT_LT(chi, 24.3) << temperature;  // 99.9 % point of 7 degrees of freedom
  }
}

// C08: every temperature the server must take gives the greedy token where it is near 0, and every
// other one is refused.
TEST(Sampler, CaseC08Temperatures) {
  std::ifstream file(TG_SOURCE_DIR "/tests/golden/cases/requests/c08_temperature.jsonl");
  ASSERT_TRUE(file.good());
  int accepted = 0, refused = 0;
  for (std::string line; std::getline(file, line);) {
    const Json row = Json::parse(line);
    const Json& temperature = row.at("body").at("temperature");
    if (!temperature.is_number()) continue;  // a wrong type: refused by the server's reader
    SamplingParams params;
    params.temperature = temperature.get<double>();
    params.seed = row.at("body").value("seed", std::uint64_t{0});
    const Status status = validate(params, kLlamaVocab);
    if (row.at("expect").get<int>() == 400) {
      ++refused;
      ASSERT_FALSE(status.has_value()) << line;
      EXPECT_EQ(status.error().code, ErrorCode::kBadArgument);
      EXPECT_NE(status.error().message.find("is not in 0..2"), std::string::npos);
      continue;
    }
    ++accepted;
    ASSERT_TRUE(status.has_value()) << line;
    if (params.temperature > 1e-4) continue;
    for (std::uint64_t index = 0; index < 50; ++index) {
      std::vector<float> logits = random_logits(1000, index);
      SamplingContext context;
      context.token_index = index;
      params.top_logprobs = 2;
      const SampledToken got = sample_copy(logits, params, context);
      const SampledToken greedy = sample_copy(logits, SamplingParams{}, context);
      EXPECT_TRUE(std::isfinite(got.logprob));
      // A row whose best two are this close is not decided by a clamped temperature.
      if (got.top[0].logprob - got.top[1].logprob < 0.2F) continue;
      EXPECT_EQ(got.token, greedy.token);
    }
  }
  EXPECT_EQ(accepted, 7);
  EXPECT_EQ(refused, 3);
}

// C10, the sampler's part: seed and token index decide, 0 is a seed.
TEST(Sampler, CaseC10SeedsAreTheOnlyRandomness) {
  const std::vector<float> logits = random_logits(kLlamaVocab, 5);
  const auto answer = [&](std::uint64_t seed, SamplerScratch& scratch) {
    std::vector<TokenId> ids;
    const SamplingParams params = with([&](auto& p) {
      p.temperature = 0.8;
      p.top_p = 0.95;
      p.seed = seed;
    });
    for (std::uint64_t index = 0; index < 24; ++index) {
      SamplingContext context;
      context.token_index = index;
      std::vector<float> row = logits;
      ids.push_back(sample(row, params, context, scratch).token);
    }
    return ids;
  };
  SamplerScratch one, other;
  const std::vector<TokenId> a = answer(42, one);
  for (std::uint64_t seed = 1; seed <= 7; ++seed) EXPECT_NE(answer(seed, one), a);
  EXPECT_EQ(answer(42, one), a);    // a used scratch
  EXPECT_EQ(answer(42, other), a);  // another one
  EXPECT_NE(answer(43, one), a);
  EXPECT_EQ(answer(0, one), answer(0, other));
}

TEST(Sampler, ValidateNamesParameterValueAndRange) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  const auto message = [](const std::function<void(SamplingParams&)>& change) {
    const Status status = validate(with(change), 100);
    return status ? std::string() : status.error().message;
  };
  EXPECT_EQ(message([](auto&) {}), "");
  EXPECT_EQ(message([](auto& p) { p.temperature = 3; }), "temperature 3 is not in 0..2");
  EXPECT_EQ(message([](auto& p) { p.temperature = -0.1; }), "temperature -0.1 is not in 0..2");
  EXPECT_NE(message([&](auto& p) { p.temperature = nan; }), "");
  EXPECT_NE(message([&](auto& p) { p.temperature = inf; }), "");
  EXPECT_EQ(message([](auto& p) { p.top_p = 1.5; }), "top_p 1.5 is not in 0..1");
  EXPECT_NE(message([&](auto& p) { p.top_p = nan; }), "");
  EXPECT_NE(message([](auto& p) { p.min_p = -1; }), "");
  EXPECT_NE(message([](auto& p) { p.top_k = -2; }), "");
  EXPECT_EQ(message([](auto& p) { p.top_k = -1; }), "");
  EXPECT_EQ(message([](auto& p) { p.top_k = 1000; }), "");
  EXPECT_NE(message([](auto& p) { p.repetition_penalty = 0; }), "");
  EXPECT_NE(message([&](auto& p) { p.repetition_penalty = inf; }), "");
  EXPECT_NE(message([](auto& p) { p.presence_penalty = 2.1; }), "");
  EXPECT_NE(message([](auto& p) { p.frequency_penalty = -2.1; }), "");
  EXPECT_NE(message([](auto& p) { p.top_logprobs = 101; }), "");
  EXPECT_NE(message([](auto& p) { p.top_logprobs = -2; }), "");
  EXPECT_EQ(message([](auto& p) { p.logit_bias = {{100, 1.0F}}; }),
            "logit_bias of id 100: the ids are 0..99");
  EXPECT_NE(message([](auto& p) { p.logit_bias = {{-1, 1.0F}}; }), "");
  EXPECT_NE(message([&](auto& p) { p.logit_bias = {{1, static_cast<float>(nan)}}; }), "");
  EXPECT_NE(message([&](auto& p) { p.logit_bias = {{1, static_cast<float>(inf)}}; }), "");
  EXPECT_EQ(message([](auto& p) { p.logit_bias = {{1, kMinusInfinity}, {2, 3e38F}}; }), "");
}

// Not asserted tightly: the machine is shared. The numbers are for the reader of the log.
TEST(Sampler, SpeedIsPrinted) {
  const std::vector<float> logits = random_logits(kLlamaVocab, 9);
  const auto time = [&](const char* what, const SamplingParams& params) {
    SamplerScratch scratch;
    double best_us = 1e9;
    for (int i = 0; i < 7; ++i) {
      std::vector<float> row = logits;
      const auto start = std::chrono::steady_clock::now();
      const SampledToken got = sample(row, params, {}, scratch);
      const auto end = std::chrono::steady_clock::now();
      EXPECT_GE(got.token, 0);
      best_us = std::min(best_us, std::chrono::duration<double, std::micro>(end - start).count());
    }
    std::printf("[ sampler  ] 128256 logits, %-28s %8.0f us\n", what, best_us);
    EXPECT_LT(best_us, 1e6);
  };
  time("greedy", SamplingParams{});
  time("greedy, top 5 logprobs", with([](auto& p) { p.temperature = 0.0, p.top_logprobs = 5; }));
  time("top_k 50, top_p 0.9", with([](auto& p) { p.top_k = 50, p.top_p = 0.9; }));
  time("top_p 0.9", with([](auto& p) { p.top_p = 0.9; }));
  time("temperature 1 alone", with([](auto&) {}));
  time("min_p 0.05", with([](auto& p) { p.min_p = 0.05; }));
}

}  // namespace
}  // namespace tg
