// What: the engine's own record of a request, and of the step in progress; included by the files
//   that make up the engine and by nobody else.
// Who owns: the engine. Thread: the engine's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/speculation_window.h"

namespace tg {

struct Engine::Sequence {
  static constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

  RequestId id = 0;
  Request request;  // prompt_ids moved to tokens
  TokenSink* sink = nullptr;
  std::vector<TokenId> tokens;  // the prompt, what was sampled, then `drafted` proposals
  std::int64_t prompt_tokens = 0;
  std::int64_t max_new = 0;

  bool running = false;  // has its place in kv_domain
  std::int32_t kv_domain = 0;
  PageTable pages;
  std::int64_t published = 0;    // of them, those that the prefix cache knows
  std::int64_t cached = 0;       // tokens whose keys and values are in the pages
  std::int64_t ever_cached = 0;  // the most of `cached`: less is done again after a preemption

  SamplingParams before_min;  // sampling, with the stop ids forbidden
  std::vector<SampledToken> prompt_scores;
  bool scores_delivered = false;
  std::vector<RowAsk> asks;  // of the step in progress

  SpeculationWindow window;
  SpeculationCounts speculation;
  std::vector<TokenId> proposals;  // the proposer's, of the step in progress
  std::int64_t drafted = 0;        // 0 between steps

  bool cancelled = false;
  bool finished = false;
  std::int64_t preemptions = 0;
  std::int64_t cached_tokens = 0;  // see FinishEvent
  RequestTiming timing;

  std::int64_t known() const { return static_cast<std::int64_t>(tokens.size()) - drafted; }
  std::span<const TokenId> known_tokens() const {
    return std::span(tokens).first(static_cast<std::size_t>(known()));
  }
  std::int64_t sampled() const { return known() - prompt_tokens; }
  std::span<const TokenId> prompt() const {
    return std::span(tokens).first(static_cast<std::size_t>(prompt_tokens));
  }
  // As it is when `ahead` proposals turn out right.
  std::span<const TokenId> output(std::int64_t ahead = 0) const {
    return std::span(tokens).subspan(static_cast<std::size_t>(prompt_tokens),
                                     static_cast<std::size_t>(sampled() + ahead));
  }
  // Room for the longest that it can become, so that its steps ask for no memory: 16 bytes a token
  // at most, which the system gives when they are written.
  void reserve(std::int64_t block, std::int64_t most_proposals) {
    const std::int64_t longest = prompt_tokens + max_new + most_proposals;
    tokens.reserve(static_cast<std::size_t>(longest));
    pages.reserve(static_cast<std::size_t>(pages_for(longest, block)));
    timing.token_times_s.reserve(static_cast<std::size_t>(max_new));
  }
  void drop_drafted() {
    tokens.resize(static_cast<std::size_t>(known()));
    drafted = 0;
  }
  // Adds a sampled token; true when it was the next proposal, so that the row after it counts.
  bool take(TokenId token) {
    if (drafted > 0 && tokens[static_cast<std::size_t>(known())] == token) {
      --drafted;
      return true;
    }
    drop_drafted();
    tokens.push_back(token);
    return false;
  }
  bool stops_at(TokenId token) const {
    const std::vector<TokenId>& stops = request.stop_ids;
    return !request.ignore_eos && std::find(stops.begin(), stops.end(), token) != stops.end();
  }
  // Tokens whose keys and values it may take from others: not those whose rows it wants answers of.
  std::span<const TokenId> findable() const {
    return wants_scores() ? std::span<const TokenId>()
                          : known_tokens().first(static_cast<std::size_t>(known() - 1));
  }
  bool wants_scores() const { return request.score_prompt && !scores_delivered; }
};

// The step in progress, in the order of the StepBatch.
struct Engine::Batch {
  std::vector<PlannedWork> works;
  std::vector<Sequence*> members;
  std::vector<StepSequence> sequences;
};

}  // namespace tg
