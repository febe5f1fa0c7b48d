// Option values that are JSON or lists: what is taken, and the words of every refusal.
#include "cli/option_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tg {
namespace {

template <typename T>
std::string refusal(const Result<T>& result) {
  return result ? "was taken" : result.error().text();
}

TEST(PageParams, GoodOnes) {
  for (const std::int64_t block : {16, 32, 64}) {
    const auto p = parse_page_params(fmt::format(R"({{"page_block_size": {}}})", block));
    ASSERT_TRUE(p);
    EXPECT_EQ(p->block_size, block);
    EXPECT_EQ(p->max_num_blocks, 2048);
  }
  const auto both = parse_page_params(R"({"page_block_size":32,"page_max_num_blocks":4194304})");
  EXPECT_EQ(both->block_size, 32);
  EXPECT_EQ(both->max_num_blocks, 4194304);
  EXPECT_EQ(parse_page_params("{}")->block_size, 64);
}

TEST(PageParams, BadOnes) {
  const auto block = [](const char* value) {
    return refusal(parse_page_params(fmt::format(R"({{"page_block_size": {}}})", value)));
  };
  EXPECT_EQ(block("48"), "page_block_size 48: need 16, 32 or 64");
  EXPECT_EQ(block("0"), "page_block_size 0: need a whole number in 1..64");
  EXPECT_EQ(block("128"), "page_block_size 128: need a whole number in 1..64");
  EXPECT_EQ(block("-64"), "page_block_size -64: need a whole number in 1..64");
  EXPECT_EQ(block("64.0"), "page_block_size 64.0: need a whole number in 1..64");
  EXPECT_EQ(block("\"64\""), "page_block_size \"64\": need a whole number in 1..64");
  EXPECT_EQ(block("true"), "page_block_size true: need a whole number in 1..64");
  const auto blocks = [](const char* value) {
    return refusal(parse_page_params(fmt::format(R"({{"page_max_num_blocks": {}}})", value)));
  };
  EXPECT_EQ(blocks("0"), "page_max_num_blocks 0: need a whole number in 1..4194304");
  EXPECT_EQ(blocks("4194305"), "page_max_num_blocks 4194305: need a whole number in 1..4194304");
  EXPECT_EQ(blocks("18446744073709551615"),
            "page_max_num_blocks 18446744073709551615: need a whole number in 1..4194304");
  EXPECT_EQ(refusal(parse_page_params(R"({"block_size": 64})")),
            "'block_size' is unknown; known are page_block_size and page_max_num_blocks");
  // The original's own spelling on a command line, a Python dict, is none.
  for (const char* text : {"{'page_block_size': 64}", "64", "[]", "", "{\"page_block_size\": 64"}) {
    EXPECT_EQ(refusal(parse_page_params(text)),
              fmt::format("'{}' is no JSON object; it looks like {}", text,
                          R"({"page_block_size": 64, "page_max_num_blocks": 2048})"));
  }
}

TEST(SamplingParams, OneValueForAllOrAListOfUsers) {
  const auto spec = parse_sampling_params(
      R"({"temperature": [0, 0.5, 1], "top_p": 0.9, "top_k": [1, -1, 5], "min_p": 0.1,
          "presence_penalty": 1, "frequency_penalty": [-1, 0, 1], "repetition_penalty": [0, 1, 2],
          "seed": [18446744073709551615, 0, 7], "log_probs": [true, false, 5]})");
  ASSERT_TRUE(spec) << spec.error().text();
  const SamplingParams a = sampling_for_user(*spec, 0, 3).value();
  EXPECT_EQ(a.temperature, 0.0);
  EXPECT_EQ(a.top_p, 0.9);
  EXPECT_EQ(a.top_k, 1);
  EXPECT_EQ(a.min_p, 0.1);
  EXPECT_EQ(a.presence_penalty, 1.0);
  EXPECT_EQ(a.frequency_penalty, -1.0);
  EXPECT_EQ(a.repetition_penalty, 1.0);  // 0 is "none" in the original
  EXPECT_EQ(a.seed, 18446744073709551615U);
  EXPECT_EQ(a.top_logprobs, 0);
  const SamplingParams b = sampling_for_user(*spec, 1, 3).value();
  EXPECT_EQ(b.top_k, -1);
  EXPECT_EQ(b.top_logprobs, -1);
  const SamplingParams c = sampling_for_user(*spec, 2, 3).value();
  EXPECT_EQ(c.temperature, 1.0);
  EXPECT_EQ(c.repetition_penalty, 2.0);
  EXPECT_EQ(c.seed, 7U);
  EXPECT_EQ(c.top_logprobs, 5);
  EXPECT_EQ(parse_sampling_params(R"({"enable_log_probs": true})")->log_probs.at(0), 0);
}

