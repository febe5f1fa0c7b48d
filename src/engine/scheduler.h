// What: which rows the next step runs: a pure function from plain numbers to a plan.
//   Decodes first, then prefill in chunks up to the row budget, first in order first; a free slot
//   is filled from the queue at once, less what the prefix cache has of the newcomer's tokens; when
//   pages run out the last running request in order gives its pages back and is recomputed later.
//   The order is by priority, then arrival. The first request therefore advances in every step: no
//   deadlock and, among equal priorities, no starvation. Proposed tokens (proposer.h) get rows and
//   pages that nobody else wants, and only while the step stays small.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/request.h"

namespace tg {

struct SchedulerLimits {
  std::int64_t max_users = 32;     // sequences that hold pages at once
  std::int64_t max_rows = 512;     // rows of a step; >= max_users
  std::int64_t prefill_chunk = 0;  // rows of one sequence per step; 0: no limit but max_rows
  std::int64_t block = 64;         // positions per page
  // Rows of a step up to which proposed tokens are added to it.
  std::int64_t proposal_rows = 0;
  // Prefill rows of a step in which somebody decodes: he waits for no more. 0: no such limit.
  std::int64_t prefill_rows = 0;
};

struct ScheduledSequence {
  RequestId id = 0;
  std::int64_t known = 0;    // tokens whose ids are known: prompt and sampled so far
  std::int64_t cached = 0;   // of them, in the KV pages; < known
  std::int64_t longest = 0;  // positions that it can have in the pages at the end of its life
  std::int64_t pages = 0;    // held
  std::int64_t shared = 0;   // of them, those that a running one before it holds too
  std::int32_t kv_domain = 0;
  // Proposed to follow the known ones, if it is decoding; known + proposals <= longest.
  std::int64_t proposals = 0;

  std::int64_t remaining() const { return known - cached; }
  // One row brings it to its next token. (The last row of a chunked prefill looks the same and is
  // the same work.)
  bool decoding() const { return cached > 0 && remaining() == 1; }
};

// What the prefix cache of a KV domain has of a waiting sequence: so many full pages from its first
// token on, not all of its known tokens.
struct PrefixHit {
  std::int64_t pages = 0;
  std::int64_t free_pages = 0;  // of them, those that nobody holds: they count as free
};

// Both lists are in order: by priority, then by arrival. A waiting sequence has nothing cached.
// The pages that running sequences share are always the first of each.
struct SchedulerState {
  SchedulerLimits limits;
  std::vector<std::int64_t> free_pages;  // per KV domain
  std::vector<ScheduledSequence> running;
  std::vector<ScheduledSequence> waiting;
  std::vector<PrefixHit> hits;  // [waiting, KV domains]; empty: none
};

// `rows` known tokens of one sequence from its position `cached` on, then `proposals` proposed
// ones; needs `new_pages` more pages first. One that is admitted first takes `shared_pages` from
// the prefix cache and is cached that far; all admitted do before anybody gets a new page, as new
// pages may be those that the cache has.
struct PlannedWork {
  RequestId id = 0;
  std::int64_t rows = 0;
  std::int64_t proposals = 0;
  std::int64_t new_pages = 0;
  std::int64_t shared_pages = 0;
  std::int32_t kv_domain = 0;
  bool admitted = false;  // was waiting; has its place in kv_domain from now on
  bool decoding = false;
  bool reaches_end = false;  // the last of `rows` is the last known token: the next can be sampled
};

struct StepPlan {
  // Give their pages back before `work` takes any; then they wait again.
  std::vector<RequestId> preempted;
  std::vector<PlannedWork> work;  // decodes, running prefills, the admitted: each in order
};

// The plan is empty only when nothing is waiting or running, given that every sequence alone fits
// a domain: pages_for(longest, block) <= pages of each domain (checked at submit), known <=
// longest.
StepPlan plan(const SchedulerState& state);

// The same with memory that is kept from plan to plan.
class Scheduler {
 public:
  Scheduler();
  ~Scheduler();
  // Stays until the next call.
  const StepPlan& plan(const SchedulerState& state);

 private:
  class Planner;
  std::unique_ptr<Planner> planner_;
};

}  // namespace tg
