// What: where a measuring command's weights come from: a checkpoint, or a shape and a seed; and how
//   many of the layers.
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/opened_model.h"

namespace CLI {
class App;  // not the header: it takes seconds to compile
}

namespace tg {

inline constexpr const char* kDefaultArch = "llama3.3-70b";  // of random weights
inline constexpr std::int64_t kMostLayers = 1000;

struct WeightsOptions {
  std::optional<std::string> weights;  // "instruct": the checkpoint's; "random"; none: the case's
  std::string arch;                    // of random weights; empty: that of --model, else a default
  std::optional<std::int64_t> layers;
  std::uint64_t seed = 0;
};

void add_weights_options(CLI::App& app, WeightsOptions& options);

struct WeightsWanted {
  bool random = false;
  std::string arch;                    // when random and without a model
  std::optional<std::int64_t> layers;  // none: all
  // More layers than the checkpoint has are an error (said by the user), or just all (by a case).
  bool layers_exactly = false;
  std::uint64_t seed = 0;
};

// What was asked for, or else what a case wants. kBadArgument for a shape given twice, or without
// random weights.
Result<WeightsWanted> weights_wanted(const WeightsOptions& options, const ModelOptions& model,
                                     bool case_random = false,
                                     std::optional<std::int64_t> case_layers = {});

// Reads no weights yet. With random weights a given --model lends its shape, tokenizer and chat
// template; without it there is no tokenizer.
Result<OpenedModel> open_weights(const WeightsWanted& wanted, const ModelOptions& options);

}  // namespace tg