TEST(SamplingParams, AbsentOnesAreTheOriginals) {
  const SamplingParams p = sampling_for_user(parse_sampling_params("{}").value(), 0, 1).value();
  EXPECT_EQ(p.temperature, 0.0);
  EXPECT_EQ(p.top_p, 1.0);
  EXPECT_EQ(p.top_k, 32);
  EXPECT_EQ(p.seed, 0U);
  EXPECT_EQ(p.presence_penalty, 0.0);
  EXPECT_EQ(p.frequency_penalty, 0.0);
  EXPECT_EQ(p.repetition_penalty, 1.0);
  EXPECT_EQ(p.top_logprobs, -1);
}

TEST(SamplingParams, BadOnes) {
  const auto bad = [](const char* text) { return refusal(parse_sampling_params(text)); };
  EXPECT_EQ(bad(R"({"temperature": "hot"})"), "temperature: \"hot\" is no number");
  EXPECT_EQ(bad(R"({"temperature": [0.5, null]})"), "temperature: null is no number");
  EXPECT_EQ(bad(R"({"temperature": []})"), "temperature: an empty list");
  EXPECT_EQ(bad(R"({"top_p": true})"), "top_p: true is no number");
  EXPECT_EQ(bad(R"({"top_k": 1.5})"), "top_k: 1.5 is no whole number below 2^63");
  EXPECT_EQ(bad(R"({"top_k": 18446744073709551615})"),
            "top_k: 18446744073709551615 is no whole number below 2^63");
  EXPECT_EQ(bad(R"({"seed": -1})"), "seed: -1 is no whole number of 0 or more");
  EXPECT_EQ(bad(R"({"seed": 1e20})"), "seed: 1e+20 is no whole number of 0 or more");
  EXPECT_EQ(bad(R"({"log_probs": 101})"), "log_probs: 101 is neither true, false nor in 0..100");
  EXPECT_EQ(bad(R"({"log_probs": -1})"), "log_probs: -1 is neither true, false nor in 0..100");
  EXPECT_EQ(bad(R"({"temprature": 1})"),
            "'temprature' is unknown; known are temperature, top_p, top_k, min_p, seed, "
            "presence_penalty, frequency_penalty, repetition_penalty and log_probs");
  EXPECT_EQ(bad("{'temperature': 1}"),
            "'{'temperature': 1}' is no JSON object; it looks like "
            R"({"temperature": 0.7, "top_p": 0.9, "seed": [1, 2]})");
}

TEST(SamplingParams, ListsAndUsers) {
  const auto spec = parse_sampling_params(R"({"top_p": [0.1, 0.2, 0.3]})").value();
  EXPECT_EQ(sampling_for_user(spec, 1, 2)->top_p, 0.2);  // more values than users
  EXPECT_EQ(refusal(sampling_for_user(spec, 0, 4)), "top_p has 3 values for 4 users");
  const auto single = parse_sampling_params(R"({"top_p": [0.5]})").value();
  EXPECT_EQ(sampling_for_user(single, 31, 32)->top_p, 0.5);
}

TEST(IdList, GoodOnes) {
  EXPECT_THAT(parse_id_list("1").value(), testing::ElementsAre(1));
  EXPECT_THAT(parse_id_list("128000, 2028,374 ").value(), testing::ElementsAre(128000, 2028, 374));
  EXPECT_THAT(parse_id_list("0,2147483647").value(), testing::ElementsAre(0, 2147483647));
}

TEST(IdList, BadOnes) {
  const auto bad = [](const char* text) { return refusal(parse_id_list(text)); };
  EXPECT_EQ(bad(""), "'', entry 1 of the list of ids, is no id (0..2147483647)");
  EXPECT_EQ(bad("1,,2"), "'', entry 2 of the list of ids, is no id (0..2147483647)");
  EXPECT_EQ(bad("1,2,"), "'', entry 3 of the list of ids, is no id (0..2147483647)");
  EXPECT_EQ(bad("1,-2"), "'-2', entry 2 of the list of ids, is no id (0..2147483647)");
  EXPECT_EQ(bad("1,2 3"), "'2 3', entry 2 of the list of ids, is no id (0..2147483647)");
  EXPECT_EQ(bad("1,two"), "'two', entry 2 of the list of ids, is no id (0..2147483647)");
  EXPECT_EQ(bad("2147483648"),
            "'2147483648', entry 1 of the list of ids, is no id (0..2147483647)");
  EXPECT_EQ(bad("1, "), "' ', entry 2 of the list of ids, is no id (0..2147483647)");
}

}  // namespace
}  // namespace tg
