#include "cli/decode_loop.h"

#include <algorithm>
#include <chrono>

namespace tg {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::int64_t users_per_domain(std::int64_t users, std::int64_t domains) {
  return (users + domains - 1) / domains;
}

class Loop {
 public:
  Loop(ModelRunner& runner, std::span<const DecodeUser> users, const DecodeLoopOptions& options)
      : runner_(runner), users_(users), options_(options) {
    outcome_.outputs.resize(users.size());
    outcome_.hash = 0xcbf29ce484222325U;
    inputs_.resize(users.size());
    sampled_.resize(users.size());
    asks_.resize(users.size());
    sequences_.resize(users.size());
    counts_.assign(users.size(), 0);
    for (std::vector<TokenId>& output : outcome_.outputs) {
      output.reserve(options.frozen_position ? 2 * kKeptTokens
                                             : static_cast<std::size_t>(options.iterations));
    }
  }

  Result<DecodeOutcome> run(const std::function<void(const DecodeIteration&)>& show) {
    for (std::int64_t i = 0; i < options_.iterations; ++i) {
      prepare(i);
      if (i == 0) {
        // A second run of the same step writes the same keys and values, so it changes nothing.
        const Clock::time_point begin = Clock::now();
        TG_RETURN_IF_ERROR(step(i));
        outcome_.first_step_s = seconds_since(begin);
        if (options_.warmed_up) options_.warmed_up();
      }
      DecodeIteration iteration;
      const Clock::time_point begin = Clock::now();
      TG_ASSIGN(const StepResult result, step(i));
      iteration.seconds = seconds_since(begin);
      iteration.index = i;
      iteration.users = static_cast<std::int64_t>(users_.size());
      iteration.forced = take(i, result);
      iteration.tokens = sampled_;
      show(iteration);
    }
    return std::move(outcome_);
  }

 private:
  bool samples(std::size_t user, std::int64_t iteration) const {
    return iteration + 1 >= static_cast<std::int64_t>(users_[user].prompt.size());
  }

  void prepare(std::int64_t iteration) {
    for (std::size_t u = 0; u < users_.size(); ++u) {
      const DecodeUser& user = users_[u];
      const std::vector<TokenId>& output = outcome_.outputs[u];
      const std::span<const TokenId> seen =
          options_.frozen_position ? std::span(output).last(std::min(output.size(), kKeptTokens))
                                   : std::span(output);
      const auto at = static_cast<std::size_t>(iteration);
      inputs_[u] = at < user.prompt.size() ? user.prompt[at] : output.back();
      RowAsk& ask = asks_[u];
      ask.params = &user.sampling;
      ask.context = {user.prompt, seen, {}, counts_[u]};
      StepSequence& s = sequences_[u];
      s.tokens = {&inputs_[u], 1};
      s.first_position = options_.start_pos + (options_.frozen_position ? 0 : iteration);
      s.pages = user.pages;
      s.kv_domain = user.kv_domain;
      s.asks = std::span<const RowAsk>(&ask, samples(u, iteration) ? 1 : 0);
    }
  }

  Result<StepResult> step(std::int64_t iteration) {
    Result<StepResult> result = runner_.step({sequences_});
    if (!result) {
      return at_place(std::move(result).error(),
                      fmt::format("Decode forward failed at iteration {}", iteration));
    }
    return result;
  }

  // True when somebody's token was forced.
  bool take(std::int64_t iteration, const StepResult& result) {
    bool forced = false;
    std::size_t answer = 0;
    for (std::size_t u = 0; u < users_.size(); ++u) {
      sampled_[u] = -1;
      if (!samples(u, iteration)) {
        forced = true;
        continue;
      }
      const TokenId token = result.answers[answer++].token.token;
      sampled_[u] = token;
      outcome_.hash = (outcome_.hash ^ static_cast<std::uint32_t>(token)) * 0x100000001b3U;
      std::vector<TokenId>& output = outcome_.outputs[u];
      if (options_.frozen_position && output.size() == 2 * kKeptTokens) {
        output.erase(output.begin(), output.begin() + kKeptTokens);
      }
      output.push_back(token);
      ++counts_[u];
    }
    return forced;
  }

  ModelRunner& runner_;
  std::span<const DecodeUser> users_;
  DecodeLoopOptions options_;
  DecodeOutcome outcome_;
  std::vector<TokenId> inputs_;
  std::vector<TokenId> sampled_;
  std::vector<std::uint64_t> counts_;  // sampled by each user so far
  std::vector<RowAsk> asks_;
  std::vector<StepSequence> sequences_;
};

}  // namespace

std::vector<PageTable> shuffled_page_tables(const KvCapacity& capacity, std::int64_t domains,
                                            std::int64_t users, std::int64_t positions,
                                            std::uint64_t seed) {
  std::vector<PagePool> pools;
  pools.reserve(static_cast<std::size_t>(domains));
  for (std::int64_t d = 0; d < domains; ++d) {
    pools.emplace_back(capacity.blocks, seed + static_cast<std::uint64_t>(d));
  }
  std::vector<PageTable> tables;
  for (std::int64_t u = 0; u < users; ++u) {
    PageTable& table = tables.emplace_back();
    PagePool& pool = pools[static_cast<std::size_t>(domain_of_user(u, users, domains))];
    TG_CHECK(pool.allocate(pages_for(positions, capacity.block), table));
  }
  return tables;
}

std::int32_t domain_of_user(std::int64_t user, std::int64_t users, std::int64_t domains) {
  return static_cast<std::int32_t>(user / users_per_domain(users, domains));
}

Result<DecodeOutcome> run_decode_loop(ModelRunner& runner, std::span<const DecodeUser> users,
                                      const DecodeLoopOptions& options,
                                      const std::function<void(const DecodeIteration&)>& show) {
  TG_CHECK(!users.empty() && options.iterations >= 0 && options.start_pos >= 0);
  return Loop(runner, users, options).run(show);
}

}  // namespace tg
