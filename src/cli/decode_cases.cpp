#include "cli/decode_cases.h"

namespace tg {
namespace {

SamplingSpec greedy() {
  SamplingSpec spec;
  spec.temperature = {1.0};
  spec.top_k = {1};
  spec.top_p = {0.0};
  spec.seed = {42};
  return spec;
}

DecodeCase decode_case(const char* name, const char* what, std::int64_t max_generated_tokens) {
  DecodeCase c;
  c.name = name;
  c.what = what;
  c.max_generated_tokens = max_generated_tokens;
  c.sampling = greedy();
  return c;
}

}  // namespace

std::vector<DecodeCase> decode_cases() {
  std::vector<DecodeCase> cases;
  cases.push_back(decode_case("full", "the demo: sampled text of 32 users", 2000));
  cases.back().sampling.top_k = {32};
  cases.back().sampling.top_p = {0.9};
  cases.back().sampling.temperature = {0.7};

  cases.push_back(decode_case("quick", "one layer with random weights, no checkpoint", 2000));
  cases.back().random_weights = true;
  cases.back().layers = 1;

  cases.push_back(decode_case("stress-test", "500,000 iterations at one position", 500000));
  cases.back().stress_test = true;
  cases.push_back(decode_case("mini-stress-test", "2048 iterations at one position", 2048));
  cases.back().stress_test = true;

  cases.push_back(decode_case("measure-device-perf",
                              "one iteration of ten layers at position 127, by operation", 1));
  cases.back().layers = 10;
  cases.back().start_pos = 127;
  cases.back().time_operations = true;

  cases.push_back(decode_case("nd-hang-test", "20,000 iterations: does it ever hang?", 20000));
  return cases;
}

Result<DecodeCase> find_decode_case(std::string_view name) {
  constexpr std::string_view kOriginalsPrefix = "performance-";
  std::string_view wanted = name;
  if (wanted.starts_with(kOriginalsPrefix)) wanted.remove_prefix(kOriginalsPrefix.size());
  std::string known;
  for (DecodeCase& c : decode_cases()) {
    if (c.name == wanted) return std::move(c);
    known += (known.empty() ? "" : ", ") + c.name;
  }
  return error(ErrorCode::kBadArgument, "no case is named '{}'; known are {}", name, known);
}

}  // namespace tg
