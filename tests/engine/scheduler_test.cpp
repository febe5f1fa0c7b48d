#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "engine/page_pool.h"

namespace tg {
namespace {

ScheduledSequence waiting(RequestId id, std::int64_t prompt) {
  ScheduledSequence s;
  s.id = id;
  s.known = prompt;
  s.longest = prompt + 100;
  return s;
}

// Has `cached` of `known` tokens in just enough pages of 16.
ScheduledSequence running(RequestId id, std::int64_t cached, std::int64_t known) {
  ScheduledSequence s = waiting(id, known);
  s.cached = cached;
  s.pages = pages_for(cached, 16);
  return s;
}

SchedulerState state_of(std::int64_t max_users, std::int64_t max_rows, std::int64_t chunk,
                        std::int64_t free_pages) {
  SchedulerState state;
  state.limits = {max_users, max_rows, chunk, 16};
  state.free_pages = {free_pages};
  return state;
}

TEST(Scheduler, NothingToDoIsAnEmptyPlan) {
  const StepPlan p = plan(state_of(4, 64, 0, 10));
  EXPECT_TRUE(p.work.empty());
  EXPECT_TRUE(p.preempted.empty());
}

TEST(Scheduler, DecodesFirstThenChunksUpToTheBudget) {
  SchedulerState state = state_of(8, 40, 32, 100);
  state.running = {running(1, 16, 100), running(2, 50, 51), running(3, 20, 21)};
  state.waiting = {waiting(4, 30), waiting(5, 30)};
  const StepPlan p = plan(state);
  ASSERT_EQ(p.work.size(), 4U);
  EXPECT_EQ(p.work[0].id, 2U);
  EXPECT_TRUE(p.work[0].decoding);
  EXPECT_TRUE(p.work[0].reaches_end);
  EXPECT_EQ(p.work[1].id, 3U);
  EXPECT_EQ(p.work[2].id, 1U);  // 32 of the 38 rows that two decodes leave
  EXPECT_EQ(p.work[2].rows, 32);
  EXPECT_EQ(p.work[2].new_pages, 2);
  EXPECT_FALSE(p.work[2].reaches_end);
  EXPECT_EQ(p.work[3].id, 4U);  // the rest of the budget
  EXPECT_EQ(p.work[3].rows, 6);
  EXPECT_TRUE(p.work[3].admitted);
}

TEST(Scheduler, AFreeSlotIsRefilledAtOnceAndNotMore) {
  SchedulerState state = state_of(3, 512, 0, 100);
  state.running = {running(1, 5, 6), running(3, 5, 6)};
  state.waiting = {waiting(4, 3), waiting(5, 3)};
  const StepPlan p = plan(state);
  ASSERT_EQ(p.work.size(), 3U);
  EXPECT_EQ(p.work[2].id, 4U);
  EXPECT_TRUE(p.work[2].reaches_end);
}

TEST(Scheduler, TheHeadOfTheQueueIsNotOvertaken) {
  SchedulerState state = state_of(8, 512, 0, 3);
  state.running = {running(1, 5, 6)};
  state.waiting = {waiting(2, 64), waiting(3, 4)};  // 4 pages do not fit, 1 would
  const StepPlan p = plan(state);
  ASSERT_EQ(p.work.size(), 1U);
  EXPECT_EQ(p.work[0].id, 1U);
}

TEST(Scheduler, AnExactlySizedPoolTakesEveryone) {
  SchedulerState state = state_of(32, 4096, 0, 32);
  for (RequestId id = 1; id <= 32; ++id) {
    state.waiting.push_back(waiting(id, 10));
    state.waiting.back().longest = 16;  // one page for all its life
  }
  EXPECT_EQ(plan(state).work.size(), 32U);
}

TEST(Scheduler, NewcomersLeaveThePagesThatRunningPromptsStillNeed) {
  SchedulerState state = state_of(8, 64, 16, 5);
  state.running = {running(1, 16, 80)};  // needs 4 more pages, takes 1 of them now
  state.waiting = {waiting(2, 30)};
  const StepPlan p = plan(state);
  ASSERT_EQ(p.work.size(), 1U);
  state.free_pages = {6};
  EXPECT_EQ(plan(state).work.size(), 2U);
}

TEST(Scheduler, TheYoungestGivesWay) {
  SchedulerState state = state_of(8, 512, 0, 0);
  state.running = {running(1, 16, 17), running(2, 16, 17), running(3, 10, 11)};
  const StepPlan p = plan(state);
  // 1 needs a page: 3 gives one. 2 needs one too, and is the youngest left: it waits.
  EXPECT_EQ(p.preempted, (std::vector<RequestId>{3, 2}));
  ASSERT_EQ(p.work.size(), 1U);
  EXPECT_EQ(p.work[0].id, 1U);
  EXPECT_EQ(p.work[0].new_pages, 1);
}

TEST(Scheduler, ThePreemptedAreNotTakenBackInTheSameStep) {
  SchedulerState state = state_of(8, 512, 0, 0);
  state.running = {running(1, 16, 17), running(2, 160, 161)};
  state.waiting = {waiting(3, 1)};
  const StepPlan p = plan(state);
  EXPECT_EQ(p.preempted, std::vector<RequestId>{2});
  EXPECT_EQ(p.work.size(), 1U);
}

TEST(Scheduler, TwoPrefillsThatFillThePoolDoNotBlockEachOther) {
  SchedulerState state = state_of(8, 512, 0, 0);
  state.running = {running(1, 32, 90), running(2, 48, 90)};
  const StepPlan p = plan(state);
  EXPECT_EQ(p.preempted, std::vector<RequestId>{2});
  ASSERT_EQ(p.work.size(), 1U);
  EXPECT_EQ(p.work[0].rows, 48);  // what the three pages hold
}

TEST(Scheduler, UsersArePlacedByFreePagesOfTheDomains) {
  SchedulerState state = state_of(8, 512, 0, 0);
  state.free_pages = {3, 5, 5};
  state.waiting = {waiting(1, 48), waiting(2, 48), waiting(3, 20)};
  const StepPlan p = plan(state);
  ASSERT_EQ(p.work.size(), 3U);
  EXPECT_EQ(p.work[0].kv_domain, 1);
  EXPECT_EQ(p.work[1].kv_domain, 2);
  EXPECT_EQ(p.work[2].kv_domain, 0);
}

TEST(Scheduler, PagesAreTakenOnlyWithinADomain) {
  SchedulerState state = state_of(8, 512, 0, 0);
  state.free_pages = {0, 0};
  state.running = {running(1, 16, 17), running(2, 16, 17), running(3, 10, 11)};
  state.running[1].kv_domain = 1;
  state.running[2].kv_domain = 1;
  const StepPlan p = plan(state);
  // 1 is alone in domain 0 and finds no page there; 3 gives way to 2, not to 1.
  EXPECT_EQ(p.preempted, (std::vector<RequestId>{1, 3}));
}

std::vector<std::int64_t> proposals_of(const StepPlan& p) {
  std::vector<std::int64_t> counts;
  for (const PlannedWork& work : p.work) counts.push_back(work.proposals);
  return counts;
}

TEST(Scheduler, ProposalsShareTheRowsThatASmallStepHasLeft) {
  SchedulerState state = state_of(8, 64, 0, 100);
  state.limits.proposal_rows = 16;
  state.running = {running(1, 16, 17), running(2, 50, 51), running(3, 20, 21)};
  state.running[0].proposals = 2;
  state.running[1].proposals = 9;
  state.running[2].proposals = 9;
  EXPECT_EQ(proposals_of(plan(state)), (std::vector<std::int64_t>{2, 6, 5}));  // 13 rows are left
  state.limits.max_rows = 9;
  EXPECT_EQ(proposals_of(plan(state)), (std::vector<std::int64_t>{2, 2, 2}));
  state.limits.max_rows = 64;
  state.waiting = {waiting(4, 12)};  // a prompt in the step: one row is left
  EXPECT_EQ(proposals_of(plan(state)), (std::vector<std::int64_t>{1, 0, 0, 0}));
  state.waiting = {waiting(4, 13)};
  EXPECT_EQ(proposals_of(plan(state)), (std::vector<std::int64_t>{0, 0, 0, 0}));
}

TEST(Scheduler, ProposalsTakeNoPageThatSomebodyMayNeed) {
  SchedulerState state = state_of(8, 64, 0, 3);
  state.limits.proposal_rows = 64;
  state.running = {running(1, 30, 31), running(2, 15, 16)};
  state.running[0].proposals = 20;
  state.running[1].proposals = 20;
  const StepPlan p = plan(state);
  // Position 31 is the last of the page that 1 has, 15 that of 2. One of three pages may go.
  EXPECT_EQ(proposals_of(p), (std::vector<std::int64_t>{1, 16}));
  EXPECT_EQ(p.work[0].new_pages, 0);
  EXPECT_EQ(p.work[1].new_pages, 1);
  state.free_pages = {2};
  EXPECT_EQ(proposals_of(plan(state)), (std::vector<std::int64_t>{1, 0}));
}

// One random life of a server, driven by plain numbers: arrivals, cancels, ends, small pools.
// Checks each plan against the rules of scheduler.h and returns what went wrong, or "".
class Trace {
 public:
  explicit Trace(std::uint64_t seed) : random_(seed) {
    state_.limits.max_users = pick(1, pick(0, 3) == 0 ? 32 : 6);
    state_.limits.max_rows = state_.limits.max_users + pick(0, 40);
    state_.limits.prefill_chunk = pick(0, 2) == 0 ? 0 : pick(1, 24);
    state_.limits.block = pick(1, 8);
    pages_ = pick(1, 24);
    const std::int64_t domains = pick(0, 2) == 0 ? pick(2, 4) : 1;
    for (std::int64_t i = 0; i < domains; ++i) {
      pools_.emplace_back(pages_, static_cast<std::uint64_t>(i));
    }
    arrivals_ = pick(1, 30);
    proposes_ = seed % 2 == 1;
    if (proposes_) state_.limits.proposal_rows = pick(2, 48);
  }

