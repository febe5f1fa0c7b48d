// Ten thousand random lives of a server against the rules of scheduler.h: arrivals, priorities,
// cancels, ends, proposals, beginnings in common, pools too small for all. The pages are real ones
// (KvPages); each remembers what was written to it.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "engine/kv_pages.h"
#include "engine/scheduler.h"

namespace tg {
namespace {

class Trace {
 public:
  explicit Trace(std::uint64_t seed) : random_(seed) {
    state_.limits.max_users = pick(1, pick(0, 3) == 0 ? 32 : 6);
    state_.limits.max_rows = state_.limits.max_users + pick(0, 40);
    state_.limits.prefill_chunk = pick(0, 2) == 0 ? 0 : pick(1, 24);
    state_.limits.prefill_rows = pick(0, 1) == 0 ? 0 : pick(1, 24);
    state_.limits.block = pick(1, 8);
    pages_ = pick(1, 24);
    const std::int64_t domains = pick(0, 2) == 0 ? pick(2, 4) : 1;
    for (std::int64_t i = 0; i < domains; ++i) {
      pools_.emplace_back(pages_, state_.limits.block, seed % 4 != 0,
                          static_cast<std::uint64_t>(i));
    }
    texts_.resize(static_cast<std::size_t>(domains * pages_));
    arrivals_ = pick(1, 30);
    proposes_ = seed % 2 == 1;
    if (proposes_) state_.limits.proposal_rows = pick(2, 48);
    most_priority_ = seed % 3 == 0 ? 2 : 0;
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
      std::string wrong = check_proposals(p);
      if (wrong.empty()) wrong = check(p);
      if (!wrong.empty()) return wrong;
      apply(p);
      if (failure_.empty()) check_pages();
      if (!failure_.empty()) return failure_;
    }
    for (const KvPages& pool : pools_) {
      if (pool.free_pages() != pages_) return "pages leaked";
    }
    return "";
  }

  struct Counts {
    std::int64_t preemptions = 0;
    std::int64_t proposed = 0;
    std::int64_t shared_pages = 0;
    std::int64_t evictions = 0;

    Counts& operator+=(const Counts& other) {
      preemptions += other.preemptions;
      proposed += other.proposed;
      shared_pages += other.shared_pages;
      evictions += other.evictions;
      return *this;
    }
  };
  Counts counts() {
    for (const KvPages& pool : pools_) counts_.evictions += pool.evictions();
    return counts_;
  }

 private:
  struct Live {
    ScheduledSequence s;
    std::int32_t priority = 0;
    std::vector<TokenId> tokens;  // known
    PageTable table;
    std::int64_t published = 0;
    std::int64_t new_tokens = 0;
    std::int64_t reached = 0;  // positions that had a row, proposals too
    bool running = false;

    std::span<const TokenId> first(std::int64_t count) const {
      return std::span(tokens).first(static_cast<std::size_t>(count));
    }
  };

  std::int64_t pick(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(high - low + 1));
  }

  // One of three texts up to some place, and then its own way.
  void arrive() {
    --arrivals_;
    const std::int64_t places = pages_ * state_.limits.block;
    Live live;
    live.s.id = ++last_id_;
    live.priority = static_cast<std::int32_t>(pick(0, most_priority_));
    live.s.known = pick(1, std::max<std::int64_t>(1, places / pick(1, 6)));
    live.s.longest = pick(live.s.known, places);
    live.new_tokens = live.s.longest - live.s.known + 1;
    const auto text = static_cast<TokenId>(pick(1, 3));
    const std::int64_t in_common = pick(0, live.s.known);
    for (std::int64_t i = 0; i < live.s.known; ++i) {
      live.tokens.push_back(i < in_common ? text : random_token());
    }
    live_[live.s.id] = live;
  }
  TokenId random_token() { return static_cast<TokenId>(pick(4, 9)); }

  void end(RequestId id) {
    Live& live = live_.at(id);
    if (live.running) pool(live.s).release(live.table);
    live_.erase(id);
  }

  void cancel_one() { end(std::next(live_.begin(), pick(0, std::ssize(live_) - 1))->first); }

  KvPages& pool(const ScheduledSequence& s) {
    return pools_[static_cast<std::size_t>(s.kv_domain)];
  }

  auto place_of(RequestId id) const { return std::tuple(live_.at(id).priority, id); }
  bool before(RequestId a, RequestId b) const { return place_of(a) < place_of(b); }

