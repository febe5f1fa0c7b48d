#include "model/logit_shard.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>

namespace tg {
namespace {

constexpr std::uint32_t kSeen = 1U << 31;  // in counts: the penalties of this id are done

// The index of an id in a shard that has it; its size otherwise.
std::size_t index_of(TokenId id, std::span<const float> logits, TokenId first) {
  const std::int64_t index = static_cast<std::int64_t>(id) - first;
  const auto size = static_cast<std::int64_t>(logits.size());
  return static_cast<std::size_t>(index >= 0 && index < size ? index : size);
}

// A changed logit as a float that later differences stay finite with; -inf (forbidden) stays.
float to_logit(double x) {
  constexpr double kMax = std::numeric_limits<float>::max();
  if (!(x > -std::numeric_limits<double>::infinity())) return kForbidden;  // NaN too
  return static_cast<float>(std::clamp(x, -kMax, kMax));
}

void apply_mask(std::span<float> logits, TokenId first, std::span<const std::uint32_t> allowed) {
  if (allowed.empty()) return;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const std::size_t id = static_cast<std::size_t>(first) + i;
    const std::size_t word = id / 32;
    const bool is_allowed = word < allowed.size() && ((allowed[word] >> (id % 32)) & 1U) != 0;
    if (!is_allowed) logits[i] = kForbidden;
  }
}

void apply_bias(std::span<float> logits, TokenId first, const SamplingParams& params) {
  for (const auto& [id, bias] : params.logit_bias) {
    const std::size_t i = index_of(id, logits, first);
    if (i == logits.size()) continue;
    logits[i] = to_logit(static_cast<double>(logits[i]) + static_cast<double>(bias));
  }
}

// Only ids of prompt and output are touched: the cost follows the length of the text.
void apply_penalties(std::span<float> logits, TokenId first, const SamplingParams& params,
                     const SamplingContext& context, SamplerScratch& scratch) {
  if (!has_penalties(params)) return;
  const double repetition = params.repetition_penalty;
  if (scratch.counts.size() < logits.size()) scratch.counts.resize(logits.size(), 0);
  std::vector<std::uint32_t>& counts = scratch.counts;
  for (const TokenId id : context.output) {
    const std::size_t i = index_of(id, logits, first);
    if (i < logits.size()) ++counts[i];
  }
  const std::array<std::span<const TokenId>, 2> texts = {context.prompt, context.output};
  for (const auto text : texts) {
    for (const TokenId id : text) {
      const std::size_t i = index_of(id, logits, first);
      if (i == logits.size() || (counts[i] & kSeen) != 0) continue;
      double x = static_cast<double>(logits[i]);
      if (repetition != 1.0) x = x > 0.0 ? x / repetition : x * repetition;
      x -= params.frequency_penalty * counts[i];
      if (counts[i] > 0) x -= params.presence_penalty;
      logits[i] = to_logit(x);
      counts[i] |= kSeen;
    }
  }
  for (const auto text : texts) {
    for (const TokenId id : text) {
      const std::size_t i = index_of(id, logits, first);
      if (i < logits.size()) counts[i] = 0;
    }
  }
}

}  // namespace

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0 || params.presence_penalty != 0.0 ||
         params.frequency_penalty != 0.0;
}

void adjust_logits(std::span<float> logits, TokenId first, const SamplingParams& params,
                   const SamplingContext& context, SamplerScratch& scratch) {
  apply_mask(logits, first, context.allowed);
  apply_bias(logits, first, params);
  apply_penalties(logits, first, params, context, scratch);
}

// 16 maxima side by side, so that the compiler can use vectors; NaN loses every comparison.
float largest_logit(std::span<const float> logits) {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> lanes;
  lanes.fill(kForbidden);
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = logits[i + lane] > lanes[lane] ? logits[i + lane] : lanes[lane];
    }
  }
  float best = kForbidden;
  for (const float x : lanes) best = x > best ? x : best;
  for (; i < logits.size(); ++i) best = logits[i] > best ? logits[i] : best;
  return best;
}

std::size_t find_logit(std::span<const float> logits, float value) {
  return static_cast<std::size_t>(std::find(logits.begin(), logits.end(), value) - logits.begin());
}

void collect(std::span<const float> logits, TokenId first, double floor, SamplerScratch& scratch) {
  scratch.candidates.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (static_cast<double>(logits[i]) >= floor && logits[i] > kForbidden) {
      scratch.candidates.push_back({logits[i], first + static_cast<TokenId>(i)});
    }
  }
}

// Without sorting the vocabulary: n of the maxima of small blocks are n different entries, so the
// n-th largest of the maxima is a lower bound, and few entries reach it.
float nth_largest(std::span<const float> logits, std::int64_t n, SamplerScratch& scratch) {
  constexpr std::size_t kBlock = 32;  // 4008 blocks of a Llama 3 vocabulary
  std::vector<float>& maxima = scratch.maxima;
  maxima.clear();
  for (std::size_t i = 0; i < logits.size(); i += kBlock) {
    maxima.push_back(largest_logit(logits.subspan(i, std::min(kBlock, logits.size() - i))));
  }
  float bound = kForbidden;
  if (static_cast<std::size_t>(n) <= maxima.size()) {
    const auto nth = static_cast<std::ptrdiff_t>(n) - 1;
    std::nth_element(maxima.begin(), maxima.begin() + nth, maxima.end(), std::greater<>());
    bound = maxima[static_cast<std::size_t>(nth)];
  }
  collect(logits, 0, static_cast<double>(bound), scratch);
  return nth_candidate(n, scratch);
}

float nth_candidate(std::int64_t n, SamplerScratch& scratch) {
  const std::vector<Candidate>& candidates = scratch.candidates;
  if (static_cast<std::size_t>(n) > candidates.size()) return kForbidden;
  std::vector<float>& logits = scratch.maxima;
  logits.clear();
  for (const Candidate& candidate : candidates) logits.push_back(candidate.logit);
  const auto nth = static_cast<std::ptrdiff_t>(n) - 1;
  std::nth_element(logits.begin(), logits.begin() + nth, logits.end(), std::greater<>());
  return logits[static_cast<std::size_t>(nth)];
}

double finite_best(float best) {
  return std::min(static_cast<double>(best),
                  static_cast<double>(std::numeric_limits<float>::max()));
}

double weight(float logit, double best, double temperature) {
  const double d = (static_cast<double>(logit) - best) / temperature;
  if (d < 0.0) return std::exp(d);
  return d >= 0.0 ? 1.0 : 0.0;
}

double LogSum::log() const {
  if (best == kForbidden) return -std::numeric_limits<double>::infinity();
  return finite_best(best) + std::log(sum);
}

LogSum log_sum(std::span<const float> logits, float best) {
  LogSum all{best, 0.0};
  if (best == kForbidden) return all;
  const double finite = finite_best(best);
  for (const float logit : logits) all.sum += weight(logit, finite, 1.0);
  return all;
}

LogSum merged(const LogSum& a, const LogSum& b) {
  if (b.best == kForbidden) return a;
  if (a.best == kForbidden) return b;
  const float best = std::max(a.best, b.best);
  const double finite = finite_best(best);
  return {best, a.sum * weight(a.best, finite, 1.0) + b.sum * weight(b.best, finite, 1.0)};
}

}  // namespace tg