  std::string run() {
    std::int64_t budget = 0;  // steps: each sampled token costs one, each recomputation one per row
    for (std::int64_t step = 0;; ++step) {
      while (arrivals_ > 0 && (pick(0, 2) > 0 || live_.empty())) {
        arrive();
        budget += 400;
      }
      if (!live_.empty() && pick(0, 30) == 0) cancel_one();
      if (live_.empty() && arrivals_ == 0) break;
      if (live_.empty()) continue;
      if (step > budget + 100) return "no end in sight";
      fill_state();
      const StepPlan p = plan(state_);
      const std::string wrong = check(p);
      if (!wrong.empty()) return wrong;
      apply(p);
      if (!failure_.empty()) return failure_;
    }
    for (const PagePool& pool : pools_) {
      if (pool.free_pages() != pages_) return "pages leaked";
    }
    return "";
  }

  std::int64_t preemptions() const { return preemptions_; }
  std::int64_t proposed() const { return proposed_; }

 private:
  struct Live {
    ScheduledSequence s;
    PageTable table;
    std::int64_t new_tokens = 0;
    std::int64_t reached = 0;  // positions that had a row, proposals too
    bool running = false;
  };

  std::int64_t pick(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(high - low + 1));
  }

  void arrive() {
    --arrivals_;
    const std::int64_t places = pages_ * state_.limits.block;
    Live live;
    live.s.id = ++last_id_;
    live.s.known = pick(1, std::max<std::int64_t>(1, places / pick(1, 6)));
    live.s.longest = pick(live.s.known, places);
    live.new_tokens = live.s.longest - live.s.known + 1;
    live_[live.s.id] = live;
  }

