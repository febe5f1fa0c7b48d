// How many threads and on which CPUs: by default, as asked, in containers and as ranks.
#include "cli/thread_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/cpus.h"
#include "program.h"

namespace tg {
namespace {

std::vector<int> first_cpus(int count) {
  std::vector<int> cpus(static_cast<std::size_t>(count));
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

CpuPlace alone(int cpus) {
  CpuPlace place;
  place.own = first_cpus(cpus);
  place.usable = place.cores = cpus;
  return place;
}

CpuPlace rank_of(int rank, int ranks, int cpus) {
  CpuPlace place = alone(cpus);
  place.launcher = place.own;
  place.local_ranks = ranks;
  place.local_rank = rank;
  return place;
}

ThreadSettings settings(const ThreadOptions& options, const CpuPlace& place) {
  const auto result = thread_settings(options, place);
  EXPECT_TRUE(result) << result.error().text();
  return result.value_or(ThreadSettings{});
}

std::string refusal(const ThreadOptions& options, const CpuPlace& place) {
  const auto result = thread_settings(options, place);
  EXPECT_FALSE(result);
  return result ? "" : result.error().text();
}

TEST(ThreadOptions, OnePerCoreByDefault) {
  EXPECT_EQ(settings({}, alone(8)).threads, 8);
  EXPECT_TRUE(settings({}, alone(8)).cpus.empty());
  CpuPlace place = alone(16);
  place.cores = 8;  // two CPUs each
  EXPECT_EQ(settings({}, place).threads, 8);
  EXPECT_EQ(settings({12}, place).threads, 12);
  place.usable = 3;  // a container's quota
  EXPECT_EQ(settings({}, place).threads, 3);
  EXPECT_EQ(settings({12}, place).threads, 3);  // cut, with a warning
}

TEST(ThreadOptions, RanksShareWhatTheirLauncherHas) {
  EXPECT_EQ(settings({}, rank_of(1, 4, 8)).threads, 2);
  CpuPlace place = rank_of(1, 4, 16);
  place.cores = 8;
  EXPECT_EQ(settings({}, place).threads, 2);
  place.usable = 4;  // the quota of all four
  EXPECT_EQ(settings({}, place).threads, 1);
  place = rank_of(0, 2, 16);
  place.own = {5};  // bound to a core
  place.usable = place.cores = 1;
  EXPECT_EQ(settings({}, place).threads, 1);
}

TEST(ThreadOptions, AListIsTakenInItsOrder) {
  EXPECT_EQ(settings({{}, "3,1"}, alone(4)).cpus, (std::vector<int>{3, 1}));
  EXPECT_EQ(settings({{}, "3,1"}, alone(4)).threads, 2);
  EXPECT_EQ(settings({1, "3,1"}, alone(4)).cpus, std::vector<int>{3});
  EXPECT_EQ(refusal({{}, "0,7-9"}, alone(8)),
            "--affinity 0,7-9: CPU 8 is not among the 8 that this process may use: 0-7");
  EXPECT_EQ(refusal({4, "0,1"}, alone(8)), "--affinity 0,1: 4 threads need as many CPUs, it has 2");
  EXPECT_THAT(refusal({{}, "some"}, alone(8)), testing::HasSubstr("--affinity: \"some\""));
}

TEST(ThreadOptions, RanksTakeTheirPart) {
  EXPECT_EQ(settings({2, "0-7"}, rank_of(0, 4, 8)).cpus, (std::vector<int>{0, 1}));
  EXPECT_EQ(settings({2, "0-7"}, rank_of(3, 4, 8)).cpus, (std::vector<int>{6, 7}));
  EXPECT_EQ(settings({{}, "0-7"}, rank_of(3, 4, 8)).cpus, (std::vector<int>{6, 7}));
  EXPECT_EQ(refusal({3, "0-7"}, rank_of(3, 4, 8)),
            "--affinity 0-7: 4 ranks of 3 threads need as many CPUs, it has 8");
  EXPECT_THAT(refusal({2, "0-7"}, rank_of(-1, 4, 8)), testing::HasSubstr("does not say"));

  EXPECT_EQ(settings({1, "cores"}, rank_of(1, 2, 2)).cpus.size(), 1U);
  EXPECT_NE(settings({1, "cores"}, rank_of(1, 2, 2)).cpus,
            settings({1, "cores"}, rank_of(0, 2, 2)).cpus);
  CpuPlace bound = rank_of(1, 2, 16);
  bound.own = {6, 7};
  bound.usable = bound.cores = 2;
  EXPECT_EQ(settings({2, "cores"}, bound).cpus.size(), 2U);
  EXPECT_THAT(refusal({1, "cores"}, bound),
              testing::HasSubstr("binds this rank of 1 threads to 2 of 16 CPUs"));
}

TEST(ThreadOptions, CoresOfThisMachine) {
  CpuPlace place;
  place.own = allowed_cpus();
  place.usable = available_cpus();
  place.cores = physical_cores(place.own);
  const ThreadSettings chosen = settings({{}, "cores"}, place);
  EXPECT_EQ(chosen.threads, static_cast<int>(chosen.cpus.size()));
  EXPECT_EQ(physical_cores(chosen.cpus), chosen.threads);
}

TEST(ThreadOptions, AsAUserMeetsThem) {
  const test::ProgramFolder folder("affinity");
  const std::string model = "--model '" + test::golden("tiny/hf") + "' ";
  const std::string cpu = std::to_string(allowed_cpus().front());
  const test::Outcome inspect = folder.run("inspect " + model + "--affinity " + cpu);
  EXPECT_TRUE(test::contains(inspect.out, "with 1 threads on CPUs " + cpu)) << inspect.out;
  const std::string generate = "generate " + model + "--prompt-ids 1,2 --max-generated-tokens 4 ";
  const test::Outcome free = folder.run(generate);
  const test::Outcome bound = folder.run(generate + "--affinity cores");
  EXPECT_EQ(bound.status, 0) << bound.err;
  EXPECT_EQ(bound.out, free.out);
  test::expect_refusal(folder.run(generate + "--affinity 0-16000"), {"--affinity", "may use"});
}

}  // namespace
}  // namespace tg
