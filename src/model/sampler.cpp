#include "model/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>

namespace tg {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr double kMinTemperature = 0.01;   // vLLM's: below it e^(difference / T) says nothing new
constexpr std::uint32_t kSeen = 1U << 31;  // in counts: the penalties of this id are done

bool in_vocab(TokenId id, std::span<const float> logits) {
  return id >= 0 && static_cast<std::size_t>(id) < logits.size();
}

// A changed logit as a float that later differences stay finite with; -inf (forbidden) stays.
float to_logit(double x) {
  constexpr double kMax = std::numeric_limits<float>::max();
  if (!(x > -std::numeric_limits<double>::infinity())) return kMinusInfinity;  // NaN too
  return static_cast<float>(std::clamp(x, -kMax, kMax));
}

void apply_mask(std::span<float> logits, std::span<const std::uint32_t> allowed) {
  if (allowed.empty()) return;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const std::size_t word = i / 32;
    const bool is_allowed = word < allowed.size() && ((allowed[word] >> (i % 32)) & 1U) != 0;
    if (!is_allowed) logits[i] = kMinusInfinity;
  }
}

void apply_bias(std::span<float> logits, const SamplingParams& params) {
  for (const auto& [id, bias] : params.logit_bias) {
    if (!in_vocab(id, logits)) continue;
    float& x = logits[static_cast<std::size_t>(id)];
    x = to_logit(static_cast<double>(x) + static_cast<double>(bias));
  }
}

// Only ids of prompt and output are touched: the cost follows the length of the text.
void apply_penalties(std::span<float> logits, const SamplingParams& params,
                     const SamplingContext& context, SamplerScratch& scratch) {
  const double repetition = params.repetition_penalty;
  if (repetition == 1.0 && params.presence_penalty == 0.0 && params.frequency_penalty == 0.0) {
    return;
  }
  if (scratch.counts.size() < logits.size()) scratch.counts.resize(logits.size(), 0);
  std::vector<std::uint32_t>& counts = scratch.counts;
  for (const TokenId id : context.output) {
    if (in_vocab(id, logits)) ++counts[static_cast<std::size_t>(id)];
  }
  const std::array<std::span<const TokenId>, 2> texts = {context.prompt, context.output};
  for (const auto text : texts) {
    for (const TokenId id : text) {
      if (!in_vocab(id, logits)) continue;
      std::uint32_t& count = counts[static_cast<std::size_t>(id)];
      if ((count & kSeen) != 0) continue;
      double x = static_cast<double>(logits[static_cast<std::size_t>(id)]);
      if (repetition != 1.0) x = x > 0.0 ? x / repetition : x * repetition;
      x -= params.frequency_penalty * count;
      if (count > 0) x -= params.presence_penalty;
      logits[static_cast<std::size_t>(id)] = to_logit(x);
      count |= kSeen;
    }
  }
  for (const auto text : texts) {
    for (const TokenId id : text) {
      if (in_vocab(id, logits)) counts[static_cast<std::size_t>(id)] = 0;
    }
  }
}

void adjust(std::span<float> logits, const SamplingParams& params, const SamplingContext& context,
            SamplerScratch& scratch) {
  apply_mask(logits, context.allowed);
  apply_bias(logits, params);
  apply_penalties(logits, params, context, scratch);
}

// 16 maxima side by side, so that the compiler can use vectors; NaN loses every comparison.
float largest(std::span<const float> logits) {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> lanes;
  lanes.fill(kMinusInfinity);
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = logits[i + lane] > lanes[lane] ? logits[i + lane] : lanes[lane];
    }
  }
  float best = kMinusInfinity;
  for (const float x : lanes) best = x > best ? x : best;
  for (; i < logits.size(); ++i) best = logits[i] > best ? logits[i] : best;
  return best;
}

// The lowest id with the largest logit; `best` is largest(logits) and not -inf.
TokenId first_with(std::span<const float> logits, float best) {
  return static_cast<TokenId>(std::find(logits.begin(), logits.end(), best) - logits.begin());
}

