// GET /metrics: the names, and that the numbers are exactly what was reported.
#include "server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <sstream>
#include <thread>
#include <vector>

namespace tg {
namespace {

// Of every line that is no comment: "name{labels}" and its value.
std::map<std::string, double> values_of(const std::string& text) {
  std::map<std::string, double> values;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    const auto space = line.rfind(' ');
    values[line.substr(0, space)] = std::strtod(line.c_str() + space + 1, nullptr);
  }
  return values;
}

std::string labelled(const std::string& name) { return name + "{model_name=\"m\"}"; }

RequestTiming timing_of(double submitted, double started, std::vector<double> tokens) {
  RequestTiming timing;
  timing.submitted_s = submitted;
  timing.started_s = started;
  timing.token_times_s = std::move(tokens);
  timing.finished_s = timing.token_times_s.empty() ? started : timing.token_times_s.back();
  return timing;
}

FinishEvent finished(RequestId id, FinishReason reason, std::int64_t prompt_tokens,
                     std::int64_t completion_tokens, const RequestTiming& timing) {
  return {.id = id,
          .reason = reason,
          .error = {},
          .prompt_tokens = prompt_tokens,
          .completion_tokens = completion_tokens,
          .speculation = {},
          .timing = timing};
}

TEST(Metrics, HaveTheNamesOfCaseC34FromTheStart) {
  Metrics metrics("m");
  const std::string text = metrics.text({});
  const auto values = values_of(text);
  for (const char* name :
       {"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "vllm:num_preemptions_total", "vllm:prompt_tokens_total", "vllm:generation_tokens_total",
        "vllm:prompt_tokens_cached_total", "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total"}) {
    ASSERT_TRUE(values.contains(labelled(name))) << name;
    EXPECT_EQ(values.at(labelled(name)), 0.0) << name;
  }
  for (const char* reason : {"stop", "length", "abort", "error"}) {
    EXPECT_TRUE(values.contains("vllm:request_success_total{finished_reason=\"" +
                                std::string(reason) + "\",model_name=\"m\"}"))
        << reason;
  }
  for (const std::string name :
       {"vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds",
        "vllm:e2e_request_latency_seconds", "vllm:request_queue_time_seconds",
        "vllm:request_prefill_time_seconds", "vllm:request_decode_time_seconds"}) {
    EXPECT_THAT(text, testing::HasSubstr("# TYPE " + name + " histogram"));
    EXPECT_EQ(values.at(labelled(name + "_count")), 0.0);
    EXPECT_EQ(values.at(labelled(name + "_sum")), 0.0);
    EXPECT_EQ(values.at(name + "_bucket{model_name=\"m\",le=\"+Inf\"}"), 0.0);
  }
}

TEST(Metrics, CountExactlyTheTokensOfAnswersThatEnded) {
  Metrics metrics("m");
  const RequestTiming timing = timing_of(10.0, 10.5, {11.0, 11.25, 12.25});
  metrics.on_finished(finished(1, FinishReason::kStop, 7, 3, timing));
  metrics.on_finished(finished(2, FinishReason::kLength, 100, 16, timing));
  // The second choice of the same prompt: `usage` has the prompt once.
  metrics.on_finished(finished(3, FinishReason::kLength, 100, 5, timing), false);
  metrics.on_finished(finished(4, FinishReason::kCancelled, 1000, 50, timing));
  metrics.on_finished(finished(5, FinishReason::kError, 1000, 50, timing));
  const auto values = values_of(metrics.text({}));
  EXPECT_EQ(values.at(labelled("vllm:prompt_tokens_total")), 107.0);
  EXPECT_EQ(values.at(labelled("vllm:generation_tokens_total")), 24.0);
  const auto ended = [&](const std::string& reason) {
    return values.at("vllm:request_success_total{finished_reason=\"" + reason +
                     "\",model_name=\"m\"}");
  };
  EXPECT_EQ(ended("stop"), 1.0);
  EXPECT_EQ(ended("length"), 2.0);
  EXPECT_EQ(ended("abort"), 1.0);
  EXPECT_EQ(ended("error"), 1.0);
  const auto mean = [&](const std::string& name) {
    EXPECT_EQ(values.at(labelled(name + "_count")), 3.0);
    return values.at(labelled(name + "_sum")) / 3.0;
  };
  EXPECT_DOUBLE_EQ(mean("vllm:time_to_first_token_seconds"), 1.0);
  EXPECT_DOUBLE_EQ(mean("vllm:request_queue_time_seconds"), 0.5);
  EXPECT_DOUBLE_EQ(mean("vllm:request_prefill_time_seconds"), 0.5);
  EXPECT_DOUBLE_EQ(mean("vllm:request_decode_time_seconds"), 1.25);
  EXPECT_DOUBLE_EQ(mean("vllm:e2e_request_latency_seconds"), 2.25);
}

TEST(Metrics, PrefixCacheCountsFollowTheEngine) {
  Metrics metrics("m");
  const RequestTiming timing = timing_of(10.0, 10.5, {11.0});
  FinishEvent event = finished(1, FinishReason::kStop, 200, 1, timing);
  event.cached_tokens = 192;
  metrics.on_finished(event);
  EngineSnapshot snapshot;
  snapshot.stats.prefix_queries = 200;
  snapshot.stats.prefix_hits = 192;
  const auto values = values_of(metrics.text(snapshot));
  EXPECT_EQ(values.at(labelled("vllm:prompt_tokens_cached_total")), 192.0);
  EXPECT_EQ(values.at(labelled("vllm:prefix_cache_queries_total")), 200.0);
  EXPECT_EQ(values.at(labelled("vllm:prefix_cache_hits_total")), 192.0);
  // The same state read again counts nothing twice.
  EXPECT_EQ(values_of(metrics.text(snapshot)).at(labelled("vllm:prefix_cache_hits_total")), 192.0);
}

TEST(Metrics, TimeBetweenTokensIsThereWhileTheAnswerRuns) {
  Metrics metrics("m");
  const SampledToken token;
  // Two requests whose tokens alternate: each gap is of its own request.
  for (int i = 0; i < 4; ++i) {
    metrics.on_token({.id = 1, .index = i, .sampled = token, .time_s = 100.0 + i});
    metrics.on_token({.id = 2, .index = i, .sampled = token, .time_s = 100.5 + 0.125 * i});
  }
  const auto running = values_of(metrics.text({}));
  const std::string name = "vllm:inter_token_latency_seconds";
  EXPECT_EQ(running.at(labelled(name + "_count")), 6.0);
  EXPECT_DOUBLE_EQ(running.at(labelled(name + "_sum")), 3.0 + 3 * 0.125);
  // Ids that have ended leave nothing that a later answer could be measured against.
  const RequestTiming timing;
  metrics.on_finished(finished(1, FinishReason::kCancelled, 9, 4, timing));
  metrics.on_token({.id = 1, .index = 0, .sampled = token, .time_s = 900.0});
  EXPECT_EQ(values_of(metrics.text({})).at(labelled(name + "_count")), 6.0);
}

TEST(Metrics, BucketsAreCumulativeAndEndWithTheCount) {
  Metrics metrics("m");
  for (const double ttft : {0.0001, 0.012, 0.4, 7.0, 5000.0}) {
    const RequestTiming timing = timing_of(1.0, 1.0, {1.0 + ttft});
    metrics.on_finished(finished(1, FinishReason::kStop, 1, 1, timing));
  }
  std::istringstream lines(metrics.text({}));
  double last = 0.0;
  double bound = -1.0;
  int buckets = 0;
  const std::string start = "vllm:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"";
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(start)) continue;
    const double next_bound = std::strtod(line.c_str() + start.size(), nullptr);
    const double value = std::strtod(line.c_str() + line.rfind(' '), nullptr);
    EXPECT_GT(next_bound, bound);
    EXPECT_GE(value, last);
    bound = next_bound;
    last = value;
    ++buckets;
  }
  EXPECT_GT(buckets, 10);
  EXPECT_TRUE(std::isinf(bound));
  EXPECT_EQ(last, 5.0);
}