  void end(RequestId id) {
    Live& live = live_.at(id);
    pools_[static_cast<std::size_t>(live.s.kv_domain)].release(live.table);
    live_.erase(id);
  }

  void cancel_one() { end(std::next(live_.begin(), pick(0, size(live_) - 1))->first); }

  template <typename C>
  static std::int64_t size(const C& c) {
    return static_cast<std::int64_t>(c.size());
  }

  void fill_state() {
    state_.free_pages.clear();
    for (const PagePool& pool : pools_) state_.free_pages.push_back(pool.free_pages());
    state_.running.clear();
    state_.waiting.clear();
    for (auto& [id, live] : live_) {
      live.s.pages = size(live.table);
      live.s.proposals = proposes_ ? pick(0, std::min<std::int64_t>(live.new_tokens - 1, 9)) : 0;
      (live.running ? state_.running : state_.waiting).push_back(live.s);
    }
  }

  // Rows of a step that has proposals, and pages that they leave to the others.
  std::string check_proposals(const StepPlan& p) const {
    std::int64_t rows = 0, proposals = 0;
    std::vector<std::int64_t> free = state_.free_pages, users(free.size(), 0);
    std::vector<bool> grown(free.size(), false);
    for (const ScheduledSequence& s : state_.running)
      ++users[static_cast<std::size_t>(s.kv_domain)];
    for (const PlannedWork& work : p.work) {
      const ScheduledSequence& s = live_.at(work.id).s;
      const auto domain = static_cast<std::size_t>(work.kv_domain);
      rows += work.rows;
      proposals += work.proposals;
      free[domain] -= work.new_pages;
      if (work.admitted) ++users[domain];
      if (work.proposals > 0 && !work.decoding) return "proposals of one who does not decode";
      if (work.proposals > s.proposals) return "more proposals than there are";
      const std::int64_t needed = pages_for(s.cached + work.rows, state_.limits.block);
      if (work.new_pages > std::max<std::int64_t>(needed - s.pages, 0)) grown[domain] = true;
    }
    if (proposals > 0 && rows + proposals > state_.limits.proposal_rows)
      return "too many proposals";
    if (proposals > 0 && !p.preempted.empty()) return "proposals though pages are short";
    for (std::size_t d = 0; d < free.size(); ++d) {
      if (grown[d] && free[d] < users[d]) return "a proposal took a page that somebody needs";
    }
    return "";
  }

