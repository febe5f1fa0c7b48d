#include "cli/ranks.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "base/cpus.h"
#include "mesh/mpi_transport.h"

namespace tg {
namespace {

// The first of the variables that holds a number from 0 on; else `otherwise`.
int number_of(const Environment& environment, std::initializer_list<const char*> variables,
              int otherwise = 0) {
  for (const char* variable : variables) {
    const char* value = environment(variable);
    if (value == nullptr) continue;
    const std::string_view text = value;
    int number = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failure == std::errc() && end == text.data() + text.size() && number >= 0) {
      return number;
    }
  }
  return otherwise;
}

void silence_stdout() {
  std::fflush(stdout);
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere < 0) return;
  ::dup2(nowhere, STDOUT_FILENO);
  ::close(nowhere);
}

}  // namespace

LaunchedAs launched_as(const Environment& environment) {
  LaunchedAs launched;
  launched.ranks = number_of(environment, {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"});
  launched.rank = number_of(environment, {"OMPI_COMM_WORLD_RANK", "PMI_RANK"});
  launched.local_ranks = number_of(environment, {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"});
  launched.local_rank =
      number_of(environment, {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"}, -1);
  return launched;
}

int cpus_of_rank(int own, int of_launcher, int local_ranks) {
  const int all = of_launcher > 0 ? of_launcher : own;
  return std::max(1, std::min(own, all / std::max(1, local_ranks)));
}

CpuPlace cpu_place(const LaunchedAs& launched) {
  CpuPlace place;
  place.own = allowed_cpus();
  place.usable = available_cpus();
  place.cores = physical_cores(place.own);
  place.local_ranks = std::max(1, launched.local_ranks);
  place.local_rank = place.local_ranks == 1 ? 0 : launched.local_rank;
  place.first = launched.rank == 0;
  if (launched.ranks > 0) {
    place.launcher = allowed_cpus(::getppid());
    if (place.launcher.empty()) place.launcher = place.own;
  }
  return place;
}

Status needs_one_process(const char* command) {
  const LaunchedAs launched = launched_as([](const char* n) { return std::getenv(n); });
  if (launched.ranks <= 1) return {};
  return error(ErrorCode::kBadArgument, "{} runs in one process, not in {} ranks", command,
               launched.ranks);
}

Status join_ranks(ModelOptions& options, RunSettings& settings) {
  const LaunchedAs launched = launched_as([](const char* n) { return std::getenv(n); });
  if (launched.ranks == 0) return {};
  TG_ASSIGN(const RankGrid grid, share_mesh(settings.mesh.shape, launched.ranks));
  MpiOptions mpi;
  mpi.watchdog_s = settings.mesh.watchdog_s;
  mpi.place_of = [grid](int rank, int) { return text(grid.block(rank)); };
  TG_ASSIGN(std::unique_ptr<Transport> transport, start_mpi(mpi));
  if (transport->rank() != 0) {
    silence_stdout();
    spdlog::set_level(spdlog::level::err);
  }
  options.transport = std::move(transport);
  settings.transport = options.transport;
  return {};
}

}  // namespace tg
