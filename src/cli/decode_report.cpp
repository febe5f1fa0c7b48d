#include "cli/decode_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "cli/memory.h"
#include "cli/performance.h"

namespace tg {
namespace {

constexpr std::int64_t kShownIterations = 200;
constexpr std::int64_t kShownEvery = 1000;
constexpr std::size_t kReportedToken = 128;

// The suggested range lies so much around what was seen.
constexpr double kRoomBelow = 0.8;
constexpr double kRoomAbove = 1.25;

double rate(double seconds) { return seconds > 0.0 ? 1.0 / seconds : 0.0; }

std::vector<double> rates(std::span<const double> seconds) {
  std::vector<double> all;
  all.reserve(seconds.size());
  for (const double s : seconds) all.push_back(rate(s));
  return all;
}

std::optional<double> number(std::string_view text) {
  double value = 0.0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

Result<TsuTarget> parse_tsu_target(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon != std::string::npos) {
    const auto low = number(std::string_view(text).substr(0, colon));
    const auto high = number(std::string_view(text).substr(colon + 1));
    if (low && high && 0.0 <= *low && *low <= *high) return TsuTarget{*low, *high};
  }
  return error(ErrorCode::kBadArgument, "--target-tsu '{}': need LOW:HIGH with 0 <= LOW <= HIGH",
               text);
}

void TimeSample::add(double seconds) {
  if (static_cast<std::size_t>(count_) < kFirst) first_[static_cast<std::size_t>(count_)] = seconds;
  if (count_++ % stride_ != 0) return;
  if (kept_ == kMost) {
    for (std::size_t i = 0; i < kMost / 2; ++i) sample_[i] = sample_[2 * i];
    kept_ = kMost / 2;
    stride_ *= 2;
  }
  sample_[kept_++] = seconds;
}

std::span<const double> TimeSample::first() const {
  return std::span(first_).first(std::min(kFirst, static_cast<std::size_t>(count_)));
}

TsuCheck check_tsu(std::span<const double> first_s, const TsuTarget& target) {
  TsuCheck check;
  for (const double seconds : first_s) {
    ++check.looked_at;
    const double tsu = rate(seconds);
    if (tsu < target.low || tsu > target.high) ++check.outside;
  }
  check.failed = 10 * check.outside > check.looked_at;
  return check;
}

std::string iteration_text(const DecodeIteration& iteration, std::int64_t decode_index) {
  const double tsu = rate(iteration.seconds);
  return fmt::format(
      "Iteration : {}, {} Iteration : {}, tok/s/user : {:.2f}, Throughput : {:.2f} tok/s, "
      "Iteration Time : {:.2f} ms\n",
      iteration.index, iteration.forced ? "Prefill" : "Decode",
      iteration.forced ? iteration.index : decode_index, tsu,
      tsu * static_cast<double>(iteration.users), 1e3 * iteration.seconds);
}

bool is_shown(std::int64_t iteration) {
  return iteration < kShownIterations || iteration % kShownEvery == 0;
}

std::string report_text(const DecodeReport& report) {
  std::string text = "\n=== Decode performance ===\n";
  text += fmt::format(
      "Loading: {:.2f} s; the first iteration was run once before, as warm-up: {:.2f} ms\n",
      report.load_s, 1e3 * report.first_step_s);
  if (report.prefill.count() > 0) {
    const auto times = report.prefill.sample();
    text += fmt::format("Prompt iterations: {}, {:.2f} ms each (median)\n", report.prefill.count(),
                        1e3 * percentiles({times.begin(), times.end()}).p50);
  }
  const std::span<const double> first = report.decode.first();
  if (first.empty()) {
    text += "No decode iteration: the prompts are longer than the run\n";
  } else {
    const Percentiles p = percentiles(rates(report.decode.sample()));
    // What nine of ten stay inside of, with room for another day's machine.
    const Percentiles of_first = percentiles(rates(first));
    text += fmt::format(
        "Decode iterations: {}, {} users\n"
        "tok/s/user: min {:.2f}, max {:.2f}, average {:.2f}, median {:.2f}, 5th percentile {:.2f}, "
        "95th percentile {:.2f}\n"
        "Throughput (median): {:.2f} tok/s\n"
        "Suggested target range (--target-tsu): {:.2f}:{:.2f}\n",
        report.decode.count(), report.users, p.min, p.max, p.mean, p.p50, p.p5, p.p95,
        p.p50 * static_cast<double>(report.users), kRoomBelow * of_first.p5,
        kRoomAbove * of_first.p95);
    if (first.size() >= kReportedToken) {
      text += fmt::format("tok/s/user at token {}: {:.2f}\n", kReportedToken,
                          rate(first[kReportedToken - 1]));
    }
    if (report.target) {
      const TsuCheck check = check_tsu(first, *report.target);
      text +=
          fmt::format("Target {:.2f}..{:.2f} tok/s/user: {} of the first {} iterations outside\n",
                      report.target->low, report.target->high, check.outside, check.looked_at);
    }
  }
  text += fmt::format("Hash of all sampled ids: {:016x}\n", report.hash);
  return text;
}

std::string op_times_text(const OpTimes& times, std::int64_t iterations) {
  double total = 0.0;
  for (const OpTimes::Op& op : times.ops()) total += op.seconds;
  const auto n = static_cast<double>(iterations);
  std::string text = "\n=== Operations of an iteration ===\n";
  for (const OpTimes::Op& op : times.ops()) {
    text += fmt::format("{:10} {:16} {:6.0f} times {:10.3f} ms {:6.2f} %\n", op.of, op.what,
                        static_cast<double>(op.count) / n, 1e3 * op.seconds / n,
                        total > 0.0 ? 100.0 * op.seconds / total : 0.0);
  }
  text += fmt::format("{:10} {:16} {:12} {:10.3f} ms\n", "sum", "", "", 1e3 * total / n);
  return text;
}

std::string growth_text(const MemoryGrowth& memory) {
  return fmt::format(
      "Memory (RssAnon + VmSwap): {} after iteration {}, {} after iteration {}, most {}: {}{} of "
      "growth\n",
      bytes_text(memory.first), memory.first_iteration, bytes_text(memory.last),
      memory.last_iteration, bytes_text(memory.most), memory.growth() < 0 ? "-" : "",
      bytes_text(std::abs(memory.growth())));
}

}  // namespace tg
