// bench-serve's pure parts: statistics, arrivals, option values, request bodies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cli/load_arrivals.h"
#include "cli/load_options.h"
#include "cli/load_report.h"
#include "cli/load_requests.h"
#include "cli/load_statistics.h"
#include "program.h"

namespace tg {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

// Sent at `sent`, text `ttft` later, then tokens `gap` apart.
LoadAnswer good_answer(double sent, double ttft, double gap, std::int64_t tokens) {
  LoadAnswer a;
  a.sent_s = sent;
  a.first_text_s = sent + ttft;
  a.gaps_s.assign(static_cast<std::size_t>(tokens - 1), gap);
  a.last_text_s = a.first_text_s + gap * static_cast<double>(tokens - 1);
  a.end_s = a.last_text_s;
  a.output_tokens = tokens;
  a.prompt_tokens = 100;
  a.has_usage = true;
  return a;
}

TEST(BenchServeStatistics, AgreesWithNumpy) {
  // np.percentile, np.mean, np.median and np.std of this sample.
  const std::vector<double> percents = {0, 25, 50, 90, 99.9, 100};
  const auto latency = latency_of({7, 1, 4, 10, 2}, percents);
  ASSERT_TRUE(latency);
  EXPECT_DOUBLE_EQ(latency->mean, 4.8);
  EXPECT_DOUBLE_EQ(latency->median, 4.0);
  EXPECT_NEAR(latency->std, 3.3105890714493698, 1e-12);
  const std::vector<double> expected = {1, 2, 4, 8.8, 9.988, 10};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(latency->percentiles[i], expected[i], 1e-12) << percents[i];
  }
  const auto single = latency_of({3}, percents);
  EXPECT_DOUBLE_EQ(single->std, 0.0);
  EXPECT_THAT(single->percentiles, ElementsAre(3, 3, 3, 3, 3, 3));
  EXPECT_FALSE(latency_of({}, percents));
}

TEST(BenchServeStatistics, OnlyCompletedAnswersCount) {
  std::vector<LoadAnswer> answers = {good_answer(0.0, 0.2, 0.02, 11),
                                     good_answer(1.0, 0.4, 0.0, 1)};
  LoadAnswer failed = good_answer(0.0, 99.0, 99.0, 50);
  failed.failure = "HTTP 500: no";
  failed.end_s = 4.0;
  LoadAnswer interrupted = good_answer(0.0, 99.0, 99.0, 50);
  interrupted.interrupted = true;
  interrupted.end_s = 2.0;
  answers.insert(answers.end(), {failed, interrupted});
  answers[1].has_usage = false;

  const std::vector<double> percents = {50};
  const LoadSummary s = summarize_load(answers, percents, {});
  EXPECT_EQ(s.completed, 2);
  EXPECT_EQ(s.failed, 1);
  EXPECT_EQ(s.interrupted, 1);
  EXPECT_EQ(s.without_usage, 1);
  EXPECT_EQ(s.total_input_tokens, 200);
  EXPECT_EQ(s.total_output_tokens, 12);
  EXPECT_DOUBLE_EQ(s.duration_s, 4.0);
  EXPECT_DOUBLE_EQ(s.request_throughput, 0.5);
  EXPECT_DOUBLE_EQ(s.output_throughput, 3.0);
  EXPECT_DOUBLE_EQ(s.total_token_throughput, 53.0);
  EXPECT_FALSE(s.request_goodput);
  EXPECT_NEAR(s.ttft_ms->mean, 300.0, 1e-9);
  EXPECT_NEAR(s.tpot_ms->mean, 20.0, 1e-9);  // of the one that has any
  EXPECT_NEAR(s.itl_ms->mean, 20.0, 1e-9);
  EXPECT_NEAR(s.e2el_ms->mean, 400.0, 1e-9);
}

TEST(BenchServeStatistics, Goodput) {
  const std::vector<LoadAnswer> answers = {good_answer(0.0, 0.2, 0.02, 11),
                                           good_answer(0.0, 0.4, 0.01, 11),
                                           good_answer(0.0, 0.1, 0.0, 1)};
  const auto goodput = [&](const std::vector<std::string>& limits) {
    const LoadSummary s = summarize_load(answers, {}, parse_goodput(limits).value());
    return std::lround(s.request_goodput.value() * s.duration_s);
  };
  EXPECT_EQ(goodput({"ttft:300"}), 2);
  EXPECT_EQ(goodput({"tpot:15"}), 2);  // the single token has none to be above it
  EXPECT_EQ(goodput({"ttft:300", "tpot:15"}), 1);
  EXPECT_EQ(goodput({"e2el:450"}), 2);
  EXPECT_EQ(goodput({"e2el:0.1"}), 0);
}

