// The table of text-demo cases against the original's, and their prompt files.
#include "cli/demo_cases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "cli/prompts.h"
#include "model/sampling_params.h"

namespace tg {
namespace {

constexpr std::int64_t kVocab = 128256;

struct Expected {
  const char* name;
  std::int64_t batch_size;
  std::int64_t max_generated_tokens;
  std::int64_t repeat_batches;
  double temperature;
  double top_p;
};

TEST(DemoCases, AsTheOriginal) {
  const Expected table[] = {
      {"batch-32", 32, 128, 1, 0, 0.08},           {"batch-1", 1, 128, 1, 0, 0.05},
      {"batch-32-log-probs", 32, 128, 1, 0, 0.08}, {"repeat2", 1, 128, 2, 0, 0.08},
      {"long-4k-b1", 1, 128, 1, 0, 0.08},          {"long-8k-b1", 1, 128, 1, 1, 0.04},
      {"long-16k-b1", 1, 128, 1, 0, 0.08},         {"long-16k-b32", 32, 128, 1, 0, 0.08},
      {"long-32k-b1", 1, 128, 1, 0, 0.08},         {"long-64k-b1", 1, 128, 1, 0, 0.08},
      {"long-128k-b1", 1, 128, 1, 0, 0.08},        {"evals-1", 1, 1024, 16, 0, 0.05},
      {"evals-32", 32, 1024, 16, 0, 0.05},         {"evals-long-prompts", 1, 1024, 6, 0, 0.05},
  };
  for (const Expected& e : table) {
    const Result<DemoCase> c = find_demo_case(e.name);
    ASSERT_TRUE(c) << c.error().text();
    EXPECT_EQ(c->name, e.name);
    EXPECT_EQ(c->batch_size, e.batch_size) << e.name;
    EXPECT_EQ(c->max_generated_tokens, e.max_generated_tokens) << e.name;
    EXPECT_EQ(c->repeat_batches, e.repeat_batches) << e.name;
    EXPECT_EQ(c->max_seq_len, 131072) << e.name;
    EXPECT_EQ(c->page_params.block_size, 64) << e.name;
    EXPECT_EQ(c->page_params.max_num_blocks, 2048) << e.name;
    const SamplingParams p = sampling_for_user(c->sampling, 0, c->batch_size).value();
    EXPECT_EQ(p.temperature, e.temperature) << e.name;
    EXPECT_EQ(p.top_p, e.top_p) << e.name;
    EXPECT_EQ(p.top_logprobs, c->name == "batch-32-log-probs" ? 0 : -1);
  }
  EXPECT_EQ(find_demo_case("performance-repeat2").value().name, "repeat2");
}

TEST(DemoCases, SamplingOfItsOwnForEachUser) {
  const DemoCase c = find_demo_case("batch-32-non-uniform-sampling").value();
  ASSERT_EQ(c.batch_size, 32);
  const SamplingParams first = sampling_for_user(c.sampling, 0, 32).value();
  EXPECT_TRUE(first.greedy());
  EXPECT_EQ(first.top_p, 0.08);
  EXPECT_EQ(first.top_k, 1);
  EXPECT_EQ(first.presence_penalty, -2.0);
  EXPECT_EQ(first.frequency_penalty, -2.0);
  EXPECT_EQ(first.repetition_penalty, 0.8);
  const SamplingParams last = sampling_for_user(c.sampling, 31, 32).value();
  EXPECT_DOUBLE_EQ(last.temperature, 1.0);
  EXPECT_DOUBLE_EQ(last.top_p, 1.0);
  EXPECT_EQ(last.top_k, 32);
  EXPECT_DOUBLE_EQ(last.presence_penalty, 2.0);
  EXPECT_DOUBLE_EQ(last.repetition_penalty, 1.5);
  std::set<std::uint64_t> seeds;
  for (std::int64_t user = 0; user < 32; ++user) {
    seeds.insert(sampling_for_user(c.sampling, user, 32).value().seed);
  }
  EXPECT_EQ(seeds.size(), 32U);
}

TEST(DemoCases, EveryOneHasValidSamplingAndItsPrompts) {
  std::set<std::string> names;
  for (const DemoCase& c : demo_cases()) {
    EXPECT_TRUE(names.insert(c.name).second) << c.name << " twice";
    if (!c.later.empty()) continue;
    for (std::int64_t user = 0; user < c.batch_size; ++user) {
      const Result<SamplingParams> p = sampling_for_user(c.sampling, user, c.batch_size);
      ASSERT_TRUE(p) << c.name << ": " << p.error().text();
      const Status valid = validate(*p, kVocab);
      EXPECT_TRUE(valid) << c.name << ": " << valid.error().text();
    }
    const std::string path = TG_SOURCE_DIR "/" + c.prompts;
    const auto entries = read_prompt_file(path);
    ASSERT_TRUE(entries) << c.name << ": " << entries.error().text();
    // Offline, and without a cache.
    ContextOptions options;
    options.cache_directory.clear();
    const auto texts = load_prompts(path, *entries, entries->size(), true, options);
    ASSERT_TRUE(texts) << c.name << ": " << texts.error().text();
    EXPECT_LT(std::filesystem::file_size(path), 100000U);
    if (c.prompts == "demo/questions_128.json") {
      EXPECT_EQ(texts->size(), 32U);
      std::set<std::string> different(texts->begin(), texts->end());
      EXPECT_EQ(different.size(), 32U);
      // In the chat form they must stay below 128 tokens, 40 of which may be the form's own: the
      // Llama 3 vocabulary makes at most 54 of these, of some 4.5 characters each.
      for (const std::string& text : *texts) EXPECT_LT(text.size(), 300U) << text;
    }
    // "long-4k": about 5 characters of English make a token.
    int kilotokens = 0;
    if (std::sscanf(c.name.c_str(), "long-%dk", &kilotokens) == 1) {
      const double characters = static_cast<double>((*texts)[0].size());
      EXPECT_GT(characters, 4.5 * 1024.0 * kilotokens) << c.name;
      EXPECT_LT(characters, 5.0 * 1024.0 * kilotokens) << c.name;
    }
  }
}

TEST(DemoCases, WhatDoesNotRunYetSaysSo) {
  for (const char* name : {"prefill-profile-standard", "prefill-profile-prefix-caching", "apc-test",
                           "ci-token-matching", "pcc-80L", "batch-1-prefix-caching-perf",
                           "batch-1-prefix-caching-pcc", "seqlen-sweep"}) {
    const Result<DemoCase> c = find_demo_case(name);
    ASSERT_FALSE(c) << name;
    EXPECT_EQ(c.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(c.error().text(), testing::StartsWith(std::string("the case ") + name +
                                                      " is not in this version yet: it "));
  }
}

TEST(DemoCases, UnknownNamesListTheKnown) {
  for (const char* name : {"batch-2", "", "performance-", "Batch-1", "long"}) {
    const Result<DemoCase> c = find_demo_case(name);
    ASSERT_FALSE(c) << name;
    EXPECT_EQ(c.error().code, ErrorCode::kBadArgument);
    EXPECT_THAT(c.error().text(), testing::StartsWith(std::string("no case is named '") + name +
                                                      "'; known are batch-1, batch-32, "));
    EXPECT_THAT(c.error().text(), testing::HasSubstr("seqlen-sweep"));
  }
}

TEST(DemoCases, ListsShorterThanTheUsers) {
  const DemoCase c = find_demo_case("batch-32-non-uniform-sampling").value();
  EXPECT_TRUE(sampling_for_user(c.sampling, 3, 4));
  const Result<SamplingParams> p = sampling_for_user(c.sampling, 0, 33);
  ASSERT_FALSE(p);
  EXPECT_EQ(p.error().text(), "temperature has 32 values for 33 users");
}

}  // namespace
}  // namespace tg
