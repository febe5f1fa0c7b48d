#include "cli/thread_options.h"

#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <span>

#include "base/cpus.h"
#include "cli/number_option.h"
#include "cli/ranks.h"

namespace tg {
namespace {

int size_of(const std::vector<int>& cpus) { return static_cast<int>(cpus.size()); }

int default_threads(const CpuPlace& place) {
  if (place.launcher.empty()) return std::max(1, std::min(place.usable, place.cores));
  // A quota is one for all ranks of the container.
  const bool quota = place.usable < size_of(place.own);
  const int all = quota ? std::min(place.usable, size_of(place.launcher)) : size_of(place.launcher);
  const int share = cpus_of_rank(place.usable, all, place.local_ranks);
  return std::max(1, share * place.cores / std::max(1, size_of(place.own)));
}

void warn_of_binding(const CpuPlace& place) {
  const int share = size_of(place.launcher) / place.local_ranks;
  if (place.launcher.empty() || !place.first || size_of(place.own) >= share) return;
  spdlog::warn(
      "the launcher binds this rank to {} of {} CPUs for {} rank{}: mpirun --bind-to none gives it "
      "more",
      place.own.size(), place.launcher.size(), place.local_ranks,
      place.local_ranks == 1 ? "" : "s");
}

// This rank's part of CPUs that all ranks of the host share.
Result<std::vector<int>> part_of(const std::vector<int>& cpus, int threads, const CpuPlace& place,
                                 const std::string& affinity) {
  if (place.local_rank < 0) {
    return error(ErrorCode::kUnsupported,
                 "--affinity {}: the launcher does not say which of the {} ranks of this host this "
                 "one is",
                 affinity, place.local_ranks);
  }
  if (threads * place.local_ranks > size_of(cpus)) {
    return error(ErrorCode::kBadArgument,
                 "--affinity {}: {}{} thread{} need as many CPUs, it has {}", affinity,
                 place.local_ranks > 1 ? fmt::format("{} ranks of ", place.local_ranks) : "",
                 threads, threads == 1 ? "" : "s", cpus.size());
  }
  const auto first = cpus.begin() + place.local_rank * threads;
  return std::vector<int>(first, first + threads);
}

Result<std::vector<int>> listed_cpus(const std::string& affinity, const CpuPlace& place) {
  auto cpus = parse_cpu_list(affinity);
  if (!cpus) return at_place(std::move(cpus).error(), "--affinity");
  for (const int cpu : *cpus) {
    if (std::find(place.own.begin(), place.own.end(), cpu) != place.own.end()) continue;
    return error(ErrorCode::kBadArgument,
                 "--affinity {}: CPU {} is not among the {} that this "
                 "process may use: {}",
                 affinity, cpu, place.own.size(), cpus_text(place.own));
  }
  return cpus;
}

// All that this rank may use: bound to just these by its launcher they are its own, unbound it
// takes its part of them. Bound to a socket it may share them with other ranks, and nobody says
// which.
Result<std::vector<int>> cores(int threads, const CpuPlace& place) {
  std::vector<int> ordered = core_by_core(place.own);
  const bool unbound = place.launcher.empty() || place.own.size() == place.launcher.size();
  if (unbound) return part_of(ordered, threads, place, "cores");
  if (threads == size_of(ordered)) return ordered;
  return error(
      ErrorCode::kBadArgument,
      "--affinity cores: the launcher binds this rank of {} threads to {} of {} CPUs, which "
      "other ranks may use as well; mpirun --bind-to none leaves the binding to it",
      threads, place.own.size(), place.launcher.size());
}

}  // namespace

void add_thread_options(CLI::App& app, ThreadOptions& options) {
  add_whole_number(app, "--threads",
                   "threads; default: one per core that this process may use (its CPU mask and the "
                   "container's quota count)",
                   1, 4096, "",
                   [&options](std::int64_t n) { options.threads = static_cast<int>(n); });
  app.add_option(
         "--affinity", options.affinity,
         "where the threads stay. none: where the system likes; cores: each on a core of "
         "its own; or CPUs in the order of the threads: 0,2,4-7 (without --threads as many)")
      ->capture_default_str();
}

Result<ThreadSettings> thread_settings(const ThreadOptions& options, const CpuPlace& place) {
  ThreadSettings settings;
  std::vector<int> listed;
  const bool has_list = options.affinity != "none" && options.affinity != "cores";
  if (has_list) {
    TG_ASSIGN(listed, listed_cpus(options.affinity, place));
  }
  const int otherwise =
      has_list
          ? std::max(1, std::min(size_of(listed) / place.local_ranks, std::max(1, place.usable)))
          : default_threads(place);
  settings.threads = options.threads.value_or(otherwise);
  if (settings.threads > place.usable) {
    spdlog::warn("--threads {}: this process may use {} CPU{}, so {} is taken{}", settings.threads,
                 place.usable, place.usable == 1 ? "" : "s", place.usable,
                 place.launcher.size() > place.own.size()
                     ? " (mpirun --bind-to none gives a rank more)"
                     : "");
    settings.threads = place.usable;
  } else if (!options.threads && !has_list) {
    warn_of_binding(place);
  }
  if (has_list) {
    TG_ASSIGN(settings.cpus, part_of(listed, settings.threads, place, options.affinity));
  } else if (options.affinity == "cores") {
    TG_ASSIGN(settings.cpus, cores(settings.threads, place));
  }
  return settings;
}

}  // namespace tg
