// What: a checkpoint with another rope scaling than its own, to serve longer contexts than it says.
//   How good answers are beyond the length that a model was trained for is the user's to find out.
// Who owns: the new source owns the old one. Thread: any.
#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "checkpoint/tensor_source.h"

namespace tg {

// "none", "linear:FACTOR" (every position divided by it) or "llama3:FACTOR" (only long waves are,
// Llama 3.1's rule with its bounds 1 and 4); FACTOR above 0. Else kBadArgument.
Result<RopeScaling> parse_rope_scaling(std::string_view text);

// `source` with this scaling in place of its own. Its context becomes what it was trained for times
// the factor. kUnsupported where it has divisors that follow no rule.
Result<std::unique_ptr<TensorSource>> with_rope_scaling(std::unique_ptr<TensorSource> source,
                                                        const RopeScaling& scaling);

}  // namespace tg
