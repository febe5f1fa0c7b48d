// What: --threads and --affinity: how many threads a run has and which CPUs they stay on, for a
//   process of its own or one of several ranks on a host.
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;  // not the header: it takes seconds to compile
}

namespace tg {

struct ThreadOptions {
  std::optional<int> threads;     // none: one per core that this process may use
  std::string affinity = "none";  // "none", "cores" or a list of CPUs
};

void add_thread_options(CLI::App& app, ThreadOptions& options);

// Where the process is. launcher: empty without one.
struct CpuPlace {
  std::vector<int> own;       // its mask
  std::vector<int> launcher;  // that of the process which started it as a rank
  int usable = 1;             // available_cpus(): its mask and the container's quota
  int cores = 1;              // behind `own`
  int local_ranks = 1;
  int local_rank = 0;  // < 0: the launcher does not say
  bool first = true;   // of all ranks: who warns
};

struct ThreadSettings {
  int threads = 1;
  std::vector<int> cpus;  // one for each thread; empty: where the system likes
};

// Ranks that share their launcher's CPUs take a part of these, or of a list, each in turn. More
// threads than CPUs are cut to the CPUs with one warning. kBadArgument with the numbers: a list
// with CPUs that the process may not use, or too few CPUs for the threads (of all ranks here).
Result<ThreadSettings> thread_settings(const ThreadOptions& options, const CpuPlace& place);

}  // namespace tg
