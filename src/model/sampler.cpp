#include "model/sampler.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "model/candidates.h"

namespace tg {
namespace {

// top-p without top-k: sorts only a prefix of the row that is long enough. Leaves the nucleus in
// scratch.candidates by id.
void keep_nucleus(std::span<const float> logits, double best, const SamplingParams& params,
                  SamplerScratch& scratch) {
  const double floor = min_p_floor(best, params);
  const double temperature = divisor_of(params);
  double mass = 0.0;
  for (const float logit : logits) {
    if (static_cast<double>(logit) >= floor) mass += weight(logit, best, temperature);
  }
  // Real text needs tens to hundreds of tokens for 0.9; flat distributions go on to the next size.
  const auto vocab = static_cast<std::int64_t>(logits.size());
  for (std::int64_t prefix = 1024; prefix < vocab; prefix *= 8) {
    const auto nth = static_cast<double>(nth_largest(logits, prefix, scratch));
    if (nth <= floor) break;
    collect(logits, 0, nth, scratch);
    if (cut_to_nucleus(best, params, mass, scratch)) return;
  }
  collect(logits, 0, floor, scratch);
  keep_candidates(best, params, scratch);
}

// The tokens that can be drawn, ids ascending, in scratch.candidates, their weights in
// scratch.probabilities; returns the sum of the weights. `best_logit` is largest_logit(logits) and
// not -inf.
double keep(std::span<const float> logits, float best_logit, const SamplingParams& params,
            SamplerScratch& scratch) {
  const double best = finite_best(best_logit);
  if (params.has_top_k(static_cast<std::int64_t>(logits.size()))) {
    // Every token tied with the k-th stays.
    const auto floor = static_cast<double>(nth_largest(logits, params.top_k, scratch));
    collect(logits, 0, floor, scratch);
    keep_candidates(best, params, scratch);
  } else if (params.top_p < 1.0) {
    keep_nucleus(logits, best, params, scratch);
  } else {
    collect(logits, 0, min_p_floor(best, params), scratch);
  }
  return weigh_candidates(best, params, scratch);
}

void add_logprobs(std::span<const float> logits, float best, std::int32_t top_n,
                  SamplerScratch& scratch, SampledToken& sampled) {
  const auto vocab = static_cast<std::int64_t>(logits.size());
  const double sum = log_sum(logits, best).log();
  sampled.logprob = logprob_of(logits[static_cast<std::size_t>(sampled.token)], sum);
  if (top_n <= 0) return;
  const std::int64_t wanted = std::min<std::int64_t>(top_n, vocab);
  collect(logits, 0, static_cast<double>(nth_largest(logits, wanted, scratch)), scratch);
  sampled.top = best_tokens(scratch.candidates, top_n, vocab, sum);
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
  adjust_logits(logits, 0, params, context, scratch);
  return choose(logits, params, context, scratch);
}

SampledToken choose(std::span<const float> logits, const SamplingParams& params,
                    const SamplingContext& context, SamplerScratch& scratch) {
  const float best = largest_logit(logits);
  SampledToken sampled;
  if (best == kForbidden) {
    sampled.logprob = kForbidden;
    return sampled;
  }
  if (params.greedy()) {
    sampled.token = static_cast<TokenId>(find_logit(logits, best));
  } else {
    const double sum = keep(logits, best, params, scratch);
    sampled.token = draw(uniform_draw(params.seed, context.token_index), sum, scratch).token;
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
  adjust_logits(adjusted, 0, params, context, scratch);
  std::vector<double> dense(logits.size(), 0.0);
  const float best = largest_logit(adjusted);
  if (best == kForbidden) return dense;
  if (params.greedy()) {
    dense[find_logit(adjusted, best)] = 1.0;
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
  if (next < 0 || static_cast<std::size_t>(next) >= logits.size()) {
    sampled.logprob = kForbidden;
    return sampled;
  }
  add_logprobs(logits, largest_logit(logits), top_n, scratch, sampled);
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
