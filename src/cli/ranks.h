// What: whether this process is one rank of several, as an MPI launcher says it in the environment,
//   and joining the others. A process that no launcher started never touches MPI.
// Who owns: the command owns the transport. Thread: the main thread.
#pragma once

#include "base/result.h"
#include "cli/model_options.h"

namespace tg {

struct LaunchedAs {
  int rank = 0;
  int ranks = 0;        // 0: by no launcher
  int local_ranks = 0;  // on this host; 0: unknown
  int local_rank = -1;  // among these; -1: unknown
};

// Reads the variables of Open MPI, of MPICH and its relatives (PMI).
LaunchedAs launched_as(const Environment& environment);

// CPUs that a rank's threads take when nothing is said: its share of those that the launcher has,
// but no more than the launcher lets it use (Open MPI binds ranks to cores or sockets by default).
int cpus_of_rank(int own, int of_launcher, int local_ranks);
// Which CPUs this process has, and which its launcher where there is one.
CpuPlace cpu_place(const LaunchedAs& launched);

// For commands of one process: kBadArgument under a launcher with several ranks.
Status needs_one_process(const char* command);

// Under a launcher starts MPI and sets the transport; else does nothing. Ranks other than 0 write
// no more to stdout and log errors only. The transport stays in `options` too: a rank that is
// refused later has said so by the time its transport goes away and ends the job. kBadArgument when
// the mesh cannot be shared so.
Status join_ranks(ModelOptions& options, RunSettings& settings);

}  // namespace tg
