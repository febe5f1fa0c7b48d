// What: the CPUs that this process may use, as the kernel, the container's mask and its quota of
// time
//   have it; which of them share a core; and binding a thread to one.
// Who owns: plain values. Thread: any; binding is of the calling thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tg {

// The CPUs of the calling thread's mask (taskset, cpusets, a launcher's binding), ascending; or of
// another process's. Empty when the system does not say.
std::vector<int> allowed_cpus(int process = 0);

// CPUs whose time this process may use at once: its mask, or the cgroup's quota if that is less
// (rounded down, since threads beyond it would take turns being stopped); at least 1.
int available_cpus();

// How many cores are behind so many of the CPUs, at least 1: two CPUs of one core share its
// arithmetic and its caches, so a second thread there brings little.
int physical_cores(std::span<const int> cpus);

// The same CPUs, first one of every core, then the second ones.
std::vector<int> core_by_core(std::span<const int> cpus);

// "0,2,4-7" in its order. kBadArgument: no such list, or a CPU twice.
Result<std::vector<int>> parse_cpu_list(std::string_view text);

// "0-3, 8": for people.
std::string cpus_text(std::span<const int> cpus);

// The quota of a cgroup in CPUs, of the text of version 2's cpu.max ("200000 100000") or of both
// files of version 1 joined so; 0: none.
double quota_of(const std::string& text);

// The calling thread runs on these alone from now on; false when the kernel refuses (the mask has
// changed meanwhile).
bool run_on(std::span<const int> cpus);

}  // namespace tg