TEST(BenchServeStatistics, NothingCompletedIsNull) {
  LoadAnswer failed;
  failed.failure = "refused \xFF";
  failed.end_s = 1.0;
  const std::vector<LoadAnswer> answers = {failed, failed};
  LoadAbout about;
  about.percents = {50, 99.9};
  about.request_rate = std::numeric_limits<double>::infinity();
  const LoadSummary summary = summarize_load(answers, about.percents, {});
  const Json report = Json::parse(load_json(about, summary, answers));
  for (const char* metric : {"ttft", "tpot", "itl", "e2el"}) {
    for (const char* what : {"mean", "median", "std", "p50", "p99.9"}) {
      const std::string name = std::string(what) + "_" + metric + "_ms";
      ASSERT_TRUE(report.contains(name)) << name;
      EXPECT_TRUE(report[name].is_null()) << name;
    }
  }
  EXPECT_EQ(report["ttfts"], Json::parse("[null,null]"));
  EXPECT_EQ(report["failed"], 2);
  EXPECT_EQ(report["request_rate"], "inf");
  EXPECT_THAT(load_table(about, summary, answers), HasSubstr("failed        2 x refused"));
}

TEST(BenchServeArrivals, RateShapeAndSeed) {
  constexpr std::size_t kCount = 20000;
  // The square of the gaps' standard deviation over their mean is 1 / burstiness.
  for (const double burstiness : {0.25, 1.0, 16.0}) {
    const std::vector<double> times = arrival_times(kCount, 50.0, burstiness, 7);
    EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
    EXPECT_NEAR(times.back(), kCount / 50.0, 1e-9);
    std::vector<double> gaps(kCount);
    std::adjacent_difference(times.begin(), times.end(), gaps.begin());
    const Latency l = latency_of(gaps, {}).value();
    EXPECT_NEAR(l.std * l.std / (l.mean * l.mean) * burstiness, 1.0, 0.1) << burstiness;
  }
  // Of a Poisson process so many gaps are longer than the mean.
  const std::vector<double> times = arrival_times(kCount, 1.0, 1.0, 3);
  int longer = 0;
  for (std::size_t i = 1; i < kCount; ++i) longer += times[i] - times[i - 1] > 1.0 ? 1 : 0;
  EXPECT_NEAR(longer / static_cast<double>(kCount), std::exp(-1.0), 0.01);
  EXPECT_EQ(arrival_times(9, 1.0, 1.0, 3), arrival_times(9, 1.0, 1.0, 3));
  EXPECT_NE(arrival_times(9, 1.0, 1.0, 3), arrival_times(9, 1.0, 1.0, 4));
  EXPECT_THAT(arrival_times(3, std::numeric_limits<double>::infinity(), 1.0, 0),
              ElementsAre(0.0, 0.0, 0.0));
  for (const double time : arrival_times(3, 2.0, 0.001, 1)) EXPECT_TRUE(std::isfinite(time));
}

TEST(BenchServeOptions, Values) {
  EXPECT_TRUE(std::isinf(parse_request_rate("inf").value()));
  EXPECT_DOUBLE_EQ(parse_request_rate("2.5").value(), 2.5);
  EXPECT_THAT(parse_percents("50,90,99.9").value(), ElementsAre(50, 90, 99.9));
  EXPECT_EQ(percentile_name(99), "p99");
  EXPECT_EQ(percentile_name(99.9), "p99.9");
  EXPECT_EQ(parse_id_range("5:5")->last, 5);
  EXPECT_EQ(parse_base_url("http://h:1/v1/").value(), "http://h:1");
  EXPECT_EQ(parse_base_url("https://h/api/").value(), "https://h/api");
}

