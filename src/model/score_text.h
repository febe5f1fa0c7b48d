// What: how likely a model finds a text: each token given those before it in its window.
// Who owns: plain values. Thread: the caller's, with the runner's team.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "model/model_runner.h"

namespace tg {

struct TextScore {
  std::int64_t scored = 0;     // tokens; the first of each window is given, not scored
  double negative_logs = 0.0;  // sum of -log p, natural

  // Of -log p; 0 for no token.
  double mean() const { return scored == 0 ? 0.0 : negative_logs / static_cast<double>(scored); }
  double perplexity() const { return std::exp(mean()); }
};

// Takes `ids` in windows of `window` tokens (the last may be shorter), each from position 0 in the
// runner's first pages: nobody else may use them. kBadArgument: a window of less than 2 or more
// than the pages hold; or of the runner.
Result<TextScore> score_text(ModelRunner& runner, std::span<const TokenId> ids,
                             std::int64_t window);

}  // namespace tg