  std::string check(const StepPlan& p) const {
    if (const std::string wrong = check_proposals(p); !wrong.empty()) return wrong;
    const SchedulerLimits& limits = state_.limits;
    if (p.work.empty()) return "nothing planned though requests are there";
    std::int64_t rows = 0, users = size(state_.running) - size(p.preempted);
    bool prefill_seen = false, admitted_seen = false;
    RequestId last = 0, last_admitted = 0;
    std::map<RequestId, PlannedWork> planned;
    for (const PlannedWork& work : p.work) {
      const Live& live = live_.at(work.id);
      if (!planned.emplace(work.id, work).second) return "planned twice";
      if (work.rows < 1 || work.rows > live.s.remaining()) return "rows out of range";
      if (work.decoding && prefill_seen) return "a decode after a prefill";
      if (admitted_seen && !work.admitted) return "an admitted one before a running one";
      if (!work.decoding && !prefill_seen) last = 0;
      if (work.admitted && !admitted_seen) last = 0;
      admitted_seen = admitted_seen || work.admitted;
      prefill_seen = prefill_seen || !work.decoding;
      if (work.id <= last) return "not oldest first";
      last = work.id;
      if (work.admitted == live.running) return "admitted though running, or the reverse";
      if (!work.decoding && limits.prefill_chunk > 0 && work.rows > limits.prefill_chunk) {
        return "chunk too long";
      }
      if (work.reaches_end != (live.s.cached + work.rows == live.s.known)) return "reaches_end";
      rows += work.rows + work.proposals;
      if (work.admitted) {
        ++users;
        last_admitted = work.id;
      }
    }
    if (rows > limits.max_rows) return "more rows than the budget";
    if (users > limits.max_users) return "more users than slots";
    for (const ScheduledSequence& s : state_.waiting) {
      if (s.id < last_admitted && !planned.contains(s.id)) return "overtaken in the queue";
    }
    const auto taken_away = [&](RequestId id) {
      return std::find(p.preempted.begin(), p.preempted.end(), id) != p.preempted.end();
    };
    for (const ScheduledSequence& s : state_.running) {
      if (taken_away(s.id) && planned.contains(s.id)) return "preempted and planned";
      if (s.decoding() && !taken_away(s.id) && !planned.contains(s.id)) return "a decode waits";
      for (const RequestId gone : p.preempted) {
        if (s.id > gone && s.kv_domain == live_.at(gone).s.kv_domain && !taken_away(s.id)) {
          return "an older one was preempted before a younger one of its domain";
        }
      }
    }
    // No starvation: the oldest moves in every step. (With several domains the oldest may wait
    // while younger ones of another domain finish; then the oldest running one moves.)
    const RequestId oldest = pools_.size() == 1       ? live_.begin()->first
                             : state_.running.empty() ? state_.waiting[0].id
                                                      : oldest_running_kept(p);
    if (oldest != 0 && !planned.contains(oldest)) return "the oldest does not move";
    return "";
  }