  void fill_state() {
    state_.free_pages.clear();
    for (KvPages& pages : pools_) {
      state_.free_pages.push_back(pages.free_pages());
      pages.start_counting();
    }
    state_.running.clear();
    state_.waiting.clear();
    state_.hits.clear();
    std::vector<Live*> order;
    for (auto& [id, live] : live_) order.push_back(&live);
    std::ranges::sort(order, {}, [this](const Live* live) { return place_of(live->s.id); });
    for (Live* live : order) {
      live->s.pages = std::ssize(live->table);
      live->s.proposals = proposes_ ? pick(0, std::min<std::int64_t>(live->new_tokens - 1, 9)) : 0;
      if (live->running) {
        live->s.shared = pool(live->s).seen_before(live->table);
        state_.running.push_back(live->s);
        continue;
      }
      state_.waiting.push_back(live->s);
      for (const KvPages& pages : pools_) {
        state_.hits.push_back(pages.find(live->first(live->s.known - 1)));
      }
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
      if (work.admitted) {
        ++users[domain];
        free[domain] -= hit_of(work).free_pages;
      }
      if (work.proposals > 0 && !work.decoding) return "proposals of one who does not decode";
      if (work.proposals > s.proposals) return "more proposals than there are";
      const std::int64_t cached = s.cached + work.shared_pages * state_.limits.block;
      const std::int64_t needed = pages_for(cached + work.rows, state_.limits.block);
      if (work.new_pages > std::max<std::int64_t>(needed - s.pages - work.shared_pages, 0)) {
        grown[domain] = true;
      }
    }
    if (proposals > 0 && rows + proposals > state_.limits.proposal_rows)
      return "too many proposals";
    if (proposals > 0 && !p.preempted.empty()) return "proposals though pages are short";
    for (std::size_t d = 0; d < free.size(); ++d) {
      if (grown[d] && free[d] < users[d]) return "a proposal took a page that somebody needs";
    }
    return "";
  }

  PrefixHit hit_of(const PlannedWork& work) const {
    const auto found = std::ranges::find(state_.waiting, work.id, &ScheduledSequence::id);
    const auto i = static_cast<std::size_t>(found - state_.waiting.begin());
    return state_.hits[i * pools_.size() + static_cast<std::size_t>(work.kv_domain)];
  }

  std::string check(const StepPlan& p) const {
    const SchedulerLimits& limits = state_.limits;
    if (p.work.empty()) return "nothing planned though requests are there";
    std::int64_t rows = 0, prefill_rows = 0;
    std::int64_t users = std::ssize(state_.running) - std::ssize(p.preempted);
    bool prefill_seen = false, admitted_seen = false;
    RequestId last = 0, last_admitted = 0;
    std::map<RequestId, PlannedWork> planned;
    for (const PlannedWork& work : p.work) {
      const Live& live = live_.at(work.id);
      const std::int64_t cached = live.s.cached + work.shared_pages * limits.block;
      if (!planned.emplace(work.id, work).second) return "planned twice";
      if (work.rows < 1 || work.rows > live.s.known - cached) return "rows out of range";
      if (work.decoding && prefill_seen) return "a decode after a prefill";
      if (admitted_seen && !work.admitted) return "an admitted one before a running one";
      if (!work.decoding && !prefill_seen) last = 0;
      if (work.admitted && !admitted_seen) last = 0;
      admitted_seen = admitted_seen || work.admitted;
      prefill_seen = prefill_seen || !work.decoding;
      if (last != 0 && !before(last, work.id)) return "not in order";
      last = work.id;
      if (work.admitted == live.running) return "admitted though running, or the reverse";
      if (work.shared_pages != (work.admitted ? hit_of(work).pages : 0)) return "shared pages";
      if (!work.decoding && limits.prefill_chunk > 0 && work.rows > limits.prefill_chunk) {
        return "chunk too long";
      }
      if (work.reaches_end != (cached + work.rows == live.s.known)) return "reaches_end";
      rows += work.rows + work.proposals;
      if (!work.decoding) prefill_rows += work.rows;
      if (work.admitted) {
        ++users;
        last_admitted = work.id;
      }
    }
    if (rows > limits.max_rows) return "more rows than the budget";
    if (p.work[0].decoding && limits.prefill_rows > 0 && prefill_rows > limits.prefill_rows) {
      return "a decode waits for more prefill than the budget";
    }
    if (users > limits.max_users) return "more users than slots";
    for (const ScheduledSequence& s : state_.waiting) {
      if (last_admitted != 0 && before(s.id, last_admitted) && !planned.contains(s.id)) {
        return "overtaken in the queue";
      }
    }
    const auto taken_away = [&](RequestId id) {
      return std::find(p.preempted.begin(), p.preempted.end(), id) != p.preempted.end();
    };
    for (const ScheduledSequence& s : state_.running) {
      if (taken_away(s.id) && planned.contains(s.id)) return "preempted and planned";
      if (s.decoding() && !taken_away(s.id) && !planned.contains(s.id)) return "a decode waits";
      for (const RequestId gone : p.preempted) {
        if (before(gone, s.id) && s.kv_domain == live_.at(gone).s.kv_domain && !taken_away(s.id)) {
          return "one was preempted before another that is behind it in its domain";
        }
      }
    }
    // No starvation: the first in order moves in every step, be it the first of those that run
    // (with several domains, or when one with a better priority waits for a place).
    RequestId first = state_.running.empty() ? state_.waiting[0].id : state_.running[0].id;
    if (pools_.size() == 1 && most_priority_ == 0) first = live_.begin()->first;
    if (!planned.contains(first)) return "the first in order does not move";
    return "";
  }

