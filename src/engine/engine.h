// What: the one loop that turns requests into tokens: continuous batching over a ModelRunner. Each
//   step(): cancellations, plan (scheduler.h), pages, one runner step, stop rules, events.
//   A request's tokens depend on itself alone (ids, parameters, seed), never on its batch mates,
//   never on what a Proposer guessed or on what the prefix cache had of it.
// Who owns: the caller owns runner, proposer and sinks, which outlive the engine's use; the engine
//   owns all request and page state. An engine that goes away with requests in it sends no events.
// Thread: one thread calls everything here.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/admission.h"
#include "engine/kv_pages.h"
#include "engine/proposer.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/step_pace.h"
#include "model/model_runner.h"

namespace tg {

struct SpeculationOptions {
  Proposer* proposer = nullptr;  // nullptr: plain decoding
  std::int64_t tokens = 8;       // most proposals of a user in a step
  // Rows of a step up to which proposals are added. Reading weights and computing with them take
  // equally long at about ten rows (35 to 59 GB/s against 470 GFLOP/s in bf16, a multiplication
  // and an addition per two bytes); far above it a wrong row costs as much as a right one earns.
  std::int64_t max_rows = 16;
};

struct EngineOptions {
  std::int64_t max_users = 32;       // 1..256 requests in flight; more wait in the queue
  std::int64_t max_rows = 0;         // rows of a step; 0: as many as the runner takes
  std::int64_t prefill_chunk = 512;  // prompt rows of one user in a step; 0: no limit but max_rows
  // Prompt rows of all users in a step in which somebody decodes: what a decoding user waits for
  // between two tokens. 0: a prefill_chunk.
  std::int64_t prefill_rows = 0;
  // How long a step may take in which somebody decodes: prompts get fewer rows of it and fewer
  // users run at once, as far as that goes (one user, and kLeastPrefillRows of prompts). 0: no
  // goal. What a request answers does not depend on it.
  double step_goal_s = 0.0;
  // Prompts, and what is computed again after a preemption, take the pages that hold the same
  // beginning already. Shows in times and counts only.
  bool prefix_cache = true;
  std::optional<std::uint64_t> shuffle_pages = {};  // seed: hand out pages in a random order
  std::function<double()> clock = {};  // seconds, never decreasing; empty: the steady clock
  SpeculationOptions speculation = {};
};

// Prompt rows of a step beside others that a step_goal_s leaves at least: prompts must get on.
inline constexpr std::int64_t kLeastPrefillRows = 8;

struct EngineStats {
  std::int64_t steps = 0;
  std::int64_t rows = 0;
  std::int64_t prefill_rows = 0;
  std::int64_t decode_rows = 0;      // without proposals: one per user and step
  std::int64_t recomputed_rows = 0;  // of the prefill rows: done again after a preemption
  SpeculationCounts speculation;     // its proposals are rows too
  Error proposer_error;              // why there are no proposals any more, if so
  std::int64_t sampled_tokens = 0;
  std::int64_t preemptions = 0;
  std::int64_t submitted = 0;
  std::int64_t refused = 0;
  std::int64_t finished = 0;  // for whatever reason
  // Tokens of prompts when they start, and of these those that the prefix cache had. (Not of
  // prompts that are scored.)
  std::int64_t prefix_queries = 0;
  std::int64_t prefix_hits = 0;
  std::int64_t prefix_evictions = 0;  // pages that it lost to others
};

// What the last step() did; no rows when there was nothing to run.
struct StepReport {
  std::int64_t decode_rows = 0;  // users that decode
  std::int64_t prefill_rows = 0;
  std::int64_t proposals = 0;
  std::int64_t sampled_tokens = 0;
  double started_s = 0.0;
  double runner_s = 0.0;  // inside ModelRunner::step
  double total_s = 0.0;
  std::optional<Error> failure = {};  // of the runner; it ended the requests of the step
};

// A request that holds pages, between two steps.
struct RunningUser {
  RequestId id = 0;
  std::int32_t kv_domain = 0;
  std::int64_t prompt_tokens = 0;
  std::int64_t sampled_tokens = 0;
  std::int64_t cached_tokens = 0;  // whose keys and values are in the pages
  std::int64_t pages = 0;          // shared ones included
};

class Engine {
 public:
  // kBadArgument: max_users outside 1..256, fewer rows than users, a runner without pages, or a
  // proposer that may propose nothing.
  static Result<std::unique_ptr<Engine>> create(ModelRunner& runner, EngineOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues a request, or refuses it with check_request's error. `sink` gets no event from a refused
  // request, and none before the next step().
  Result<RequestId> submit(Request request, TokenSink* sink);

  // Ends a request before the next plan: on_finish(kCancelled) comes from the next step(). False:
  // no such request, or it has ended.
  bool cancel(RequestId id);

  // Ends every request that is there now: on_finish(kError), at once. Not inside a sink.
  void fail_all(const Error& why);

  // One step; false when nothing is left to do. A failure of the runner ends the requests of that
  // step (kError) and nobody else.
  bool step();
  void run_until_idle() {
    while (step()) {
    }
  }

  bool idle() const { return sequences_.empty(); }
  std::int64_t running() const;  // users holding pages
  std::int64_t waiting() const;
  void list_running(std::vector<RunningUser>& users) const;
  std::int64_t free_pages() const;   // over all KV domains, what is kept for its prefix included
  std::int64_t total_pages() const;  // over all KV domains
  const EngineStats& stats() const { return stats_; }
  const StepReport& last_step() const { return last_step_; }

  // What submit() checks a request with; stays the same.
  AdmissionLimits admission_limits() const;
  // See AdmissionLimits.
  std::int64_t max_tokens_per_request() const;

 private:
  struct Sequence;
  struct Batch;
  Engine(ModelRunner& runner, EngineOptions options);

  KvPages& pages_of(const Sequence& sequence);
  void finish(Sequence& sequence, FinishReason reason, Error error = {});
  void publish(Sequence& s);
  void drop_finished();
  // The parts of step(), in their order.
  std::int64_t proposals_for(Sequence& s);
  void list_state();
  void limit_to_goal();
  void note_pace();
  void list_waiting(Sequence& s, const ScheduledSequence& scheduled);
  void take_pages(const StepPlan& step_plan);
  void preempt(Sequence& s);
  void admit(Sequence& s, const PlannedWork& work);
  void propose(const StepPlan& step_plan);
  void forget_all();
  void keep_proposals(Sequence& s, std::int64_t most);
  void build_batch(const StepPlan& step_plan);
  Status build_asks(Sequence& s, const PlannedWork& work);
  void add_sample_ask(Sequence& s, std::int64_t row, std::int64_t ahead);
  void run_batch();
  void count_step();
  void deliver(Sequence& s, const PlannedWork& work, std::span<RowAnswer> answers, double now);
  void deliver_samples(Sequence& s, std::span<const RowAnswer> answers, double now);
  bool deliver_token(Sequence& s, const SampledToken& sampled, double now);

  ModelRunner& runner_;
  EngineOptions options_;
  KvCapacity capacity_;
  SchedulerLimits limits_;
  std::vector<KvPages> pages_;  // per KV domain
  // By id, which is the order of arrival; nodes do not move, so events may submit.
  std::map<RequestId, std::unique_ptr<Sequence>> sequences_;
  std::vector<Sequence*> order_;  // all of them by priority, then id
  RequestId last_id_ = 0;
  SchedulerState state_;          // of the step in progress, as are these
  std::int64_t rows_listed_ = 0;  // that the waiting ones listed so far can take at least
  Scheduler scheduler_;
  StepPace pace_;  // of steps in which somebody decoded
  std::unique_ptr<Batch> batch_;
  Proposer* proposer_;
  std::vector<ProposalAsk> proposal_asks_;  // of the step in progress
  bool in_step_ = false;
  EngineStats stats_;
  StepReport last_step_;
};

}  // namespace tg
