// What: what a user asks of the choice of the next token, and what the choice may look at.
// Who owns: plain values; spans point into the request. Thread: any.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/token_id.h"

namespace tg {

struct SamplingParams {
  double temperature = 0.0;         // 0 = greedy; (0, 0.01) is taken as 0.01, as vLLM does
  std::int64_t top_k = 0;           // -1, 0 or >= vocabulary: off
  double top_p = 1.0;               // 1 = off; 0 = greedy
  double min_p = 0.0;               // 0 = off
  std::uint64_t seed = 0;           // with the token's index the only source of randomness
  double repetition_penalty = 1.0;  // over prompt and output: logit > 0 divided, < 0 multiplied
  double presence_penalty = 0.0;    // over output
  double frequency_penalty = 0.0;   // over output, times the count
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::int32_t top_logprobs = -1;  // -1: no log-probabilities; n: the chosen one and the top n

  // top_k 1 is not: it keeps every token tied with the best, as vLLM does, and draws among them.
  bool greedy() const { return temperature == 0.0 || top_p == 0.0; }
  bool has_top_k(std::int64_t vocab) const { return top_k > 0 && top_k < vocab; }
};

// kBadArgument naming the parameter, its value and the range, e.g. "temperature 3 is not in 0..2".
Status validate(const SamplingParams& params, std::int64_t vocab);

// What a choice may look at besides the logits.
struct SamplingContext {
  std::span<const TokenId> prompt;
  std::span<const TokenId> output;         // so far
  std::span<const std::uint32_t> allowed;  // bit i of word i/32: id i is allowed; empty = all are
  std::uint64_t token_index = 0;           // of the token being chosen, from 0
};

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0.0F;
};

}  // namespace tg