  RequestId oldest_running_kept(const StepPlan& p) const {
    for (const ScheduledSequence& s : state_.running) {
      if (std::find(p.preempted.begin(), p.preempted.end(), s.id) == p.preempted.end()) {
        return s.id;
      }
    }
    return 0;
  }

  void apply(const StepPlan& p) {
    for (const RequestId id : p.preempted) {
      Live& live = live_.at(id);
      pools_[static_cast<std::size_t>(live.s.kv_domain)].release(live.table);
      live.running = false;
      live.s.cached = 0;
      live.reached = 0;
      ++preemptions_;
    }
    for (const PlannedWork& work : p.work) {
      Live& live = live_.at(work.id);
      if (work.admitted) live.s.kv_domain = work.kv_domain;
      live.running = true;
      PagePool& pool = pools_[static_cast<std::size_t>(live.s.kv_domain)];
      if (!pool.allocate(work.new_pages, live.table)) {
        failure_ = "more pages planned than free";
        return;
      }
      live.s.cached += work.rows;
      // The pages of proposals that came to nothing stay for the tokens that will.
      const std::int64_t held = size(live.table);
      if (held < pages_for(live.s.cached + work.proposals, state_.limits.block) ||
          held > pages_for(std::max(live.reached, live.s.cached + work.proposals),
                           state_.limits.block)) {
        failure_ = "not just the pages that the rows need";
        return;
      }
      live.reached = std::max(live.reached, live.s.cached + work.proposals);
      if (!work.reaches_end) continue;
      const std::int64_t accepted = pick(0, work.proposals);
      proposed_ += work.proposals;
      live.s.cached += accepted;
      live.s.known += accepted;
      live.new_tokens -= accepted;
      if (--live.new_tokens == 0 || pick(0, 20) == 0) {
        end(work.id);
      } else {
        ++live.s.known;
      }
    }
  }

  std::mt19937_64 random_;
  SchedulerState state_;
  std::vector<PagePool> pools_;
  std::int64_t pages_ = 0;
  std::int64_t arrivals_ = 0;
  RequestId last_id_ = 0;
  std::int64_t preemptions_ = 0;
  std::int64_t proposed_ = 0;
  bool proposes_ = false;
  std::map<RequestId, Live> live_;
  std::string failure_;
};

TEST(Scheduler, TenThousandRandomTraces) {
  std::int64_t preemptions = 0, proposed = 0;
  for (std::uint64_t seed = 0; seed < 10000; ++seed) {
    Trace trace(seed);
    ASSERT_EQ(trace.run(), "") << "seed " << seed;
    preemptions += trace.preemptions();
    proposed += trace.proposed();
  }
  EXPECT_GT(proposed, 10000);
  EXPECT_GT(preemptions, 10000);  // the pools were small enough to matter
}

}  // namespace
}  // namespace tg
