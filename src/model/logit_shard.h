// What: a shard of a row of logits, that is the ids [first, first + logits.size()): mask, bias and
//   penalties on it, its best ids, and its part of the log-sum-exp. A whole row is the shard with
//   first = 0. Pure functions; NaN counts as forbidden (-inf) in all of them.
// Who owns: SamplerScratch belongs to the caller and is reused. Thread: one scratch per thread.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "model/sampling_params.h"

namespace tg {

// The logit of an id that may not be chosen.
inline constexpr float kForbidden = -std::numeric_limits<float>::infinity();

struct Candidate {
  float logit;
  TokenId token;
};
inline bool better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}
inline bool lower_id(const Candidate& a, const Candidate& b) { return a.token < b.token; }

// Buffers of at most vocabulary size; they grow once and are reused.
struct SamplerScratch {
  std::vector<Candidate> candidates;
  std::vector<double> probabilities;  // of the candidates, not normalised
  std::vector<std::uint32_t> counts;  // [ids of the shard], all zero between calls
  std::vector<float> maxima;

  // Room for rows of so many ids.
  void reserve(std::size_t ids) {
    candidates.reserve(ids);
    probabilities.reserve(ids);
    counts.reserve(ids);
    maxima.reserve(ids);
  }
};

// Whether the choice looks at the ids of prompt and output.
bool has_penalties(const SamplingParams& params);

// Mask, bias and penalties, in place. Ids of other shards are passed over.
void adjust_logits(std::span<float> logits, TokenId first, const SamplingParams& params,
                   const SamplingContext& context, SamplerScratch& scratch);

// -inf when nothing is allowed.
float largest_logit(std::span<const float> logits);

// The index of the first logit equal to `value`; logits.size() without one.
std::size_t find_logit(std::span<const float> logits, float value);

// Fills scratch.candidates with every id whose logit is >= floor and > -inf, ids ascending.
void collect(std::span<const float> logits, TokenId first, double floor, SamplerScratch& scratch);

// The n-th largest logit (n >= 1); -inf when there are fewer above it. Clobbers
// scratch.candidates.
float nth_largest(std::span<const float> logits, std::int64_t n, SamplerScratch& scratch);

// The n-th largest logit of scratch.candidates; -inf when there are fewer.
float nth_candidate(std::int64_t n, SamplerScratch& scratch);

// Differences to a best of +inf would be NaN.
double finite_best(float best);

// e^((logit - best) / temperature), never NaN: a NaN logit weighs nothing, +inf as much as the
// best. `best`: finite_best() of the row's.
double weight(float logit, double best, double temperature);

// log(sum of e^logit) on its way: of a shard, then of several.
struct LogSum {
  float best = kForbidden;
  double sum = 0.0;  // of e^(logit - best)

  double log() const;  // -inf when nothing is allowed
};

// Added in double, in order of id. `best`: largest_logit(logits).
LogSum log_sum(std::span<const float> logits, float best);

// Of two shards' ids together. The order of merging shows in the last bits of the sum.
LogSum merged(const LogSum& a, const LogSum& b);

}  // namespace tg