  void apply(const StepPlan& p) {
    for (const RequestId id : p.preempted) {
      Live& live = live_.at(id);
      pool(live.s).release(live.table);
      live.running = false;
      live.s.cached = live.published = live.reached = 0;
      live.s.shared = 0;
      ++counts_.preemptions;
    }
    for (const PlannedWork& work : p.work) {
      if (work.admitted) admit(live_.at(work.id), work);
    }
    for (const PlannedWork& work : p.work) {
      Live& live = live_.at(work.id);
      if (!pool(live.s).allocate(work.new_pages, live.table)) {
        failure_ = "more pages planned than free";
        return;
      }
    }
    for (const PlannedWork& work : p.work) run_rows(live_.at(work.id), work);
  }

  void admit(Live& live, const PlannedWork& work) {
    live.running = true;
    live.s.kv_domain = work.kv_domain;
    pool(live.s).share(live.first(live.s.known - 1), work.shared_pages, live.table);
    live.published = work.shared_pages;
    live.s.cached = live.reached = work.shared_pages * state_.limits.block;
    counts_.shared_pages += work.shared_pages;
    for (std::int64_t i = 0; i < work.shared_pages; ++i) {
      const auto text = live.first((i + 1) * state_.limits.block);
      if (!std::ranges::equal(text_of(live, i), text)) failure_ = "a shared page holds other text";
    }
  }

  void run_rows(Live& live, const PlannedWork& work) {
    const std::int64_t block = state_.limits.block;
    const std::int64_t first_written = live.s.cached / block;
    live.s.cached += work.rows;
    // The pages of proposals that came to nothing stay for the tokens that will.
    const std::int64_t held = std::ssize(live.table);
    const std::int64_t now = live.s.cached + work.proposals;
    live.reached = std::max(live.reached, now);
    if (held < pages_for(now, block) || held > pages_for(live.reached, block)) {
      failure_ = "not just the pages that the rows need";
      return;
    }
    if (work.reaches_end) {
      const std::int64_t accepted = pick(0, work.proposals);
      counts_.proposed += work.proposals;
      for (std::int64_t i = 0; i <= accepted; ++i) live.tokens.push_back(random_token());
      live.s.cached += accepted;
      live.s.known += accepted + 1;
      live.new_tokens -= accepted + 1;
    }
    for (std::int64_t i = first_written; i < pages_for(live.s.cached, block); ++i) {
      const auto text = live.first(std::min((i + 1) * block, live.s.cached));
      text_of(live, i).assign(text.begin(), text.end());
    }
    live.published = pool(live.s).publish(live.first(live.s.cached), live.published, live.table);
    if (work.reaches_end && (live.new_tokens == 0 || pick(0, 20) == 0)) end(work.id);
  }

  // All that was ever written up to the end of a sequence's i-th page.
  std::vector<TokenId>& text_of(const Live& live, std::int64_t i) {
    return texts_[static_cast<std::size_t>(live.s.kv_domain * pages_ +
                                           live.table[static_cast<std::size_t>(i)])];
  }

  // Every page is free or in a table, and what a table says its pages hold is what they hold.
  void check_pages() {
    std::set<std::tuple<std::int32_t, PageId>> taken;
    for (auto& [id, live] : live_) {
      for (std::int64_t i = 0; i < std::ssize(live.table); ++i) {
        const bool is_new =
            taken.emplace(live.s.kv_domain, live.table[static_cast<std::size_t>(i)]).second;
        const std::int64_t end = std::min((i + 1) * state_.limits.block, live.s.cached);
        if (end <= i * state_.limits.block) continue;
        if (!is_new && end % state_.limits.block != 0) failure_ = "a page in work is shared";
        if (!std::ranges::equal(text_of(live, i), live.first(end))) {
          failure_ = "a page holds other text";
        }
      }
    }
    std::int64_t free = 0;
    for (const KvPages& pages : pools_) free += pages.free_pages();
    if (free + std::ssize(taken) != pages_ * std::ssize(pools_)) failure_ = "pages lost";
  }

  std::mt19937_64 random_;
  SchedulerState state_;
  std::vector<KvPages> pools_;
  std::vector<std::vector<TokenId>> texts_;  // [domain, page]
  std::int64_t pages_ = 0;
  std::int64_t arrivals_ = 0;
  RequestId last_id_ = 0;
  Counts counts_;
  bool proposes_ = false;
  std::int32_t most_priority_ = 0;
  std::map<RequestId, Live> live_;
  std::string failure_;
};

TEST(SchedulerTraces, TenThousand) {
  Trace::Counts sum;
  for (std::uint64_t seed = 0; seed < 10000; ++seed) {
    Trace trace(seed);
    ASSERT_EQ(trace.run(), "") << "seed " << seed;
    sum += trace.counts();
  }
  // The pools were small enough to matter, and the beginnings common enough.
  EXPECT_GT(sum.proposed, 10000);
  EXPECT_GT(sum.preemptions, 10000);
  EXPECT_GT(sum.shared_pages, 10000);
  EXPECT_GT(sum.evictions, 10000);
}

}  // namespace
}  // namespace tg
