// What: the choice among the candidates of a row, wherever they were collected: of the whole row
//   (sampler.h) or of its shards (shard_sampler.h). Same candidates and best logit, same choice.
// Who owns: SamplerScratch belongs to the caller and is reused. Thread: one scratch per thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/logit_shard.h"

namespace tg {

// The temperature that divides: vLLM's lowest is 0.01, below which e^(difference / T) says nothing
// new.
double divisor_of(const SamplingParams& params);

// Logits below it are out by min-p; -inf without min-p. `best`: finite_best() of the row's.
double min_p_floor(double best, const SamplingParams& params);

// Best first, a token stays while the mass of those before it is < top_p * mass. Cuts
// scratch.candidates to these (ids ascending); false when all of them have less mass than that, and
// then they stay sorted best first.
bool cut_to_nucleus(double best, const SamplingParams& params, double mass,
                    SamplerScratch& scratch);

// min-p and top-p on scratch.candidates (ids ascending), which hold all of top-k.
void keep_candidates(double best, const SamplingParams& params, SamplerScratch& scratch);

// Fills scratch.probabilities with the candidates' weights, not normalised; returns their sum,
// added in order of id.
double weigh_candidates(double best, const SamplingParams& params, SamplerScratch& scratch);

// The candidate in which `uniform` ([0, 1)) of the sum of the weights falls.
Candidate draw(double uniform, double sum, const SamplerScratch& scratch);

// log_sum: LogSum::log(). -inf for a forbidden logit, otherwise finite and <= 0.
float logprob_of(float logit, double log_sum);

// The best `n` (all, if the vocabulary is smaller), ties by id; forbidden ids come last with -inf.
// `candidates`: at least the best n, or all that are allowed when these are fewer.
std::vector<TokenLogprob> best_tokens(std::span<const Candidate> candidates, std::int32_t n,
                                      std::int64_t vocab, double log_sum);

}  // namespace tg
