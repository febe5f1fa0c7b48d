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
  // Oldest first, so that pages go to the older one. Rows are promised to all decodes beforehand:
  // prefills share only what is left.
  void plan_running() {
    std::int64_t decodes = 0;
    for (const ScheduledSequence& s : state_->running) decodes += s.decoding() ? 1 : 0;
    rows_left_ -= decodes;
    for (std::size_t i = 0; i < state_->running.size(); ++i) {
      if (preempted_[i]) continue;
      const ScheduledSequence& s = state_->running[i];
      const std::int64_t wanted = s.decoding() ? 1 : chunk(s.remaining());
      if (wanted <= 0) continue;
      while (rows_that_fit(s, wanted) == 0 && preempt_youngest_after(i)) {
      }
      const std::int64_t rows = rows_that_fit(s, wanted);
      if (rows > 0) {
        taken_[i] = add(s, rows, s.kv_domain, false);
      } else if (s.decoding()) {
        // The youngest of its domain, and no page: it waits for the older ones without holding
        // back pages that they will need.
        preempt(i);
      }
    }
  }

  // First come, first served: the head of the queue goes to the domain with most room, once its
  // whole prompt fits besides what the running ones need soon: the rest of their prompts, and the
  // next page of each that can still grow (else the newcomer would be preempted again at once).
  // Nobody overtakes the head.
  void admit() {
    auto users = static_cast<std::int64_t>(state_->running.size());
    room_ = free_;
    for (std::size_t i = 0; i < state_->running.size(); ++i) {
      const ScheduledSequence& s = state_->running[i];
      const std::int64_t held = s.pages + taken_[i];
      room_[domain(s)] -= std::max(pages(s.known), std::min(pages(s.longest), held + 1)) - held;
    }
    for (const ScheduledSequence& s : state_->waiting) {
      const std::int64_t rows = chunk(s.remaining());
      if (users >= state_->limits.max_users || rows <= 0) return;
      const auto best = std::max_element(room_.begin(), room_.end());  // the first of equals
      if (*best < pages(s.known)) return;
      *best -= std::min(pages(s.longest), pages(s.known) + 1);
      ++users;
      add(s, rows, static_cast<std::int32_t>(best - room_.begin()), true);
    }
  }

  // Returns the pages it takes.
  std::int64_t add(const ScheduledSequence& s, std::int64_t rows, std::int32_t kv_domain,
                   bool admitted) {
    PlannedWork work;
    work.id = s.id;
    work.rows = rows;
    work.new_pages = std::max<std::int64_t>(0, pages(s.cached + rows) - s.pages);
    work.kv_domain = kv_domain;
    work.admitted = admitted;
    work.decoding = s.decoding();
    work.reaches_end = s.cached + rows == s.known;
    free_[static_cast<std::size_t>(kv_domain)] -= work.new_pages;
    if (work.decoding) {
      plan_.work.push_back(work);
      decoding_.push_back(&s);
    } else {
      rows_left_ -= rows;
      prefills_.push_back(work);
    }
    return work.new_pages;
  }

  // Row by row in turns, the oldest first, while the step has room. With that the users that are
  // proposed most get what the others leave.
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

  // The youngest running sequence of i's domain that is younger than i gives its pages back. Being
  // younger it has no work in the plan yet. False: there is none.
  bool preempt_youngest_after(std::size_t i) {
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
    free_[domain(s)] += s.pages;
    if (s.decoding()) ++rows_left_;
    plan_.preempted.push_back(s.id);
  }

  std::int64_t chunk(std::int64_t remaining) const {
    const std::int64_t limit = state_->limits.prefill_chunk;
    return std::min({remaining, rows_left_, limit > 0 ? limit : remaining});
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
  std::int64_t rows_left_ = 0;       // for prefill
  StepPlan plan_;
  std::vector<const ScheduledSequence*> decoding_;  // those of plan_.work
  std::vector<PlannedWork> prefills_;
};

Scheduler::Scheduler() : planner_(std::make_unique<Planner>()) {}
Scheduler::~Scheduler() = default;
const StepPlan& Scheduler::plan(const SchedulerState& state) { return planner_->run(state); }

StepPlan plan(const SchedulerState& state) { return Scheduler().plan(state); }

}  // namespace tg
