#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

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

TEST(Scheduler, PrioritiesAreTheOrderOfTheLists) {
  SchedulerState state = state_of(4, 512, 0, 0);
  // As the engine lists them: 5 comes first though it came last.
  state.running = {running(5, 16, 17), running(1, 16, 17), running(2, 10, 11)};
  const StepPlan p = plan(state);
  EXPECT_EQ(p.preempted, (std::vector<RequestId>{2, 1}));
  ASSERT_EQ(p.work.size(), 1U);
  EXPECT_EQ(p.work[0].id, 5U);
}

TEST(Scheduler, WhoDecodesWaitsForNoMorePrefillThanTheBudget) {
  SchedulerState state = state_of(8, 512, 64, 100);
  state.limits.prefill_rows = 80;
  state.running = {running(1, 16, 200), running(2, 16, 200), running(3, 20, 21)};
  state.waiting = {waiting(4, 30)};
  StepPlan p = plan(state);
  ASSERT_EQ(p.work.size(), 3U);
  EXPECT_EQ(p.work[0].id, 3U);
  EXPECT_EQ(p.work[1].rows, 64);
  EXPECT_EQ(p.work[2].rows, 16);
  state.running.pop_back();  // nobody decodes: nobody waits
  p = plan(state);
  ASSERT_EQ(p.work.size(), 3U);
  EXPECT_EQ(p.work[1].rows, 64);
  EXPECT_EQ(p.work[2].rows, 30);
}

TEST(Scheduler, WhatThePrefixCacheHasNeedsNoRowsAndNoNewPages) {
  SchedulerState state = state_of(8, 512, 0, 4);
  state.running = {running(1, 5, 6)};
  state.waiting = {waiting(2, 100)};  // seven pages, and 1 may need one more
  EXPECT_EQ(plan(state).work.size(), 1U);
  state.hits = {{.pages = 4, .free_pages = 0}};
  StepPlan p = plan(state);
  ASSERT_EQ(p.work.size(), 2U);
  EXPECT_EQ(p.work[1].shared_pages, 4);
  EXPECT_EQ(p.work[1].new_pages, 3);
  EXPECT_EQ(p.work[1].rows, 36);
  EXPECT_TRUE(p.work[1].reaches_end);
  state.hits = {{.pages = 4, .free_pages = 1}};  // which counts as one of the four
  EXPECT_EQ(plan(state).work.size(), 1U);
  state.waiting[0].known = 65;  // one row is left: still a prompt, not a decode
  state.free_pages = {6};
  p = plan(state);
  ASSERT_EQ(p.work.size(), 2U);
  EXPECT_EQ(p.work[1].rows, 1);
  EXPECT_FALSE(p.work[1].decoding);
  EXPECT_TRUE(p.work[1].admitted);
}

TEST(Scheduler, APrefixDrawsUsersToItsDomainUntilThatIsFuller) {
  SchedulerState state = state_of(8, 512, 0, 0);
  state.waiting = {waiting(1, 100)};
  state.hits = {{}, {.pages = 3, .free_pages = 3}};
  state.free_pages = {12, 10};
  EXPECT_EQ(plan(state).work[0].kv_domain, 1);
  state.free_pages = {13, 10};  // equal: the first
  EXPECT_EQ(plan(state).work[0].kv_domain, 0);
  state.free_pages = {8, 6};  // no room there
  EXPECT_EQ(plan(state).work[0].kv_domain, 0);
  state.hits[1].free_pages = 0;
  EXPECT_EQ(plan(state).work[0].kv_domain, 1);
}

TEST(Scheduler, ThePreemptedGiveWhatNobodyElseHolds) {
  SchedulerState state = state_of(8, 512, 0, 0);
  state.running = {running(1, 32, 33), running(2, 40, 41), running(3, 40, 41), running(4, 7, 8)};
  state.running[2].shared = 2;  // with 2
  state.running[3].pages = 0;
  StepPlan p = plan(state);
  EXPECT_EQ(p.preempted, (std::vector<RequestId>{4, 3}));
  ASSERT_EQ(p.work.size(), 2U);  // the one page of 3 alone is 1's, 2 has a place
  state.running[2].shared = 3;
  p = plan(state);
  EXPECT_EQ(p.preempted, (std::vector<RequestId>{4, 3, 2}));
  ASSERT_EQ(p.work.size(), 1U);
}

}  // namespace
}  // namespace tg
