#include "cli/bench_work.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include "cli/cached_prompts.h"
#include "engine/engine.h"
#include "engine/page_pool.h"
#include "text/utf8.h"

namespace tg {
namespace {

constexpr std::int64_t kMostWorkTokens = std::int64_t{1} << 24;

// The text between colons.
std::vector<std::string_view> parts_of(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t colon = text.find(':');
    parts.push_back(text.substr(0, colon));
    if (colon == std::string_view::npos) return parts;
    text.remove_prefix(colon + 1);
  }
}

template <typename T>
bool read_number(std::string_view text, T least, T most, T& value) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc{} && end == text.data() + text.size() && value >= least &&
         value <= most;
}

// Ids of no pattern, so that rows of the embedding from all over are read.
std::vector<TokenId> prompt_of(std::int64_t user, std::int64_t tokens, std::int64_t vocab) {
  std::vector<TokenId> ids(static_cast<std::size_t>(tokens));
  std::uint64_t state = static_cast<std::uint64_t>(user) + 1;
  for (TokenId& id : ids) {
    state = state * 6364136223846793005U + 1442695040888963407U;  // Knuth's generator for 64 bits
    id = static_cast<TokenId>((state >> 33) % static_cast<std::uint64_t>(vocab));
  }
  return ids;
}

// An engine with the requests of a work in it. Sinks outlive the engine.
class BenchRun {
 public:
  static Result<std::unique_ptr<BenchRun>> start(ModelRunner& runner, const BenchWork& work,
                                                 std::int64_t new_tokens) {
    std::unique_ptr<BenchRun> run(new BenchRun());
    EngineOptions options;
    options.max_users = work.users;
    // All prompts that are taken for cached at once, so that all users begin together.
    if (work.kind == BenchWork::Kind::kDecode) options.prefill_chunk = 0;
    TG_ASSIGN(run->engine_, Engine::create(runner, options));
    run->sinks_.resize(static_cast<std::size_t>(work.users));
    for (std::int64_t user = 0; user < work.users; ++user) {
      Request request;
      request.prompt_ids = prompt_of(user, work.tokens, runner.vocab());
      request.max_new_tokens = new_tokens;
      request.ignore_eos = true;
      TG_RETURN_IF_ERROR(
          run->engine_->submit(std::move(request), &run->sinks_[static_cast<std::size_t>(user)]));
    }
    return run;
  }

  // One step; an error if a request has ended with one, or too early.
  Status step(bool last) {
    engine_->step();
    for (const AnswerSink& sink : sinks_) {
      if (sink.finished && sink.reason == FinishReason::kError) {
        return tl::unexpected<Error>(sink.error);
      }
      if (sink.finished && !last) {
        return error(ErrorCode::kInternal, "an answer of the bench ended after {} tokens",
                     sink.completion_tokens);
      }
    }
    return {};
  }

  bool idle() const { return engine_->idle(); }
  const StepReport& report() const { return engine_->last_step(); }

 private:
  BenchRun() = default;

  std::vector<AnswerSink> sinks_;
  std::unique_ptr<Engine> engine_;
};

void note(const StepReport& report, BenchTimes& times) {
  times.step_s.push_back(report.total_s);
  times.runner_s.push_back(report.runner_s);
}

Result<BenchTimes> run_decode(ModelRunner& runner, const BenchWork& work) {
  CachedPrompts cached(runner, work.users * (work.tokens + 1));
  const std::int64_t steps = kBenchWarmUp + work.steps;
  TG_ASSIGN(const std::unique_ptr<BenchRun> run, BenchRun::start(cached, work, steps));
  BenchTimes times;
  for (std::int64_t step = 0; step < steps; ++step) {
    TG_RETURN_IF_ERROR(run->step(step + 1 == steps));
    if (step < kBenchWarmUp) continue;
    if (run->report().decode_rows != work.users) {
      return error(ErrorCode::kInternal, "step {} of the bench has {} of {} users", step,
                   run->report().decode_rows, work.users);
    }
    note(run->report(), times);
    times.tokens += work.users;
  }
  return times;
}

Result<BenchTimes> run_prefill(ModelRunner& runner, const BenchWork& work) {
  TG_ASSIGN(const std::unique_ptr<BenchRun> run, BenchRun::start(runner, work, 1));
  BenchTimes times;
  while (!run->idle()) {
    TG_RETURN_IF_ERROR(run->step(/*last=*/true));
    if (run->report().prefill_rows > 0) note(run->report(), times);
  }
  times.tokens = work.tokens;
  return times;
}

}  // namespace

Result<BenchWork> parse_bench_work(const std::string& text) {
  const std::vector<std::string_view> parts = parts_of(text);
  BenchWork work;
  const auto whole = [&parts](std::size_t i, std::int64_t most, std::int64_t& value) {
    return read_number(parts[i], std::int64_t{1}, most, value);
  };
  if (parts[0] == "decode" && parts.size() == 4 && whole(1, 256, work.users) &&
      whole(2, kMostWorkTokens, work.tokens) && whole(3, kMostWorkTokens, work.steps)) {
    return work;
  }
  if (parts[0] == "prefill" && parts.size() == 2 && whole(1, kMostWorkTokens, work.tokens)) {
    work.kind = BenchWork::Kind::kPrefill;
    return work;
  }
  if (parts[0] == "read" && parts.size() == 2 &&
      read_number(parts[1], 0.001, 600.0, work.seconds)) {
    work.kind = BenchWork::Kind::kRead;
    return work;
  }
  return error(ErrorCode::kBadArgument,
               "{} is no measurement; they are decode:USERS:CONTEXT:STEPS (1 to 256 users), "
               "prefill:TOKENS and read:SECONDS",
               shown_text(text));
}

std::int64_t positions_of(const BenchWork& work) {
  if (work.kind == BenchWork::Kind::kRead) return 0;
  return work.tokens + (work.kind == BenchWork::Kind::kDecode ? kBenchWarmUp + work.steps : 1);
}

std::int64_t pages_of(const BenchWork& work, std::int64_t block) {
  return work.users * pages_for(positions_of(work), block);
}

double BenchTimes::total_s() const { return std::accumulate(step_s.begin(), step_s.end(), 0.0); }

Result<BenchTimes> run_bench_work(ModelRunner& runner, const BenchWork& work) {
  return work.kind == BenchWork::Kind::kDecode ? run_decode(runner, work)
                                               : run_prefill(runner, work);
}

}  // namespace tg
