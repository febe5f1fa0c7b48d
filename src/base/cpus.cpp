#include "base/cpus.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

namespace tg {
namespace {

// The kernel refuses a mask that is shorter than its own, which may be longer than one cpu_set_t.
constexpr std::size_t kSets = 16;
constexpr int kMostCpus = static_cast<int>(kSets) * CPU_SETSIZE;
using Mask = std::array<cpu_set_t, kSets>;

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

double cgroup_quota() {
  const std::string second = first_line("/sys/fs/cgroup/cpu.max");
  if (!second.empty()) return quota_of(second);
  const std::string folder = "/sys/fs/cgroup/cpu/cpu.cfs_";
  return quota_of(first_line(folder + "quota_us") + " " + first_line(folder + "period_us"));
}

// What is the same of two CPUs of one core only; of its own for each where nothing is said.
std::string core_of(int cpu) {
  const std::string folder = fmt::format("/sys/devices/system/cpu/cpu{}/topology/", cpu);
  std::string siblings = first_line(folder + "core_cpus_list");
  if (siblings.empty()) siblings = first_line(folder + "thread_siblings_list");
  return siblings.empty() ? fmt::format("cpu {}", cpu) : siblings;
}

bool number_in(std::string_view& text, int& number) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || number < 0 || number >= kMostCpus) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

}  // namespace

std::vector<int> allowed_cpus(int process) {
  Mask mask{};
  std::vector<int> cpus;
  if (::sched_getaffinity(process, sizeof(mask), mask.data()) != 0) return cpus;
  for (int cpu = 0; cpu < kMostCpus; ++cpu) {
    if (CPU_ISSET_S(static_cast<std::size_t>(cpu), sizeof(mask), mask.data())) cpus.push_back(cpu);
  }
  return cpus;
}

int available_cpus() {
  int cpus = std::max(1, static_cast<int>(allowed_cpus().size()));
  const double quota = cgroup_quota();
  if (quota > 0.0 && quota < cpus) cpus = std::max(1, static_cast<int>(quota));
  return cpus;
}

int physical_cores(std::span<const int> cpus) {
  std::vector<std::string> cores;
  cores.reserve(cpus.size());
  for (const int cpu : cpus) cores.push_back(core_of(cpu));
  std::sort(cores.begin(), cores.end());
  return std::max(1, static_cast<int>(std::unique(cores.begin(), cores.end()) - cores.begin()));
}

std::vector<int> core_by_core(std::span<const int> cpus) {
  std::map<std::string, int> seen;
  std::vector<std::pair<int, int>> ordered;  // which of its core, CPU
  for (const int cpu : cpus) ordered.emplace_back(seen[core_of(cpu)]++, cpu);
  std::sort(ordered.begin(), ordered.end());
  std::vector<int> result;
  result.reserve(ordered.size());
  for (const auto& [place, cpu] : ordered) result.push_back(cpu);
  return result;
}

Result<std::vector<int>> parse_cpu_list(std::string_view text) {
  std::vector<int> cpus;
  std::string_view rest = text;
  for (;;) {
    int first = 0;
    if (!number_in(rest, first)) break;
    int last = first;
    if (rest.starts_with('-')) {
      rest.remove_prefix(1);
      if (!number_in(rest, last) || last < first) break;
    }
    for (int cpu = first; cpu <= last; ++cpu) {
      if (std::find(cpus.begin(), cpus.end(), cpu) != cpus.end()) {
        return error(ErrorCode::kBadArgument, "CPU {} is twice in the list", cpu);
      }
      cpus.push_back(cpu);
    }
    if (rest.empty()) return cpus;
    if (!rest.starts_with(',')) break;
    rest.remove_prefix(1);
  }
  return error(ErrorCode::kBadArgument, "\"{}\" is no list of CPUs below {}, such as 0,2,4-7", text,
               kMostCpus);
}

std::string cpus_text(std::span<const int> cpus) {
  std::string text;
  for (std::size_t i = 0; i < cpus.size();) {
    std::size_t end = i + 1;
    while (end < cpus.size() && cpus[end] == cpus[end - 1] + 1) ++end;
    if (!text.empty()) text += ", ";
    text += fmt::format("{}", cpus[i]);
    if (end - i > 1) text += fmt::format("{}{}", end - i > 2 ? "-" : ", ", cpus[end - 1]);
    i = end;
  }
  return text;
}

double quota_of(const std::string& text) {
  std::istringstream in(text);
  double quota = 0.0;
  double period = 0.0;
  if (!(in >> quota >> period) || quota <= 0.0 || period <= 0.0) return 0.0;  // "max 100000", "-1"
  return quota / period;
}

bool run_on(std::span<const int> cpus) {
  Mask mask{};
  for (const int cpu : cpus) {
    CPU_SET_S(static_cast<std::size_t>(cpu), sizeof(mask), mask.data());
  }
  return ::sched_setaffinity(0, sizeof(mask), mask.data()) == 0;
}

}  // namespace tg
