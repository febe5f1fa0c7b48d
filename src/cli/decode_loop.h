// What: the decode demo's loop over the coarse seam itself, below the engine: every iteration is
//   one step with one token of each user. A user's prompt is forced token by token ("prefill by
//   decode"), then he goes on with what was sampled; nobody ever stops.
// Who owns: the command; the runner is borrowed. Thread: the main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/page_pool.h"
#include "model/model_runner.h"

namespace tg {

struct DecodeUser {
  std::vector<TokenId> prompt;  // at least one token
  SamplingParams sampling;
  PageTable pages;
  std::int32_t kv_domain = 0;
};

struct DecodeLoopOptions {
  std::int64_t iterations = 1;
  std::int64_t start_pos = 0;
  // Every token is at start_pos: as many iterations as one likes, whatever the cache holds.
  // Penalties look at the last kKeptTokens then.
  bool frozen_position = false;
  // Called when everything was touched once, before the first timed iteration.
  std::function<void()> warmed_up = {};
};

inline constexpr std::size_t kKeptTokens = 256;

struct DecodeIteration {
  std::int64_t index = 0;
  bool forced = false;     // some user's token was forced, what the model says was not asked
  double seconds = 0.0;    // of the step
  std::int64_t users = 0;  // in the step
  // [users] what was sampled; -1 where the prompt goes on.
  std::span<const TokenId> tokens;
};

struct DecodeOutcome {
  // [users] what was sampled; of runs with a frozen position the last kKeptTokens at least.
  std::vector<std::vector<TokenId>> outputs;
  // FNV-1a (Fowler, Noll, Vo) over all sampled ids as words, iteration by iteration: equal hashes
  // are equal runs.
  std::uint64_t hash = 0;
  double first_step_s = 0.0;  // of the first iteration's step run once before: caches and pages
                              // touched
};

// Pages for `positions` positions of each of `users` users, spread over the domains in order
// (users 0, 1, ... on the first), each domain's pool handed out in a random order by the seed. The
// pools must be large enough.
std::vector<PageTable> shuffled_page_tables(const KvCapacity& capacity, std::int64_t domains,
                                            std::int64_t users, std::int64_t positions,
                                            std::uint64_t seed);
// Which domain a user is on.
std::int32_t domain_of_user(std::int64_t user, std::int64_t users, std::int64_t domains);

// kInternal or what the runner says, with the iteration: "Decode forward failed at iteration 7".
Result<DecodeOutcome> run_decode_loop(ModelRunner& runner, std::span<const DecodeUser> users,
                                      const DecodeLoopOptions& options,
                                      const std::function<void(const DecodeIteration&)>& show);

}  // namespace tg
