#include "cli/sampling_options.h"

#include <random>

#include "cli/number_option.h"

namespace tg {

void add_sampling_options(CLI::App& app, SamplingOptions& options) {
  SamplingParams& p = options.params;
  add_fraction(app, "--temperature", "0 is greedy", p.temperature);
  add_whole_number(app, "--top-k", "0 is off", -1, kMostCount, p.top_k);
  add_fraction(app, "--top-p", "1 is off, 0 is greedy", p.top_p);
  add_fraction(app, "--min-p", "0 is off", p.min_p);
  add_fraction(app, "--repetition-penalty", "1 is off", p.repetition_penalty);
  add_fraction(app, "--presence-penalty", "0 is off", p.presence_penalty);
  add_fraction(app, "--frequency-penalty", "0 is off", p.frequency_penalty);
  add_seed(app, "makes sampling repeatable, whatever runs beside it; default: a fresh one",
           options.seed);
}

SamplingParams with_seed(const SamplingOptions& options) {
  SamplingParams params = options.params;
  params.seed = options.seed ? *options.seed : fresh_seed();
  return params;
}

std::uint64_t fresh_seed() {
  std::random_device entropy;
  return (std::uint64_t{entropy()} << 32) | entropy();
}

}  // namespace tg
