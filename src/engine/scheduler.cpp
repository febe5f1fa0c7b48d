#include "engine/scheduler.h"

#include <algorithm>
#include <optional>

#include "engine/page_pool.h"

namespace tg {

class Scheduler::Planner {
 public:
  const StepPlan& run(const SchedulerState& state) {
    state_ = &state;
    free_ = state.free_pages;
    taken_.assign(state.running.size(), 0);
    preempted_.assign(state.running.size(), false);
    rows_left_ = state.limits.max_rows;
    plan_.preempted.clear();
    plan_.work.clear();
    decoding_.clear();
    prefills_.clear();
    plan_running();
    // What was just taken away for lack of pages shall not come back in the same step.
    if (plan_.preempted.empty()) {
      admit();
      share_proposals();
    }
    for (PlannedWork& work : prefills_) plan_.work.push_back(work);
    return plan_;
  }

 private:
  // First in order first, so that pages go to him. Rows are promised to all decodes beforehand:
  // prefills share only what is left, and of that no more than decodes may have to wait for.
  void plan_running() {
    std::int64_t decodes = 0;
    for (const ScheduledSequence& s : state_->running) decodes += s.decoding() ? 1 : 0;
    rows_left_ -= decodes;
    const bool limited = decodes > 0 && state_->limits.prefill_rows > 0;
    prefill_left_ = limited ? state_->limits.prefill_rows : state_->limits.max_rows;
    for (std::size_t i = 0; i < state_->running.size(); ++i) {
      if (preempted_[i]) continue;
      const ScheduledSequence& s = state_->running[i];
      const std::int64_t wanted = s.decoding() ? 1 : chunk(s.remaining());
      if (wanted <= 0) continue;
      while (rows_that_fit(s, wanted) == 0 && preempt_last_behind(i)) {
      }
      const std::int64_t rows = rows_that_fit(s, wanted);
      if (rows > 0) {
        taken_[i] = add(s, rows, s.kv_domain);
      } else if (s.decoding()) {
        // The last of its domain, and no page: it waits for the others without holding back pages
        // that they will need.
        preempt(i);
      }
    }
  }

  // First come, first served: the head of the queue goes to the domain with most room, once its
  // whole prompt fits besides what the running ones need soon: the rest of their prompts, and the
  // next page of each that can still grow (else the newcomer would be preempted again at once).
  // A page that it finds there counts as one more of room: users with the same beginning come
  // together, but no domain fills up for a short one. Nobody overtakes the head.
  void admit() {
    auto users = static_cast<std::int64_t>(state_->running.size());
    room_ = free_;
    for (std::size_t i = 0; i < state_->running.size(); ++i) {
      const ScheduledSequence& s = state_->running[i];
      const std::int64_t held = s.pages + taken_[i];
      room_[domain(s)] -= std::max(pages(s.known), std::min(pages(s.longest), held + 1)) - held;
    }
    for (std::size_t i = 0; i < state_->waiting.size() && users < state_->limits.max_users; ++i) {
      const ScheduledSequence& s = state_->waiting[i];
      const std::optional<std::size_t> best = best_domain(i);
      if (!best) return;
      const PrefixHit hit = hit_of(i, *best);
      const std::int64_t rows = chunk(s.known - hit.pages * state_->limits.block);
      if (rows <= 0) return;
      room_[*best] -= std::min(pages(s.longest), pages(s.known) + 1) - held_by_others(hit);
      ++users;
      add(s, rows, static_cast<std::int32_t>(*best), &hit);
    }
  }

  // Of those with enough room for the i-th in the queue the best, the first of equals.
  std::optional<std::size_t> best_domain(std::size_t i) const {
    const std::int64_t needed = pages(state_->waiting[i].known);
    std::optional<std::size_t> best;
    std::int64_t best_room = 0;
    for (std::size_t d = 0; d < room_.size(); ++d) {
      const PrefixHit hit = hit_of(i, d);
      if (room_[d] < needed - held_by_others(hit)) continue;
      if (best && room_[d] + hit.pages <= best_room) continue;
      best = d;
      best_room = room_[d] + hit.pages;
    }
    return best;
  }

  PrefixHit hit_of(std::size_t i, std::size_t domain) const {
    return state_->hits.empty() ? PrefixHit{} : state_->hits[i * room_.size() + domain];
  }
  static std::int64_t held_by_others(const PrefixHit& hit) { return hit.pages - hit.free_pages; }

