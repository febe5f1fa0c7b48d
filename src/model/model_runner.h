// What: the coarse seam below the engine. One step runs rows of many sequences through the model;
//   it is described by plain data, and a runner (CPU kernels here; other hardware elsewhere) owns
//   weights and KV memory but never decides which page belongs to whom.
// Who owns: the engine owns the runner and every span in a StepBatch for the time of the call.
// Thread: the engine's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/sampler.h"
#include "model/sampling_params.h"

namespace tg {

using PageId = std::int32_t;

// What one row of a step is asked for. Rows without an Ask only fill the KV cache.
struct RowAsk {
  enum class Kind : std::uint8_t {
    kSample,  // a token, chosen with `params` and `context`
    kScore,   // the log-probability of `next` and the best `top_n`
    kLogits,  // the whole row of logits (tests, perplexity tools, external samplers)
  };
  Kind kind = Kind::kSample;
  std::int64_t row = 0;  // within its sequence's tokens of this step
  const SamplingParams* params = nullptr;
  SamplingContext context = {};
  TokenId next = 0;
  std::int32_t top_n = 0;
};

// Consecutive tokens of one sequence: a prefill chunk, or one token of decoding.
struct StepSequence {
  std::span<const TokenId> tokens;
  std::int64_t first_position = 0;  // positions before it are already in `pages`
  // pages[p / block] holds position p, up to the last token here. Sequences with the same beginning
  // may have the same pages there; a page that one of them writes in this step is its alone.
  std::span<const PageId> pages;
  std::int32_t kv_domain = 0;    // which pool the ids are of; < kv_domains()
  std::span<const RowAsk> asks;  // rows ascending
};

struct StepBatch {
  std::span<const StepSequence> sequences;
};

struct RowAnswer {
  SampledToken token;         // kSample: the choice; kScore: `next` with its log-probability
  std::vector<float> logits;  // kLogits only
};

struct StepResult {
  // Sequence by sequence, in the order of their asks. The runner's, until its next step; what is in
  // them may be taken out.
  std::span<RowAnswer> answers;
};

// The memory a runner was made with.
struct KvCapacity {
  std::int64_t block = 64;    // positions per page
  std::int64_t blocks = 0;    // pages per domain
  std::int64_t max_rows = 0;  // rows per step
};

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;
  virtual std::int64_t vocab() const = 0;
  virtual std::int64_t max_context() const = 0;
  virtual KvCapacity kv_capacity() const = 0;
  virtual std::int32_t kv_domains() const = 0;
  // Errors (kBadArgument, kInternal) leave the KV cache unspecified at the positions of the batch's
  // rows only. A page id outside the pool, a position without a page or a token outside the
  // vocabulary is an error with the numbers, never an access.
  virtual Result<StepResult> step(const StepBatch& batch) = 0;
};

}  // namespace tg
