#include "cli/performance.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

namespace tg {
namespace {

constexpr std::array<std::int64_t, 4> kReportedTokens = {1, 128, 1024, 4096};

double tokens_rate(double seconds) { return seconds > 0.0 ? 1.0 / seconds : 0.0; }

const char* ordinal_suffix(std::int64_t n) { return n == 1 ? "st" : "th"; }

}  // namespace

double percentile_of(std::span<const double> ascending, double percent) {
  const double place = percent / 100.0 * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, ascending.size() - 1);
  return std::lerp(ascending[below], ascending[above], place - static_cast<double>(below));
}

Percentiles percentiles(std::vector<double> sample) {
  Percentiles p;
  if (sample.empty()) return p;
  std::sort(sample.begin(), sample.end());
  p.min = sample.front();
  p.max = sample.back();
  p.mean = std::accumulate(sample.begin(), sample.end(), 0.0) / static_cast<double>(sample.size());
  p.p5 = percentile_of(sample, 5.0);
  p.p50 = percentile_of(sample, 50.0);
  p.p95 = percentile_of(sample, 95.0);
  p.p99 = percentile_of(sample, 99.0);
  return p;
}

Performance measure(std::span<const UserAnswer> users) {
  Performance p;
  std::vector<double> intervals;
  double first_token = 0.0;  // of anybody
  double last_first_token = 0.0;
  double last_token = 0.0;
  for (const UserAnswer& user : users) {
    ++p.users;
    p.prompt_tokens += static_cast<std::int64_t>(user.prompt_ids.size());
    p.speculation += user.speculation;
    const std::vector<double>& times = user.token_times_s;
    p.output_tokens += static_cast<std::int64_t>(times.size());
    if (times.empty()) continue;
    p.ttft_s.push_back(user.ttft_s);
    first_token = first_token == 0.0 ? times.front() : std::min(first_token, times.front());
    last_first_token = std::max(last_first_token, times.front());
    last_token = std::max(last_token, times.back());
    for (std::size_t i = 1; i < times.size(); ++i) intervals.push_back(times[i] - times[i - 1]);
  }
  for (const std::int64_t n : kReportedTokens) {
    Performance::AtToken at{.token = n};
    const auto i = static_cast<std::size_t>(n);
    for (const UserAnswer& user : users) {
      if (user.token_times_s.size() <= i) continue;
      ++at.users;
      at.interval_s += user.token_times_s[i] - user.token_times_s[i - 1];
    }
    if (at.interval_s <= 0.0) continue;
    at.interval_s /= static_cast<double>(at.users);
    p.at_tokens.push_back(at);
  }
  if (last_token > first_token) {
    p.decode_tokens_per_s = static_cast<double>(intervals.size()) / (last_token - first_token);
  }
  p.prefill_tokens_per_s = static_cast<double>(p.prompt_tokens) * tokens_rate(last_first_token);
  p.ttft = percentiles(p.ttft_s);
  p.token_interval = percentiles(std::move(intervals));
  return p;
}

std::string speculation_text(const SpeculationCounts& counts) {
  if (counts.proposed == 0) return {};
  const auto accepted = static_cast<double>(counts.accepted);
  const auto steps = static_cast<double>(counts.steps);
  return fmt::format(
      "{} of {} guessed tokens accepted ({:.1f} %), {:.2f} tokens per guessing step of a user",
      counts.accepted, counts.proposed, 100.0 * accepted / static_cast<double>(counts.proposed),
      (accepted + steps) / steps);
}

std::string performance_text(const Performance& p, double load_s) {
  std::string text = "=== Performance metrics ===\n";
  const auto line = [&text]<typename... Args>(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text), format, std::forward<Args>(args)...);
    text += '\n';
  };
  line("Users: {}, prompt tokens: {}, generated tokens: {}", p.users, p.prompt_tokens,
       p.output_tokens);
  for (const Performance::AtToken& at : p.at_tokens) {
    line("{}{} token decode time: {:.2f} ms [{:.2f} t/s/u, {:.2f} t/s]", at.token,
         ordinal_suffix(at.token), 1e3 * at.interval_s, tokens_rate(at.interval_s),
         static_cast<double>(at.users) * tokens_rate(at.interval_s));
  }
  line("Load time: {:.2f} s (no compile time: the kernels are part of the program)", load_s);
  line("Prefill: {:.2f} tok/s", p.prefill_tokens_per_s);
  line("Average Time to First Token (TTFT): {:.2f} ms", 1e3 * p.ttft.mean);
  line("Average speed: {:.2f} ms @ {:.2f} tok/s/user ({:.2f} tok/s throughput)",
       1e3 * p.token_interval.mean, tokens_rate(p.token_interval.mean), p.decode_tokens_per_s);
  if (p.speculation.proposed > 0) line("Speculation: {}", speculation_text(p.speculation));
  line("                    {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}", "min", "mean", "p5",
       "p50", "p95", "p99", "max");
  const auto row = [&](const char* name, const Percentiles& q) {
    line("{:<19} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f}", name,
         1e3 * q.min, 1e3 * q.mean, 1e3 * q.p5, 1e3 * q.p50, 1e3 * q.p95, 1e3 * q.p99, 1e3 * q.max);
  };
  row("TTFT (ms)", p.ttft);
  row("Time per token (ms)", p.token_interval);
  std::string per_user = "TTFT per user (ms):";
  for (const double ttft : p.ttft_s) {
    fmt::format_to(std::back_inserter(per_user), " {:.1f}", 1e3 * ttft);
  }
  line("{}", per_user);
  return text;
}

}  // namespace tg
