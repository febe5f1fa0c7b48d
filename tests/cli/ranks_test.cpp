// What a launcher says in the environment.
#include "cli/ranks.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace tg {
namespace {

LaunchedAs launched(const std::map<std::string, std::string>& variables) {
  return launched_as([&variables](const char* name) {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  });
}

void expect(const LaunchedAs& launched, int rank, int ranks, int local_ranks) {
  EXPECT_EQ(launched.rank, rank);
  EXPECT_EQ(launched.ranks, ranks);
  EXPECT_EQ(launched.local_ranks, local_ranks);
}

TEST(LaunchedAs, ByNobody) { expect(launched({}), 0, 0, 0); }

TEST(LaunchedAs, ByOpenMpi) {
  expect(launched({{"OMPI_COMM_WORLD_SIZE", "8"},
                   {"OMPI_COMM_WORLD_RANK", "5"},
                   {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}),
         5, 8, 2);
  expect(launched({{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}}), 0, 1, 0);
}

TEST(LaunchedAs, ByMpichAndItsRelatives) {
  expect(launched({{"PMI_SIZE", "32"}, {"PMI_RANK", "31"}, {"MPI_LOCALNRANKS", "4"}}), 31, 32, 4);
  expect(launched({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}}), 1, 2, 0);
}

// A job of Open MPI inside of an allocation that has the other variables, too.
TEST(LaunchedAs, OpenMpiComesFirst) {
  expect(launched({{"OMPI_COMM_WORLD_SIZE", "4"},
                   {"OMPI_COMM_WORLD_RANK", "3"},
                   {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                   {"PMI_SIZE", "1"},
                   {"PMI_RANK", "0"},
                   {"MPI_LOCALNRANKS", "1"}}),
         3, 4, 4);
}

TEST(LaunchedAs, RubbishIsNoLauncher) {
  for (const char* rubbish : {"", "x", "4x", " 4", "4 ", "4.0", "0x4", "99999999999999999999"}) {
    SCOPED_TRACE(rubbish);
    expect(launched({{"OMPI_COMM_WORLD_SIZE", rubbish}, {"PMI_SIZE", rubbish}}), 0, 0, 0);
    // What can be read counts.
    expect(launched({{"OMPI_COMM_WORLD_SIZE", rubbish}, {"PMI_SIZE", "2"}, {"PMI_RANK", "1"}}), 1,
           2, 0);
  }
}

// No launcher counts like that: not taken for one, rather than refused or worse.
TEST(LaunchedAs, NegativeNumbersAreNoLauncher) {
  expect(launched({{"OMPI_COMM_WORLD_SIZE", "-4"},
                   {"OMPI_COMM_WORLD_RANK", "-1"},
                   {"OMPI_COMM_WORLD_LOCAL_SIZE", "-2"}}),
         0, 0, 0);
}

}  // namespace
}  // namespace tg