// e^((logit - best) / temperature), never NaN: a NaN logit weighs nothing, +inf as much as the
// best.
double weight(float logit, double best, double temperature) {
  const double d = (static_cast<double>(logit) - best) / temperature;
  if (d < 0.0) return std::exp(d);
  return d >= 0.0 ? 1.0 : 0.0;
}

// Differences to a best of +inf would be NaN.
double finite_best(float best) {
  return std::min(static_cast<double>(best),
                  static_cast<double>(std::numeric_limits<float>::max()));
}

bool before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}
bool lower_id(const Candidate& a, const Candidate& b) { return a.token < b.token; }

// Fills scratch.candidates with every token whose logit is >= floor and > -inf, ids ascending.
void collect(std::span<const float> logits, double floor, SamplerScratch& scratch) {
  scratch.candidates.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (static_cast<double>(logits[i]) >= floor && logits[i] > kMinusInfinity) {
      scratch.candidates.push_back({logits[i], static_cast<TokenId>(i)});
    }
  }
}

// The n-th largest logit (n >= 1); -inf when there are fewer above it. Clobbers scratch.candidates.
// Without sorting the vocabulary: n of the maxima of small blocks are n different entries, so the
// n-th largest of the maxima is a lower bound, and few entries reach it.
float nth_largest(std::span<const float> logits, std::int64_t n, SamplerScratch& scratch) {
  constexpr std::size_t kBlock = 32;  // 4008 blocks of a Llama 3 vocabulary
  const auto nth = static_cast<std::ptrdiff_t>(n) - 1;
  std::vector<float>& maxima = scratch.block_maxima;
  maxima.clear();
  for (std::size_t i = 0; i < logits.size(); i += kBlock) {
    maxima.push_back(largest(logits.subspan(i, std::min(kBlock, logits.size() - i))));
  }
  float bound = kMinusInfinity;
  if (static_cast<std::size_t>(n) <= maxima.size()) {
    std::nth_element(maxima.begin(), maxima.begin() + nth, maxima.end(), std::greater<>());
    bound = maxima[static_cast<std::size_t>(nth)];
  }
  collect(logits, static_cast<double>(bound), scratch);
  std::vector<Candidate>& candidates = scratch.candidates;
  if (static_cast<std::size_t>(n) > candidates.size()) return kMinusInfinity;
  std::nth_element(candidates.begin(), candidates.begin() + nth, candidates.end(), before);
  return candidates[static_cast<std::size_t>(nth)].logit;
}

// Keeps of `logits` what lies at or above `floor` and in the nucleus: best first, a token stays
// while the mass of those before it is < top_p. Sorts only a prefix that is long enough; leaves it
// in scratch.candidates by id. `mass` is the sum of all weights at or above `floor`; `few_left`
// says that top-k has made what lies above it short already.
void keep_nucleus(std::span<const float> logits, double floor, bool few_left, double best,
                  double temperature, double mass, double top_p, SamplerScratch& scratch) {
  const auto vocab = static_cast<std::int64_t>(logits.size());
  // Real text needs tens to hundreds of tokens for 0.9; flat distributions go on to the next size.
  for (std::int64_t prefix = few_left ? vocab : 1024;; prefix *= 8) {
    const bool whole = prefix >= vocab;
    const double at_least =
        whole ? floor : std::max(floor, static_cast<double>(nth_largest(logits, prefix, scratch)));
    collect(logits, at_least, scratch);
    std::vector<Candidate>& candidates = scratch.candidates;
    std::sort(candidates.begin(), candidates.end(), before);
    double sum = 0.0;
    std::size_t kept = 0;
    while (kept < candidates.size() && sum < top_p * mass) {
      sum += weight(candidates[kept].logit, best, temperature);
      ++kept;
    }
    if (sum >= top_p * mass || at_least == floor) {
      candidates.resize(std::max<std::size_t>(kept, 1));
      std::sort(candidates.begin(), candidates.end(), lower_id);
      return;
    }
  }
}

