#include "cli/load_statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "cli/performance.h"

namespace tg {
namespace {

constexpr double kMsPerSecond = 1e3;

bool within(std::optional<double> limit_ms, std::optional<double> value_s) {
  return !limit_ms || !value_s || *value_s * kMsPerSecond <= *limit_ms;
}

double per_second(double count, double seconds) { return seconds > 0.0 ? count / seconds : 0.0; }

}  // namespace

std::optional<Latency> latency_of(std::vector<double> sample, std::span<const double> percents) {
  if (sample.empty()) return std::nullopt;
  std::sort(sample.begin(), sample.end());
  const auto count = static_cast<double>(sample.size());
  Latency latency;
  latency.mean = std::accumulate(sample.begin(), sample.end(), 0.0) / count;
  latency.median = percentile_of(sample, 50.0);
  double squares = 0.0;
  for (const double x : sample) squares += (x - latency.mean) * (x - latency.mean);
  latency.std = std::sqrt(squares / count);
  for (const double p : percents) latency.percentiles.push_back(percentile_of(sample, p));
  return latency;
}

bool GoodputLimits::met_by(const LoadAnswer& answer) const {
  return within(ttft_ms, answer.ttft_s()) && within(tpot_ms, answer.tpot_s()) &&
         within(e2el_ms, answer.e2el_s());
}

LoadSummary summarize_load(std::span<const LoadAnswer> answers, std::span<const double> percents,
                           const GoodputLimits& limits) {
  LoadSummary summary;
  std::int64_t good = 0;
  std::vector<double> ttft;
  std::vector<double> tpot;
  std::vector<double> itl;
  std::vector<double> e2el;
  for (const LoadAnswer& answer : answers) {
    summary.duration_s = std::max(summary.duration_s, answer.end_s);
    if (!answer.completed()) {
      ++(answer.interrupted ? summary.interrupted : summary.failed);
      continue;
    }
    ++summary.completed;
    if (limits.met_by(answer)) ++good;
    if (!answer.has_usage) ++summary.without_usage;
    summary.total_input_tokens += answer.prompt_tokens.value_or(0);
    summary.total_output_tokens += answer.output_tokens;
    ttft.push_back(answer.ttft_s() * kMsPerSecond);
    if (const auto per_token = answer.tpot_s()) tpot.push_back(*per_token * kMsPerSecond);
    for (const double gap : answer.gaps_s) itl.push_back(gap * kMsPerSecond);
    e2el.push_back(answer.e2el_s() * kMsPerSecond);
  }
  const double seconds = summary.duration_s;
  const auto output = static_cast<double>(summary.total_output_tokens);
  const auto input = static_cast<double>(summary.total_input_tokens);
  summary.request_throughput = per_second(static_cast<double>(summary.completed), seconds);
  if (limits.any()) summary.request_goodput = per_second(static_cast<double>(good), seconds);
  summary.output_throughput = per_second(output, seconds);
  summary.total_token_throughput = per_second(input + output, seconds);
  summary.ttft_ms = latency_of(std::move(ttft), percents);
  summary.tpot_ms = latency_of(std::move(tpot), percents);
  summary.itl_ms = latency_of(std::move(itl), percents);
  summary.e2el_ms = latency_of(std::move(e2el), percents);
  return summary;
}

}  // namespace tg
