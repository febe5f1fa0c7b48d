// What: the choice of the next token from one whole row of logits: a pure function.
//   Order (vLLM's): allowed mask and bias, penalties, temperature, min-p, top-k, top-p, draw. Ties
//   go to the lowest id; the draw is keyed by (seed, token index) and by nothing else, so slot,
//   batch and clock do not show. Its parts are in logit_shard.h and candidates.h;
//   shard_sampler.h makes the same choice of a row that lies in shards.
// Who owns: SamplerScratch belongs to the caller and is reused. Thread: one scratch per thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/logit_shard.h"
#include "model/sampling_params.h"

namespace tg {

struct SampledToken {
  TokenId token = 0;
  // Of `token`, under the logits after mask, bias and penalties, at temperature 1. 0 when
  // top_logprobs is -1; -inf (in any case) when no id was allowed.
  float logprob = 0.0F;
  std::vector<TokenLogprob> top;  // best first, ties by id; only when asked for
};

// Chooses from `logits` ([vocab], changed in place by mask, bias and penalties). At least one id
// must be allowed; when none is, the id 0 comes back with logprob -inf (the caller checks masks
// before).
SampledToken sample(std::span<float> logits, const SamplingParams& params,
                    const SamplingContext& context, SamplerScratch& scratch);

// The same of logits that adjust_logits() has been through.
SampledToken choose(std::span<const float> logits, const SamplingParams& params,
                    const SamplingContext& context, SamplerScratch& scratch);

// The distribution that sample() draws from, dense over the vocabulary (for tests and tools).
std::vector<double> distribution(std::span<const float> logits, const SamplingParams& params,
                                 const SamplingContext& context);

// Log-probability of `next` under `logits` as they are, and the `top_n` best.
SampledToken score(std::span<const float> logits, TokenId next, std::int32_t top_n,
                   SamplerScratch& scratch);

// The uniform number in [0, 1) of a (seed, token index), 53 bits.
double uniform_draw(std::uint64_t seed, std::uint64_t token_index);

}  // namespace tg