// The tokens that can be drawn, ids ascending, in scratch.candidates, their weights in
// scratch.probabilities; returns the sum of the weights, added in order of id. `best_logit` is
// largest(logits) and not -inf.
double keep(std::span<const float> logits, float best_logit, const SamplingParams& params,
            SamplerScratch& scratch) {
  const double temperature = std::max(params.temperature, kMinTemperature);
  const double best = finite_best(best_logit);
  double floor = -std::numeric_limits<double>::infinity();
  if (params.min_p > 0.0) floor = best + temperature * std::log(params.min_p);
  const bool top_k = params.top_k > 0 && params.top_k < static_cast<std::int64_t>(logits.size());
  if (top_k) {
    // Every token tied with the k-th stays.
    floor = std::max(floor, static_cast<double>(nth_largest(logits, params.top_k, scratch)));
  }
  std::vector<double>& weights = scratch.probabilities;
  if (params.top_p < 1.0) {
    double mass = 0.0;
    for (const float logit : logits) {
      if (static_cast<double>(logit) >= floor) mass += weight(logit, best, temperature);
    }
    keep_nucleus(logits, floor, top_k, best, temperature, mass, params.top_p, scratch);
  } else {
    collect(logits, floor, scratch);
  }
  weights.clear();
  double sum = 0.0;
  for (const Candidate& candidate : scratch.candidates) {
    weights.push_back(weight(candidate.logit, best, temperature));
    sum += weights.back();
  }
  return sum;
}

TokenId draw(double uniform, double sum, const SamplerScratch& scratch) {
  const double target = uniform * sum;
  double passed = 0.0;
  std::size_t last = 0;
  for (std::size_t i = 0; i < scratch.candidates.size(); ++i) {
    if (scratch.probabilities[i] <= 0.0) continue;
    passed += scratch.probabilities[i];
    last = i;
    if (passed > target) break;
  }
  return scratch.candidates[last].token;  // the last possible one if uniform * sum rounded to sum
}

// log(sum of e^logit), in double, added in order of id. -inf when nothing is allowed.
double log_sum_exp(std::span<const float> logits, float best_logit) {
  if (best_logit == kMinusInfinity) return -std::numeric_limits<double>::infinity();
  const double best = finite_best(best_logit);
  double sum = 0.0;
  for (const float logit : logits) sum += weight(logit, best, 1.0);
  return best + std::log(sum);
}

float logprob_of(float logit, double log_sum) {
  if (!(logit > kMinusInfinity)) return kMinusInfinity;
  constexpr double kLowest = std::numeric_limits<float>::lowest();
  return static_cast<float>(std::clamp(finite_best(logit) - log_sum, kLowest, 0.0));
}

// The best `n` (all, if the vocabulary is smaller), ties by id; forbidden ids come last with -inf.
std::vector<TokenLogprob> best_tokens(std::span<const float> logits, std::int32_t n, double log_sum,
                                      SamplerScratch& scratch) {
  std::vector<TokenLogprob> top;
  const auto wanted = std::min(static_cast<std::size_t>(std::max(n, 0)), logits.size());
  if (wanted == 0) return top;
  const float floor = nth_largest(logits, static_cast<std::int64_t>(wanted), scratch);
  collect(logits, static_cast<double>(floor), scratch);
  std::sort(scratch.candidates.begin(), scratch.candidates.end(), before);
  for (const Candidate& candidate : scratch.candidates) {
    if (top.size() == wanted) break;
    top.push_back({candidate.token, logprob_of(candidate.logit, log_sum)});
  }
  for (std::size_t i = 0; top.size() < wanted; ++i) {
    if (!(logits[i] > kMinusInfinity)) top.push_back({static_cast<TokenId>(i), kMinusInfinity});
  }
  return top;
}

void add_logprobs(std::span<const float> logits, float best, std::int32_t top_n,
                  SamplerScratch& scratch, SampledToken& sampled) {
  const double log_sum = log_sum_exp(logits, best);
  sampled.logprob = logprob_of(logits[static_cast<std::size_t>(sampled.token)], log_sum);
  sampled.top = best_tokens(logits, top_n, log_sum, scratch);
}

Status check_range(const char* parameter, double value, double low, double high) {
  if (value >= low && value <= high) return {};
  return error(ErrorCode::kBadArgument, "{} {} is not in {}..{}", parameter, value, low, high);
}

}  // namespace

