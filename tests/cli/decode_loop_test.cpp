// The decode demo's parts: cases, page tables, the loop (against a model that is a hash of what its
// pages hold), the report.
#include "cli/decode_loop.h"

#include <gtest/gtest.h>

#include <set>

#include "cli/decode_cases.h"
#include "cli/decode_report.h"
#include "cli/memory.h"
#include "engine/fake_runner.h"

namespace tg {
namespace {

using test::FakeRunner;

TEST(DecodeCases, AreTheOriginals) {
  // name, random, layers, iterations, stress, start
  const std::vector<std::tuple<const char*, bool, std::int64_t, std::int64_t, bool, std::int64_t>>
      table = {{"full", false, 0, 2000, false, 0},
               {"quick", true, 1, 2000, false, 0},
               {"stress-test", false, 0, 500000, true, 0},
               {"mini-stress-test", false, 0, 2048, true, 0},
               {"measure-device-perf", false, 10, 1, false, 127},
               {"nd-hang-test", false, 0, 20000, false, 0}};
  ASSERT_EQ(decode_cases().size(), table.size());
  for (const auto& [name, random, layers, iterations, stress, start] : table) {
    const auto c = find_decode_case(std::string("performance-") + name);
    ASSERT_TRUE(c) << name;
    EXPECT_EQ(c->random_weights, random) << name;
    EXPECT_EQ(c->layers.value_or(0), layers) << name;
    EXPECT_EQ(c->max_generated_tokens, iterations) << name;
    EXPECT_EQ(c->stress_test, stress) << name;
    EXPECT_EQ(c->start_pos, start) << name;
    const auto user = sampling_for_user(c->sampling, 31, 32);
    ASSERT_TRUE(user);
    EXPECT_EQ(user->seed, 42U);
    EXPECT_EQ(user->greedy(), std::string(name) != "full") << name;
  }
  const auto full = sampling_for_user(find_decode_case("full")->sampling, 0, 32);
  EXPECT_EQ(full->top_k, 32);
  EXPECT_EQ(full->top_p, 0.9);
  EXPECT_EQ(full->temperature, 0.7);
  const auto unknown = find_decode_case("fast");
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().text().find("mini-stress-test"), std::string::npos);
}

TEST(DecodePages, AreDistinctShuffledAndOnTheUsersDomain) {
  const KvCapacity capacity{64, 128, 512};
  const auto tables = shuffled_page_tables(capacity, 4, 32, 16 * 64, 42);
  ASSERT_EQ(tables.size(), 32U);
  std::vector<std::set<PageId>> seen(4);
  bool neighbours_only = true;
  for (std::int64_t u = 0; u < 32; ++u) {
    const PageTable& table = tables[static_cast<std::size_t>(u)];
    ASSERT_EQ(table.size(), 16U);
    const std::int32_t domain = domain_of_user(u, 32, 4);
    EXPECT_EQ(domain, u / 8);
    for (std::size_t i = 0; i < table.size(); ++i) {
      EXPECT_GE(table[i], 0);
      EXPECT_LT(table[i], 128);
      EXPECT_TRUE(seen[static_cast<std::size_t>(domain)].insert(table[i]).second);
      if (i > 0 && table[i] != table[i - 1] + 1) neighbours_only = false;
    }
  }
  EXPECT_FALSE(neighbours_only);
  EXPECT_EQ(shuffled_page_tables(capacity, 4, 32, 16 * 64, 42), tables);
  EXPECT_NE(shuffled_page_tables(capacity, 4, 32, 16 * 64, 43), tables);
  EXPECT_EQ(domain_of_user(4, 5, 4), 2);  // two on each of the first
}

std::vector<DecodeUser> three_users(std::int64_t positions, const FakeRunner& runner) {
  auto tables = shuffled_page_tables(runner.kv_capacity(), runner.kv_domains(), 3, positions, 1);
  const std::vector<std::vector<TokenId>> prompts = {{5}, {1, 2, 3, 4, 5, 6, 7}, {9, 8}};
  std::vector<DecodeUser> users;
  for (std::int64_t u = 0; u < 3; ++u) {
    const auto at = static_cast<std::size_t>(u);
    DecodeUser user;
    user.prompt = prompts[at];
    user.sampling.temperature = u == 2 ? 0.9 : 0.0;
    user.sampling.seed = 7;
    user.sampling.repetition_penalty = u == 0 ? 1.3 : 1.0;
    user.pages = tables[at];
    user.kv_domain = domain_of_user(u, 3, runner.kv_domains());
    users.push_back(std::move(user));
  }
  return users;
}

TEST(DecodeLoop, ForcesEachPromptAndGoesOnWithWhatWasSampled) {
  FakeRunner runner({.domains = 2});
  constexpr std::int64_t kIterations = 40;
  const auto users = three_users(kIterations, runner);
  std::vector<bool> forced;
  int warmed_up = 0;
  const auto outcome = run_decode_loop(
      runner, users, {kIterations, 0, false, [&] { ++warmed_up; }}, [&](const DecodeIteration& i) {
        EXPECT_EQ(i.index, static_cast<std::int64_t>(forced.size()));
        EXPECT_EQ(i.tokens[0] >= 0, true);
        EXPECT_EQ(i.tokens[1] >= 0, i.index >= 6);
        EXPECT_EQ(i.tokens[2] >= 0, i.index >= 1);
        forced.push_back(i.forced);
      });
  ASSERT_TRUE(outcome) << outcome.error().text();
  EXPECT_EQ(runner.broken_rule, "");
  EXPECT_EQ(warmed_up, 1);
  EXPECT_EQ(runner.steps, kIterations + 1);
  for (std::size_t i = 0; i < forced.size(); ++i) EXPECT_EQ(forced[i], i < 6) << i;
  std::uint64_t hash = 0xcbf29ce484222325U;
  std::vector<std::vector<TokenId>> expected(3);
  SamplerScratch scratch;
  std::vector<std::vector<TokenId>> seen(3);
  for (std::int64_t i = 0; i < kIterations; ++i) {
    for (std::size_t u = 0; u < 3; ++u) {
      const auto at = static_cast<std::size_t>(i);
      seen[u].push_back(at < users[u].prompt.size() ? users[u].prompt[at] : expected[u].back());
      if (at + 1 < users[u].prompt.size()) continue;
      auto logits = test::logits_after(seen[u], 64);
      const SamplingContext context{users[u].prompt, expected[u], {}, expected[u].size()};
      expected[u].push_back(sample(logits, users[u].sampling, context, scratch).token);
      hash = (hash ^ static_cast<std::uint32_t>(expected[u].back())) * 0x100000001b3U;
    }
  }
  EXPECT_EQ(outcome->outputs, expected);
  EXPECT_EQ(outcome->hash, hash);
}

TEST(DecodeLoop, AFrozenPositionNeedsOnePageForEver) {
  FakeRunner runner({.block = 16, .blocks = 3, .domains = 1});
  constexpr std::int64_t kIterations = 2000;
  auto users = three_users(1, runner);
  for (DecodeUser& user : users) user.pages.resize(1);
  const DecodeLoopOptions options{kIterations, 0, true, {}};
  std::int64_t shown = 0;
  const auto count = [&](const DecodeIteration&) { ++shown; };
  const auto outcome = run_decode_loop(runner, users, options, count);
  ASSERT_TRUE(outcome) << outcome.error().text();
  EXPECT_EQ(shown, kIterations);
  for (const auto& output : outcome->outputs) {
    EXPECT_GE(output.size(), kKeptTokens);
    EXPECT_LE(output.size(), 2 * kKeptTokens);
  }
  FakeRunner again({.block = 16, .blocks = 3, .domains = 1});
  EXPECT_EQ(run_decode_loop(again, users, options, count)->hash, outcome->hash);
  // A later start would need another page, and is an error, not a read past the table.
  FakeRunner third({.block = 16, .blocks = 3, .domains = 1});
  EXPECT_FALSE(run_decode_loop(third, users, {1, 16, true, {}}, count));
}

TEST(DecodeLoop, AFailureNamesItsIteration) {
  FakeRunner runner({});
  runner.fail_at_step = 5;  // the first is run twice
  const auto users = three_users(10, runner);
  const auto outcome =
      run_decode_loop(runner, users, {10, 0, false, {}}, [](const DecodeIteration&) {});
  ASSERT_FALSE(outcome);
  EXPECT_NE(outcome.error().text().find("Decode forward failed at iteration 3"), std::string::npos)
      << outcome.error().text();
}

TEST(DecodeReport, ReadsATarget) {
  EXPECT_EQ(parse_tsu_target("52:56")->low, 52.0);
  EXPECT_EQ(parse_tsu_target("0.5:0.75")->high, 0.75);
  for (const char* bad :
       {"", ":", "5", "5:", ":5", "6:5", "-1:5", "a:b", "1:2:3", "1:inf", "nan:1"}) {
    EXPECT_FALSE(parse_tsu_target(bad)) << bad;
  }
}

TEST(DecodeReport, FailsWhenMoreThanATenthOfTheFirst200IsOutside) {
  const TsuTarget target{50.0, 100.0};
  std::vector<double> seconds(200, 0.0125);  // 80 tok/s/user
  for (std::size_t i = 0; i < 10; ++i) seconds[i] = 0.1;
  for (std::size_t i = 10; i < 20; ++i) seconds[i] = 0.001;
  EXPECT_EQ(check_tsu(seconds, target).looked_at, 200);
  EXPECT_EQ(check_tsu(seconds, target).outside, 20);
  EXPECT_FALSE(check_tsu(seconds, target).failed);
  seconds[20] = 0.1;
  EXPECT_TRUE(check_tsu(seconds, target).failed);
  EXPECT_TRUE(check_tsu(std::vector<double>{0.1}, target).failed);
  EXPECT_FALSE(check_tsu(std::vector<double>{0.0125}, target).failed);
}

TEST(DecodeReport, TimesOfAnyNumberOfIterationsTakeTheSameMemory) {
  TimeSample sample;
  private_memory();  // what looking takes itself is there from now on
  const std::int64_t before = private_memory();
  constexpr int kIterations = 3'000'000;
  for (int i = 0; i < kIterations; ++i) sample.add(i);
  // A list of all would be 24 MB. The C library may give or take a few pages.
  EXPECT_LT(private_memory() - before, std::int64_t{1} << 16);
  EXPECT_EQ(sample.count(), kIterations);
  ASSERT_EQ(sample.first().size(), 200U);
  for (std::size_t i = 0; i < 200; ++i) EXPECT_EQ(sample.first()[i], static_cast<double>(i));
  // Evenly spaced over all of them.
  const auto kept = sample.sample();
  EXPECT_GT(kept.size(), TimeSample::kMost / 2);
  EXPECT_LE(kept.size(), TimeSample::kMost);
  const double stride = kept[1];
  for (std::size_t i = 0; i < kept.size(); ++i) {
    ASSERT_EQ(kept[i], stride * static_cast<double>(i));
  }
  EXPECT_GT(kept.back(), kIterations - 2 * stride);
}

TEST(DecodeReport, LinesAsTheOriginals) {
  DecodeIteration iteration;
  iteration.index = 130;
  iteration.seconds = 0.02;
  iteration.users = 32;
  EXPECT_EQ(iteration_text(iteration, 3),
            "Iteration : 130, Decode Iteration : 3, tok/s/user : 50.00, Throughput : 1600.00 "
            "tok/s, Iteration Time : 20.00 ms\n");
  iteration.forced = true;
  EXPECT_TRUE(iteration_text(iteration, -1)
                  .starts_with("Iteration : 130, Prefill Iteration : 130, tok/s/user : 50.00"));
  EXPECT_TRUE(is_shown(199));
  EXPECT_FALSE(is_shown(200));
  EXPECT_TRUE(is_shown(5000));
  EXPECT_FALSE(is_shown(5001));
  DecodeReport report;
  report.users = 2;
  for (int i = 0; i < 200; ++i) report.decode.add(i == 127 ? 0.04 : 0.02);
  report.target = TsuTarget{40.0, 60.0};
  const std::string text = report_text(report);
  for (const char* part :
       {"min 25.00", "max 50.00", "median 50.00", "5th percentile 50.00", "95th percentile 50.00",
        "at token 128: 25.00", "Throughput (median): 100.00 tok/s",
        "1 of the first 200 iterations outside", "40.00:62.50"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
  }
}

TEST(DecodeReport, PrivateMemorySeesATouchedPage) {
  const std::int64_t before = private_memory();
  ASSERT_GT(before, 0);
  std::vector<char> touched(std::size_t{32} << 20, 1);
  const std::int64_t after = private_memory();
  EXPECT_GE(after - before, std::int64_t{30} << 20) << touched.size();
  const MemoryGrowth growth{before, after, after, 100, 1000};
  EXPECT_GT(growth.growth(), kMostGrowth);
  EXPECT_NE(growth_text(growth).find("after iteration 1000"), std::string::npos);
}

}  // namespace
}  // namespace tg
