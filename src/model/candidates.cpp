#include "model/candidates.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace tg {

double divisor_of(const SamplingParams& params) {
  constexpr double kMinTemperature = 0.01;
  return std::max(params.temperature, kMinTemperature);
}

double min_p_floor(double best, const SamplingParams& params) {
  if (!(params.min_p > 0.0)) return -std::numeric_limits<double>::infinity();
  return best + divisor_of(params) * std::log(params.min_p);
}

bool cut_to_nucleus(double best, const SamplingParams& params, double mass,
                    SamplerScratch& scratch) {
  std::vector<Candidate>& candidates = scratch.candidates;
  std::sort(candidates.begin(), candidates.end(), better);
  const double temperature = divisor_of(params);
  double sum = 0.0;
  std::size_t kept = 0;
  while (kept < candidates.size() && sum < params.top_p * mass) {
    sum += weight(candidates[kept].logit, best, temperature);
    ++kept;
  }
  if (sum < params.top_p * mass) return false;
  candidates.resize(std::max<std::size_t>(kept, 1));
  std::sort(candidates.begin(), candidates.end(), lower_id);
  return true;
}

void keep_candidates(double best, const SamplingParams& params, SamplerScratch& scratch) {
  std::vector<Candidate>& candidates = scratch.candidates;
  const double floor = min_p_floor(best, params);
  std::erase_if(candidates,
                [&](const Candidate& c) { return static_cast<double>(c.logit) < floor; });
  if (!(params.top_p < 1.0)) return;
  const double mass = weigh_candidates(best, params, scratch);
  if (!cut_to_nucleus(best, params, mass, scratch)) {
    std::sort(candidates.begin(), candidates.end(), lower_id);
  }
}

double weigh_candidates(double best, const SamplingParams& params, SamplerScratch& scratch) {
  const double temperature = divisor_of(params);
  scratch.probabilities.clear();
  double sum = 0.0;
  for (const Candidate& candidate : scratch.candidates) {
    scratch.probabilities.push_back(weight(candidate.logit, best, temperature));
    sum += scratch.probabilities.back();
  }
  return sum;
}

Candidate draw(double uniform, double sum, const SamplerScratch& scratch) {
  const double target = uniform * sum;
  double passed = 0.0;
  std::size_t last = 0;
  for (std::size_t i = 0; i < scratch.candidates.size(); ++i) {
    if (scratch.probabilities[i] <= 0.0) continue;
    passed += scratch.probabilities[i];
    last = i;
    if (passed > target) break;
  }
  return scratch.candidates[last];  // the last possible one if uniform * sum rounded to sum
}

float logprob_of(float logit, double log_sum) {
  if (!(logit > kForbidden)) return kForbidden;
  constexpr double kLowest = std::numeric_limits<float>::lowest();
  return static_cast<float>(std::clamp(finite_best(logit) - log_sum, kLowest, 0.0));
}

std::vector<TokenLogprob> best_tokens(std::span<const Candidate> candidates, std::int32_t n,
                                      std::int64_t vocab, double log_sum) {
  std::vector<TokenLogprob> top;
  const auto wanted = static_cast<std::size_t>(std::clamp<std::int64_t>(n, 0, vocab));
  if (wanted == 0) return top;
  std::vector<Candidate> best(candidates.begin(), candidates.end());
  const auto enough = static_cast<std::ptrdiff_t>(std::min(wanted, best.size()));
  std::partial_sort(best.begin(), best.begin() + enough, best.end(), better);
  best.resize(static_cast<std::size_t>(enough));
  for (const Candidate& candidate : best) {
    top.push_back({candidate.token, logprob_of(candidate.logit, log_sum)});
  }
  if (top.size() == wanted) return top;
  // All allowed ids are in `best`: what is missing there is forbidden.
  std::sort(best.begin(), best.end(), lower_id);
  std::size_t next = 0;
  for (TokenId id = 0; top.size() < wanted; ++id) {
    if (next < best.size() && best[next].token == id) {
      ++next;
    } else {
      top.push_back({id, kForbidden});
    }
  }
  return top;
}

}  // namespace tg