  // Returns the pages it takes.
  // `hit`: of one that is admitted.
  std::int64_t add(const ScheduledSequence& s, std::int64_t rows, std::int32_t kv_domain,
                   const PrefixHit* hit = nullptr) {
    PlannedWork work;
    work.id = s.id;
    work.rows = rows;
    work.kv_domain = kv_domain;
    work.admitted = hit != nullptr;
    work.decoding = !work.admitted && s.decoding();
    std::int64_t end = s.cached + rows;
    std::int64_t& free = free_[static_cast<std::size_t>(kv_domain)];
    if (work.admitted) {
      work.shared_pages = hit->pages;
      end += hit->pages * state_->limits.block;
      free -= hit->free_pages;
    }
    work.new_pages = std::max<std::int64_t>(0, pages(end) - s.pages - work.shared_pages);
    work.reaches_end = end == s.known;
    free -= work.new_pages;
    if (work.decoding) {
      plan_.work.push_back(work);
      decoding_.push_back(&s);
    } else {
      rows_left_ -= rows;
      prefill_left_ -= rows;
      prefills_.push_back(work);
    }
    return work.new_pages;
  }

  // Row by row in turns, the first in order first, while the step has room. With that the users
  // that are proposed most get what the others leave.
  void share_proposals() {
    std::int64_t room = std::min(state_->limits.proposal_rows, state_->limits.max_rows);
    for (const PlannedWork& work : plan_.work) room -= work.rows;
    for (const PlannedWork& work : prefills_) room -= work.rows;
    for (bool shared = true; shared && room > 0;) {
      shared = false;
      for (std::size_t i = 0; i < decoding_.size() && room > 0; ++i) {
        if (!add_proposal(*decoding_[i], plan_.work[i])) continue;
        shared = true;
        --room;
      }
    }
  }

  bool add_proposal(const ScheduledSequence& s, PlannedWork& work) {
    if (work.proposals >= s.proposals) return false;
    const std::int64_t held = s.pages + work.new_pages;
    if (pages(s.known + work.proposals + 1) > held) {
      // A guess takes no page that a running sequence may need for its next token.
      if (free_[domain(s)] <= running_in(domain(s))) return false;
      --free_[domain(s)];
      ++work.new_pages;
    }
    ++work.proposals;
    return true;
  }

  // Sequences with pages of the domain, the newly admitted too.
  std::int64_t running_in(std::size_t wanted) const {
    const auto old =
        std::count_if(state_->running.begin(), state_->running.end(),
                      [wanted](const ScheduledSequence& s) { return domain(s) == wanted; });
    return old +
           std::count_if(prefills_.begin(), prefills_.end(), [wanted](const PlannedWork& work) {
             return work.admitted && static_cast<std::size_t>(work.kv_domain) == wanted;
           });
  }

  // The last running sequence of i's domain behind i gives its pages back. Being behind it has no
  // work in the plan yet. False: there is none.
  bool preempt_last_behind(std::size_t i) {
    for (std::size_t victim = state_->running.size() - 1; victim > i; --victim) {
      if (preempted_[victim] || domain(state_->running[victim]) != domain(state_->running[i])) {
        continue;
      }
      preempt(victim);
      return true;
    }
    return false;
  }

  void preempt(std::size_t i) {
    const ScheduledSequence& s = state_->running[i];
    preempted_[i] = true;
    // All behind it in its domain are gone already, so only those before it share its pages.
    free_[domain(s)] += s.pages - s.shared;
    if (s.decoding()) ++rows_left_;
    plan_.preempted.push_back(s.id);
  }

  std::int64_t chunk(std::int64_t remaining) const {
    const std::int64_t limit = state_->limits.prefill_chunk;
    return std::min({remaining, rows_left_, prefill_left_, limit > 0 ? limit : remaining});
  }

  // How many of `wanted` rows have a place in the pages held and free.
  std::int64_t rows_that_fit(const ScheduledSequence& s, std::int64_t wanted) const {
    const std::int64_t places = (s.pages + free_[domain(s)]) * state_->limits.block;
    return std::clamp<std::int64_t>(places - s.cached, 0, wanted);
  }

  std::int64_t pages(std::int64_t positions) const {
    return pages_for(positions, state_->limits.block);
  }
  static std::size_t domain(const ScheduledSequence& s) {
    return static_cast<std::size_t>(s.kv_domain);
  }

  const SchedulerState* state_ = nullptr;
  std::vector<std::int64_t> free_;   // per domain, after the work planned so far
  std::vector<std::int64_t> room_;   // per domain, for who is admitted
  std::vector<std::int64_t> taken_;  // [running], new pages by this plan
  std::vector<bool> preempted_;      // [running]
  std::int64_t rows_left_ = 0;       // besides those of decodes
  std::int64_t prefill_left_ = 0;    // how many of them may be used
  StepPlan plan_;
  std::vector<const ScheduledSequence*> decoding_;  // those of plan_.work
  std::vector<PlannedWork> prefills_;
};

Scheduler::Scheduler() : planner_(std::make_unique<Planner>()) {}
Scheduler::~Scheduler() = default;
const StepPlan& Scheduler::plan(const SchedulerState& state) { return planner_->run(state); }

StepPlan plan(const SchedulerState& state) { return Scheduler().plan(state); }

}  // namespace tg
