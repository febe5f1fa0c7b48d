#include "cli/demo_cases.h"

#include <algorithm>

namespace tg {
namespace {

constexpr const char* kQuestions = "demo/questions_128.json";
constexpr std::int64_t kUsers = 32;  // of the batch-32 cases

// One value per user, from first to last, evenly.
std::vector<double> even_steps(double first, double last) {
  std::vector<double> values(kUsers);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = first + (last - first) * static_cast<double>(i) / static_cast<double>(kUsers - 1);
  }
  return values;
}

// Every user samples in another way, from greedy at user 0 to wild at the last: neighbours in a
// batch must not touch each other. The original draws the seeds; here they are the users' numbers,
// so that two runs give the same text.
SamplingSpec spread_sampling() {
  SamplingSpec spec;
  spec.temperature = even_steps(0.0, 1.0);
  spec.top_p = even_steps(0.08, 1.0);
  spec.presence_penalty = even_steps(-2.0, 2.0);
  spec.frequency_penalty = even_steps(-2.0, 2.0);
  spec.repetition_penalty = even_steps(0.8, 1.5);
  spec.top_k.clear();
  spec.seed.clear();
  for (std::int64_t user = 0; user < kUsers; ++user) {
    spec.top_k.push_back(user + 1);
    spec.seed.push_back(static_cast<std::uint64_t>(user));
  }
  return spec;
}

SamplingSpec sampling(double temperature, double top_p) {
  SamplingSpec spec;
  spec.temperature = {temperature};
  spec.top_p = {top_p};
  return spec;
}

DemoCase short_case(const char* name, const char* what, std::int64_t batch_size,
                    SamplingSpec spec) {
  DemoCase c;
  c.name = name;
  c.what = what;
  c.prompts = kQuestions;
  c.batch_size = batch_size;
  c.sampling = std::move(spec);
  return c;
}

DemoCase long_case(int kilotokens, std::int64_t batch_size, SamplingSpec spec) {
  DemoCase c;
  c.name = fmt::format("long-{}k-b{}", kilotokens, batch_size);
  c.what =
      fmt::format("{}, a prompt of about {}K tokens",
                  batch_size == 1 ? "one user" : fmt::format("{} users", batch_size), kilotokens);
  c.prompts = fmt::format("demo/long_{}k.json", kilotokens);
  c.batch_size = batch_size;
  c.sampling = std::move(spec);
  return c;
}

DemoCase evals_case(const char* name, const char* what, const char* prompts,
                    std::int64_t batch_size, std::int64_t repeat_batches) {
  DemoCase c;
  c.name = name;
  c.what = what;
  c.prompts = prompts;
  c.batch_size = batch_size;
  c.max_generated_tokens = 1024;
  c.repeat_batches = repeat_batches;
  c.sampling = sampling(0.0, 0.05);
  return c;
}

// A case that measures or checks; `does` completes "it ...".
DemoCase later_case(const char* name, const char* does) {
  DemoCase c;
  c.name = name;
  c.later = fmt::format("not in this version yet: it {}", does);
  return c;
}

}  // namespace

std::vector<DemoCase> demo_cases() {
  const SamplingSpec greedy = sampling(0.0, 0.08);
  std::vector<DemoCase> cases;
  cases.push_back(
      short_case("batch-1", "one user, a short question: latency", 1, sampling(0.0, 0.05)));
  cases.push_back(short_case("batch-32", "32 users, short questions: throughput", kUsers, greedy));
  cases.push_back(short_case("repeat2", "batch-1, then again with the next question", 1, greedy));
  cases.back().repeat_batches = 2;
  cases.push_back(short_case("batch-32-non-uniform-sampling",
                             "batch-32, each user with its own sampling parameters", kUsers,
                             spread_sampling()));
  cases.push_back(
      short_case("batch-32-log-probs", "batch-32 with log-probabilities", kUsers, greedy));
  cases.back().sampling.log_probs = {0};
  cases.push_back(long_case(4, 1, greedy));
  cases.push_back(long_case(8, 1, sampling(1.0, 0.04)));
  for (const int kilotokens : {16, 32, 64, 128}) {
    cases.push_back(long_case(kilotokens, 1, greedy));
  }
  cases.push_back(long_case(16, kUsers, greedy));
  cases.push_back(evals_case("evals-1", "one user, 16 tasks one after the other",
                             "demo/eval_repeat.json", 1, 16));
  cases.push_back(
      evals_case("evals-32", "32 users, 16 batches of tasks", "demo/eval_repeat.json", kUsers, 16));
  cases.push_back(evals_case("evals-long-prompts", "one user, 6 tasks with long texts",
                             "demo/eval_repeat_very_long.json", 1, 6));

  cases.push_back(later_case("prefill-profile-standard", "times the prefill of one layer"));
  cases.push_back(later_case("prefill-profile-prefix-caching",
                             "times the prefill of one layer with half of the prompt cached"));
  cases.push_back(later_case("apc-test", "compares logits and speed with stored values"));
  cases.push_back(later_case("ci-token-matching",
                             "counts how often the reference's next token is among the best"));
  cases.push_back(later_case("pcc-80L", "correlates logits with a stored reference"));
  cases.push_back(later_case("batch-1-prefix-caching-perf",
                             "times a prefill with three quarters of the prompt cached"));
  cases.push_back(later_case("batch-1-prefix-caching-pcc",
                             "correlates the logits of a half cached prompt with a reference"));
  cases.push_back(later_case("seqlen-sweep", "runs prompts of 1K to 128K tokens in turn"));
  return cases;
}

Result<DemoCase> find_demo_case(std::string_view name) {
  constexpr std::string_view kOriginalsPrefix = "performance-";
  std::string_view wanted = name;
  if (wanted.starts_with(kOriginalsPrefix)) wanted.remove_prefix(kOriginalsPrefix.size());
  std::string known;
  for (DemoCase& c : demo_cases()) {
    if (c.name == wanted) {
      if (!c.later.empty()) {
        return error(ErrorCode::kUnsupported, "the case {} is {}", c.name, c.later);
      }
      return std::move(c);
    }
    known += (known.empty() ? "" : ", ") + c.name;
  }
  return error(ErrorCode::kBadArgument, "no case is named '{}'; known are {}", name, known);
}

}  // namespace tg
