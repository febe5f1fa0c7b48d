// What: the shapes of published Llama models by name, for runs without a checkpoint.
// Who owns: plain values. Thread: any.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "checkpoint/model_config.h"

namespace tg {

// Config of "llama3.3-70b" and so on, with format "random". kBadArgument with the list of names.
Result<ModelConfig> known_shape(std::string_view name);

// "llama3.1-8b, llama3.1-70b, ...", for messages.
std::string known_shape_names();

}  // namespace tg