TEST(Metrics, GaugesComeFromTheSnapshot) {
  Metrics metrics("m");
  EngineSnapshot snapshot;
  snapshot.running = 3;
  snapshot.waiting = 2;
  snapshot.free_pages = 25;
  snapshot.total_pages = 100;
  snapshot.stats.preemptions = 4;
  snapshot.stats.speculation = {.steps = 2, .proposed = 9, .accepted = 6};
  auto values = values_of(metrics.text(snapshot));
  EXPECT_EQ(values.at(labelled("vllm:num_requests_running")), 3.0);
  EXPECT_EQ(values.at(labelled("vllm:num_requests_waiting")), 2.0);
  EXPECT_EQ(values.at(labelled("vllm:kv_cache_usage_perc")), 0.75);
  EXPECT_EQ(values.at(labelled("vllm:num_preemptions_total")), 4.0);
  EXPECT_EQ(values.at(labelled("vllm:spec_decode_num_accepted_tokens_total")), 6.0);
  // Asked twice, counted once; at rest the gauges are 0 again.
  snapshot.running = snapshot.waiting = 0;
  snapshot.free_pages = 100;
  values = values_of(metrics.text(snapshot));
  EXPECT_EQ(values.at(labelled("vllm:num_requests_running")), 0.0);
  EXPECT_EQ(values.at(labelled("vllm:kv_cache_usage_perc")), 0.0);
  EXPECT_EQ(values.at(labelled("vllm:num_preemptions_total")), 4.0);
}

TEST(Metrics, CountHttpExchangesWithFewLabels) {
  Metrics metrics("m");
  for (const char* method : {"GET", "GET", "POST", "BREW", "STEEP"}) {
    metrics.on_http({.method = method, .status = 200});
  }
  metrics.on_http({.method = "POST", .status = 429});
  const auto values = values_of(metrics.text({}));
  EXPECT_EQ(values.at("http_requests_total{method=\"GET\",status=\"200\"}"), 2.0);
  EXPECT_EQ(values.at("http_requests_total{method=\"POST\",status=\"429\"}"), 1.0);
  EXPECT_EQ(values.at("http_requests_total{method=\"other\",status=\"200\"}"), 2.0);
}

TEST(Metrics, LoseNothingBetweenThreads) {
  Metrics metrics("m \"quoted\"\n");
  std::vector<std::thread> threads;
  for (RequestId id = 1; id <= 4; ++id) {
    threads.emplace_back([&metrics, id] {
      const SampledToken token;
      const RequestTiming timing;
      for (int i = 0; i < 500; ++i) {
        metrics.on_token({.id = id, .index = i, .sampled = token, .time_s = 0.5 * i});
        metrics.on_finished(finished(id + 4, FinishReason::kStop, 1, 1, timing));
        if (i % 100 == 0) metrics.text({});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string text = metrics.text({});
  EXPECT_THAT(text, testing::HasSubstr(
                        "vllm:generation_tokens_total{model_name=\"m \\\"quoted\\\"\\n\"} 2000"));
  EXPECT_THAT(
      text, testing::HasSubstr(
                "vllm:inter_token_latency_seconds_count{model_name=\"m \\\"quoted\\\"\\n\"} 1996"));
}

}  // namespace
}  // namespace tg
