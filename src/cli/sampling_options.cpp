#include "cli/sampling_options.h"

#include <CLI/CLI.hpp>
#include <random>

namespace tg {

void add_sampling_options(CLI::App& app, SamplingOptions& options) {
  SamplingParams& p = options.params;
  app.add_option("--temperature", p.temperature, "0 is greedy")->capture_default_str();
  app.add_option("--top-k", p.top_k, "0 is off")->capture_default_str();
  app.add_option("--top-p", p.top_p, "1 is off, 0 is greedy")->capture_default_str();
  app.add_option("--min-p", p.min_p, "0 is off")->capture_default_str();
  app.add_option("--repetition-penalty", p.repetition_penalty, "1 is off")->capture_default_str();
  app.add_option("--presence-penalty", p.presence_penalty, "0 is off")->capture_default_str();
  app.add_option("--frequency-penalty", p.frequency_penalty, "0 is off")->capture_default_str();
  app.add_option("--seed", options.seed,
                 "makes sampling repeatable, whatever runs beside it; default: a fresh one");
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
