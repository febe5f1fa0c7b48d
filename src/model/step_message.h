// What: a StepBatch as bytes, for ranks that run the same step: tokens, positions, pages and what
//   is asked of which rows.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/model_runner.h"

namespace tg {

// Replaces `message`, reusing its memory. Never empty. With `asks_in_full` everything that the
// choice of a token looks at is in it (prompt and output only where penalties need them); without,
// other ranks are to give the logits only: all asks come out as kLogits.
void pack_step(const StepBatch& batch, bool asks_in_full, std::vector<std::byte>& message);

// What pack_step() was given; spans and pointers point into the vectors here (moving keeps them
// valid).
struct UnpackedStep {
  std::vector<TokenId> tokens;
  std::vector<PageId> pages;
  std::vector<SamplingParams> params;  // [ask]
  std::vector<TokenId> texts;          // prompt and output of each ask
  std::vector<std::uint32_t> masks;    // words of the asks' allowed
  std::vector<RowAsk> asks;
  std::vector<StepSequence> sequences;
};

// kBadInput for bytes that pack_step() did not make.
Result<UnpackedStep> unpack_step(std::span<const std::byte> message);

}  // namespace tg