Status validate(const SamplingParams& params, std::int64_t vocab) {
  TG_RETURN_IF_ERROR(check_range("temperature", params.temperature, 0.0, 2.0));
  TG_RETURN_IF_ERROR(check_range("top_p", params.top_p, 0.0, 1.0));
  TG_RETURN_IF_ERROR(check_range("min_p", params.min_p, 0.0, 1.0));
  TG_RETURN_IF_ERROR(check_range("presence_penalty", params.presence_penalty, -2.0, 2.0));
  TG_RETURN_IF_ERROR(check_range("frequency_penalty", params.frequency_penalty, -2.0, 2.0));
  // 0 would divide by zero. 0.01..100 is far beyond what changes anything and far from overflow.
  TG_RETURN_IF_ERROR(check_range("repetition_penalty", params.repetition_penalty, 0.01, 100.0));
  if (params.top_k < -1) {
    return error(ErrorCode::kBadArgument, "top_k {} is not -1, 0 (both: off) or more",
                 params.top_k);
  }
  if (params.top_logprobs < -1 || params.top_logprobs > vocab) {
    return error(ErrorCode::kBadArgument, "top_logprobs {} is not in -1..{} (the vocabulary)",
                 params.top_logprobs, vocab);
  }
  for (const auto& [id, bias] : params.logit_bias) {
    if (id < 0 || id >= vocab) {
      return error(ErrorCode::kBadArgument, "logit_bias of id {}: the ids are 0..{}", id,
                   vocab - 1);
    }
    if (!(bias <= std::numeric_limits<float>::max())) {  // NaN and +inf
      return error(ErrorCode::kBadArgument, "logit_bias {} of id {} is not finite or -inf", bias,
                   id);
    }
  }
  return {};
}

SampledToken sample(std::span<float> logits, const SamplingParams& params,
                    const SamplingContext& context, SamplerScratch& scratch) {
  adjust(logits, params, context, scratch);
  const float best = largest(logits);
  SampledToken sampled;
  if (best == kMinusInfinity) {
    sampled.logprob = kMinusInfinity;
    return sampled;
  }
  if (params.greedy()) {
    sampled.token = first_with(logits, best);
  } else {
    const double sum = keep(logits, best, params, scratch);
    sampled.token = draw(uniform_draw(params.seed, context.token_index), sum, scratch);
  }
  if (params.top_logprobs >= 0) {
    add_logprobs(logits, best, params.top_logprobs, scratch, sampled);
  }
  return sampled;
}

std::vector<double> distribution(std::span<const float> logits, const SamplingParams& params,
                                 const SamplingContext& context) {
  SamplerScratch scratch;
  std::vector<float> adjusted(logits.begin(), logits.end());
  adjust(adjusted, params, context, scratch);
  std::vector<double> dense(logits.size(), 0.0);
  const float best = largest(adjusted);
  if (best == kMinusInfinity) return dense;
  if (params.greedy()) {
    dense[static_cast<std::size_t>(first_with(adjusted, best))] = 1.0;
    return dense;
  }
  const double sum = keep(adjusted, best, params, scratch);
  for (std::size_t i = 0; i < scratch.candidates.size(); ++i) {
    dense[static_cast<std::size_t>(scratch.candidates[i].token)] = scratch.probabilities[i] / sum;
  }
  return dense;
}

SampledToken score(std::span<const float> logits, TokenId next, std::int32_t top_n,
                   SamplerScratch& scratch) {
  SampledToken sampled;
  sampled.token = next;
  if (!in_vocab(next, logits)) {
    sampled.logprob = kMinusInfinity;
    return sampled;
  }
  add_logprobs(logits, largest(logits), top_n, scratch, sampled);
  return sampled;
}

// Draw number `token_index` of the generator SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast
// Splittable Pseudorandom Number Generators", 2014; constants of S. Vigna's version), started from
// the seed passed once through the same mixer, so that the streams of seeds 1, 2, 3 do not overlap.
double uniform_draw(std::uint64_t seed, std::uint64_t token_index) {
  constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15U;  // 2^64 / golden ratio, odd
  const auto mix = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  };
  const std::uint64_t state = mix(seed + kStep);
  const std::uint64_t bits = mix(state + (token_index + 1) * kStep);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace tg
