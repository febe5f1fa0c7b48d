// What: the sampling options of generate and chat.
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <cstdint>
#include <optional>

#include "model/sampling_params.h"

namespace CLI {
class App;  // not the header: it takes seconds to compile
}

namespace tg {

struct SamplingOptions {
  SamplingParams params;
  std::optional<std::uint64_t> seed;  // none: a fresh one each time
};

void add_sampling_options(CLI::App& app, SamplingOptions& options);

// The parameters with a seed: the given one, or one that the system's entropy gives.
SamplingParams with_seed(const SamplingOptions& options);
std::uint64_t fresh_seed();

}  // namespace tg
