// What: what a caller asks the engine for and what comes back: a Request of token ids, and a
//   TokenSink that receives the events of its answer. Text (tokenizer, templates, stop strings) is
//   the caller's.
// Who owns: submit() takes the Request; the sink stays the caller's and must live until on_finish.
// Thread: sinks are called on the engine's thread, inside Engine::step().
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/sampler.h"
#include "model/sampling_params.h"

namespace tg {

using RequestId = std::uint64_t;  // 1, 2, ... in order of submit()

// Which ids may come next (a grammar, a list of choices). Owned by the caller, alive until
// on_finish. Asked once per token, in order: requests with a mask get no proposals (proposer.h).
class TokenMask {
 public:
  virtual ~TokenMask() = default;
  // Bit i of word i / 32 says that id i may follow `output`; empty = every id may. The words must
  // stay valid until the next call. An error, or a mask without any id, ends the request with it.
  virtual Result<std::span<const std::uint32_t>> allowed_after(std::span<const TokenId> output) = 0;
};

struct Request {
  std::vector<TokenId> prompt_ids;  // at least one
  // nullopt: as many as context and page pool hold. 0: the prompt only (for its scores).
  std::optional<std::int64_t> max_new_tokens;
  SamplingParams sampling;
  std::vector<TokenId> stop_ids;    // sampling one of these ends the answer
  bool ignore_eos = false;          // stop_ids have no effect
  std::int64_t min_new_tokens = 0;  // stop_ids cannot be chosen before so many tokens
  // Log-probabilities of prompt_ids[1..] with the best `prompt_top_n` each: one on_prompt_scores.
  // Every row of the prompt is run then, whatever the prefix cache has.
  bool score_prompt = false;
  std::int32_t prompt_top_n = 0;
  TokenMask* mask = nullptr;  // none = every id is allowed
  // Lower comes first, from the queue and for pages; equals in the order of submit().
  std::int32_t priority = 0;
};

enum class FinishReason : std::uint8_t {
  kStop,       // a stop id was sampled, or the sink said so
  kLength,     // max_new_tokens, or the end of context or pool
  kCancelled,  // Engine::cancel
  kError,      // FinishEvent::error says what
};
const char* name(FinishReason reason);  // "stop", "length", "cancelled", "error"

// Seconds of the engine's clock (steady; only differences mean something).
struct RequestTiming {
  double submitted_s = 0.0;
  double started_s = 0.0;  // begin of the first step that had a row of it; 0 = none had
  double finished_s = 0.0;
  std::vector<double> token_times_s;  // one per sampled token
  // Time to first token; 0 when none was sampled.
  double ttft_s() const { return token_times_s.empty() ? 0.0 : token_times_s[0] - submitted_s; }
};

// How well a request's next tokens were guessed (proposer.h).
struct SpeculationCounts {
  std::int64_t steps = 0;     // with proposals
  std::int64_t proposed = 0;  // tokens
  std::int64_t accepted = 0;  // of them, what was sampled too

  SpeculationCounts& operator+=(const SpeculationCounts& other) {
    steps += other.steps;
    proposed += other.proposed;
    accepted += other.accepted;
    return *this;
  }
};

struct TokenEvent {
  RequestId id = 0;
  std::int64_t index = 0;       // 0 for the first sampled token
  const SampledToken& sampled;  // logprob and top only if sampling.top_logprobs >= 0
  bool is_stop_id = false;      // ends the answer, counts as sampled, is not part of the text
  bool last = false;            // by a stop id or by length; on_finish follows at once
  double time_s = 0.0;
};

struct FinishEvent {
  RequestId id = 0;
  FinishReason reason = FinishReason::kStop;
  Error error;                         // kError only
  std::int64_t prompt_tokens = 0;      // as given
  std::int64_t completion_tokens = 0;  // every sampled token, the stop id included
  std::int64_t preemptions = 0;        // how often its pages were taken and recomputed
  std::int64_t cached_tokens = 0;      // of the prompt, found in the prefix cache when it started
  SpeculationCounts speculation;
  const RequestTiming& timing;
};

// Receives one request's events: on_prompt_scores (if asked for) once before the first token,
// on_token per sampled token in order, and on_finish exactly once as the last. Inside a call,
// Engine::submit and Engine::cancel are allowed, Engine::step is not.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // False ends the answer after this token with reason kStop (a stop string was found).
  [[nodiscard]] virtual bool on_token(const TokenEvent& event) = 0;
  // scores[i] is of prompt_ids[i + 1], given what stands before it.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): those who want the scores take them.
  virtual void on_prompt_scores(RequestId /*id*/, std::vector<SampledToken> /*scores*/) {}
  virtual void on_finish(const FinishEvent& event) = 0;
};

// A sink that keeps everything: for commands that print at the end, and for tests.
class AnswerSink : public TokenSink {
 public:
  std::vector<TokenId> ids;           // without the stop id
  std::vector<SampledToken> sampled;  // with it
  std::vector<SampledToken> prompt_scores;
  std::optional<TokenId> stop_id;
  bool finished = false;
  FinishReason reason = FinishReason::kStop;
  Error error;
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t preemptions = 0;
  std::int64_t cached_tokens = 0;
  SpeculationCounts speculation;
  RequestTiming timing;

  bool on_token(const TokenEvent& event) override;
  void on_prompt_scores(RequestId id, std::vector<SampledToken> scores) override;
  void on_finish(const FinishEvent& event) override;
};

}  // namespace tg
