// What: a checkpoint seen as one with fewer layers: its first so many, and all that is in no layer.
//   For measurements and for bringing up new hardware; what such a model says makes little sense.
// Who owns: the new source owns the old one. Thread: any.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "checkpoint/tensor_source.h"

namespace tg {

// kBadArgument for layers outside 1..those of the source.
Result<std::unique_ptr<TensorSource>> first_layers(std::unique_ptr<TensorSource> source,
                                                   std::int64_t layers);

}  // namespace tg