TEST(BenchServeOptions, RefusedWithWhatIsNeeded) {
  for (const char* text : {"", "0", "-1", "nan", "1e9", "infinite", "2x"}) {
    EXPECT_FALSE(parse_request_rate(text)) << text;
  }
  for (const char* text : {"", "50,", "101", "-1", "p50", "50,50", "nan"}) {
    EXPECT_FALSE(parse_percents(text)) << text;
  }
  for (const char* text :
       {"", "ttft", "ttft:", "ttft:0", "ttft:-1", "ttft:x", "itl:5", "ttft:inf"}) {
    EXPECT_FALSE(parse_goodput({text})) << text;
  }
  EXPECT_FALSE(parse_goodput({"ttft:1", "ttft:2"}));
  for (const char* text : {"", "5", "5:", ":5", "-1:5", "6:5", "1:9999999999"}) {
    EXPECT_FALSE(parse_id_range(text)) << text;
  }
  for (const char* text :
       {"", "127.0.0.1:8000", "http://", "ftp://h", "http://h/?x", "http://a b"}) {
    EXPECT_FALSE(parse_base_url(text)) << text;
  }
}

Json body_of(const RequestPlan& plan, std::size_t index) {
  return Json::parse(make_load_request(plan, index).body);
}

TEST(BenchServeRequests, RandomIds) {
  RequestPlan plan;
  plan.model = "m";
  plan.ids = {.first = 100, .last = 103};
  plan.prefix_len = 30;
  plan.input_len = 50;
  plan.output_len = 7;
  const Json first = body_of(plan, 0);
  const auto a = first["prompt"].get<std::vector<int>>();
  const auto b = body_of(plan, 1)["prompt"].get<std::vector<int>>();
  ASSERT_EQ(a.size(), 80U);
  EXPECT_EQ(make_load_request(plan, 0).prompt_tokens, 80);
  EXPECT_EQ(*std::min_element(a.begin(), a.end()), 100);
  EXPECT_EQ(*std::max_element(a.begin(), a.end()), 103);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 30, b.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 30, a.end(), b.begin() + 30));
  EXPECT_EQ(first, body_of(plan, 0));
  plan.seed = 1;
  EXPECT_NE(first, body_of(plan, 0));
  EXPECT_EQ(first["max_tokens"], 7);
  EXPECT_EQ(first["stream"], true);
  EXPECT_EQ(first["stream_options"]["include_usage"], true);
  EXPECT_FALSE(first.contains("ignore_eos"));
  plan.ignore_eos = true;
  plan.extra_body = R"({"min_tokens": 7, "temperature": 0.5})";
  ASSERT_TRUE(check_request_plan(plan));
  EXPECT_EQ(body_of(plan, 0)["ignore_eos"], true);
  EXPECT_EQ(body_of(plan, 0)["min_tokens"], 7);
  EXPECT_EQ(body_of(plan, 0)["temperature"], 0.5);
  plan.extra_body = "[1]";
  EXPECT_FALSE(check_request_plan(plan));
}

TEST(BenchServeRequests, WordsAndTexts) {
  RequestPlan plan;
  plan.chat = true;
  plan.form = PromptForm::kWords;
  plan.prefix_len = 3;
  plan.input_len = 5;
  const Json chat = body_of(plan, 0);
  const auto text = chat["messages"][0]["content"].get<std::string>();
  EXPECT_EQ(std::count(text.begin(), text.end(), ' '), 7) << text;
  EXPECT_EQ(chat["messages"][0]["role"], "user");
  EXPECT_FALSE(chat.contains("prompt"));
  plan.chat = false;
  plan.form = PromptForm::kTexts;
  plan.texts = {"a", "b"};
  EXPECT_EQ(body_of(plan, 2)["prompt"], "a");
  EXPECT_EQ(make_load_request(plan, 0).prompt_tokens, std::nullopt);
}

TEST(BenchServeRequests, TextsOfAFile) {
  const test::ProgramFolder folder("load_texts");
  folder.write("texts.json", R"(["one", "two"])");
  EXPECT_THAT(read_load_texts(folder.file("texts.json")).value(), ElementsAre("one", "two"));
  folder.write("entries.json", R"([{"prompt": "three"}])");
  EXPECT_THAT(read_load_texts(folder.file("entries.json")).value(), ElementsAre("three"));
  folder.write("bad.json", R"(["one", 2])");
  const auto bad = read_load_texts(folder.file("bad.json"));
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().text(), HasSubstr("bad.json"));
  EXPECT_FALSE(read_load_texts(folder.file("none.json")));
}

}  // namespace
}  // namespace tg
