#include "cli/load_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "cli/load_options.h"

namespace tg {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kShownReasons = 5;

struct NamedLatency {
  const char* name;
  const char* shown;
  const std::optional<Latency>& latency;
};

std::array<NamedLatency, 4> latencies_of(const LoadSummary& s) {
  return {{{"ttft", "time to first token", s.ttft_ms},
           {"tpot", "time per output token", s.tpot_ms},
           {"itl", "inter-token latency", s.itl_ms},
           {"e2el", "end-to-end latency", s.e2el_ms}}};
}

Json number_or_null(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

void add_latency(const NamedLatency& named, const std::vector<double>& percents, Json& json) {
  const auto& latency = named.latency;
  const auto add = [&](const std::string& what, const auto& value_of) {
    Json& value = json[fmt::format("{}_{}_ms", what, named.name)];
    if (latency) value = value_of(*latency);
  };
  add("mean", [](const Latency& l) { return l.mean; });
  add("median", [](const Latency& l) { return l.median; });
  add("std", [](const Latency& l) { return l.std; });
  for (std::size_t i = 0; i < percents.size(); ++i) {
    add(percentile_name(percents[i]), [i](const Latency& l) { return l.percentiles[i]; });
  }
}

// One list per field, in the order in which the requests were sent; seconds, as vLLM has them.
void add_lists(std::span<const LoadAnswer> answers, Json& json) {
  const std::array<const char*, 9> names = {"input_lens",  "output_lens",     "ttfts",
                                            "itls",        "tpots",           "e2els",
                                            "start_times", "generated_texts", "errors"};
  for (const char* name : names) json[name] = Json::array();
  for (const LoadAnswer& a : answers) {
    const bool good = a.completed();
    json["input_lens"].push_back(a.prompt_tokens ? Json(*a.prompt_tokens) : Json(nullptr));
    json["output_lens"].push_back(good ? a.output_tokens : 0);
    json["ttfts"].push_back(good ? Json(a.ttft_s()) : Json(nullptr));
    json["itls"].push_back(good ? Json(a.gaps_s) : Json::array());
    json["tpots"].push_back(good ? number_or_null(a.tpot_s()) : Json(nullptr));
    json["e2els"].push_back(good ? Json(a.e2el_s()) : Json(nullptr));
    json["start_times"].push_back(a.sent_s);
    json["generated_texts"].push_back(a.text);
    json["errors"].push_back(a.interrupted ? "interrupted" : a.failure);
  }
}

std::string limits_text(const GoodputLimits& limits) {
  std::string text;
  const auto add = [&text](const char* name, const std::optional<double>& limit) {
    if (limit) text += fmt::format("{}{} <= {} ms", text.empty() ? "" : ", ", name, *limit);
  };
  add("ttft", limits.ttft_ms);
  add("tpot", limits.tpot_ms);
  add("e2el", limits.e2el_ms);
  return text;
}

std::string latency_table(const LoadAbout& about, const LoadSummary& summary) {
  std::string text =
      fmt::format("{:22}{:>11}{:>11}{:>11}", "milliseconds", "mean", "median", "std");
  for (const double p : about.percents) text += fmt::format("{:>11}", percentile_name(p));
  text += '\n';
  for (const NamedLatency& row : latencies_of(summary)) {
    text += fmt::format("{:22}", row.shown);
    std::vector<double> values;
    if (row.latency) {
      values = {row.latency->mean, row.latency->median, row.latency->std};
      values.insert(values.end(), row.latency->percentiles.begin(), row.latency->percentiles.end());
    }
    for (const double value : values) text += fmt::format("{:11.2f}", value);
    if (!row.latency) text += fmt::format("{:>11}", "none");
    text += '\n';
  }
  return text;
}

// The most frequent reasons first.
std::string failures_text(std::span<const LoadAnswer> answers) {
  std::map<std::string, std::int64_t> counts;
  for (const LoadAnswer& a : answers) {
    if (!a.failure.empty()) ++counts[a.failure];
  }
  std::vector<std::pair<std::string, std::int64_t>> reasons(counts.begin(), counts.end());
  std::sort(reasons.begin(), reasons.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  std::string text;
  for (std::size_t i = 0; i < std::min(kShownReasons, reasons.size()); ++i) {
    text += fmt::format("failed {:8} x {}\n", reasons[i].second, reasons[i].first);
  }
  if (reasons.size() > kShownReasons) {
    text += fmt::format("and {} other reasons\n", reasons.size() - kShownReasons);
  }
  return text;
}

}  // namespace

std::string load_json(const LoadAbout& about, const LoadSummary& summary,
                      std::span<const LoadAnswer> answers) {
  Json json = {
      {"date", about.date},
      {"backend", about.chat ? "openai-chat" : "openai"},
      {"url", about.url},
      {"model_id", about.model},
      {"num_prompts", about.num_prompts},
      {"request_rate", std::isinf(about.request_rate) ? Json("inf") : Json(about.request_rate)},
      {"burstiness", about.burstiness},
      {"max_concurrency", about.max_concurrency > 0 ? Json(about.max_concurrency) : Json(nullptr)},
      {"duration", summary.duration_s},
      {"completed", summary.completed},
      {"failed", summary.failed},
      {"interrupted", summary.interrupted},
      {"completed_without_usage", summary.without_usage},
      {"total_input_tokens", summary.total_input_tokens},
      {"total_output_tokens", summary.total_output_tokens},
      {"request_throughput", summary.request_throughput},
      {"request_goodput", number_or_null(summary.request_goodput)},
      {"output_throughput", summary.output_throughput},
      {"total_token_throughput", summary.total_token_throughput},
      {"max_concurrent_requests", about.most_concurrent}};
  for (const NamedLatency& latency : latencies_of(summary)) {
    add_latency(latency, about.percents, json);
  }
  add_lists(answers, json);
  // A server's message may be anything.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string load_table(const LoadAbout& about, const LoadSummary& summary,
                       std::span<const LoadAnswer> answers) {
  std::string text = fmt::format(
      "{}, model {}\n"
      "requests {} of {}: {} completed, {} failed, {} interrupted in {:.2f} s, up to {} at once\n"
      "tokens {} in, {} out\n"
      "per second {:.2f} requests, {:.2f} output tokens, {:.2f} tokens in all\n",
      about.url, about.model, answers.size(), about.num_prompts, summary.completed, summary.failed,
      summary.interrupted, summary.duration_s, about.most_concurrent, summary.total_input_tokens,
      summary.total_output_tokens, summary.request_throughput, summary.output_throughput,
      summary.total_token_throughput);
  if (summary.request_goodput) {
    text += fmt::format("goodput {:.2f} requests per second with {}\n", *summary.request_goodput,
                        limits_text(about.limits));
  }
  text += latency_table(about, summary) + failures_text(answers);
  if (summary.without_usage > 0) {
    text += fmt::format(
        "{} answers came without usage: their output tokens are counted as chunks with text\n",
        summary.without_usage);
  }
  return text;
}

}  // namespace tg
