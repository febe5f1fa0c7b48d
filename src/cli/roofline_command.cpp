// llama-tg roofline: the ceilings of this machine, beside which every other figure is a share.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/thread_team.h"
#include "cli/commands.h"
#include "cli/load_average.h"
#include "cli/number_option.h"
#include "cli/print.h"
#include "cli/ranks.h"
#include "cli/write_file.h"
#include "kernels/ceilings.h"

namespace tg {
namespace {

struct RooflineOptions {
  std::optional<std::int64_t> threads;
  std::int64_t read_mib = 1024;
  double seconds = 0.3;
  std::string output;
};

void print_line(std::string_view what, std::string_view unit, const RateSpread& rate) {
  print_out("{:34} {:>8.1f} {:>8.1f} {}\n", what, rate.median / 1e9, rate.best / 1e9, unit);
}

Result<int> run(const RooflineOptions& o) {
  TG_RETURN_IF_ERROR(needs_one_process("roofline"));
  const int threads = static_cast<int>(o.threads.value_or(available_cpus()));
  if (threads > available_cpus()) {
    spdlog::warn("--threads {}: this process may use {} CPUs", threads, available_cpus());
  }
  ThreadTeam team(threads);
  nlohmann::ordered_json json = {{"threads", threads},
                                 {"load_average", load_average()},
                                 {"arithmetic", nlohmann::json::array()}};
  print_out("{} threads, load average {:.2f}\n{:34} {:>8} {:>8}\n", threads, load_average(), "",
            "median", "best");
  for (const Ceiling& ceiling : available_ceilings()) {
    const RateSpread rate = measure(ceiling, team, o.seconds);
    const bool integers = ceiling.operands == "int8";
    print_line(fmt::format("{}  {}", ceiling.operands, ceiling.name),
               integers ? "GOP/s" : "GFLOP/s", rate);
    json["arithmetic"].push_back({{"instruction", ceiling.name},
                                  {"operands", ceiling.operands},
                                  {"median_per_s", rate.median},
                                  {"best_per_s", rate.best}});
  }
  TG_ASSIGN(ReadSpeed reads, ReadSpeed::create(static_cast<std::size_t>(o.read_mib) << 20, team));
  reads.choose_pattern(team);
  const RateSpread rate = reads.measure(team, o.seconds);
  print_line("memory read", "GB/s", rate);
  print_out("  of {} MiB: {}\n", o.read_mib, reads.pattern().text());
  json["memory_read"] = {{"mib", o.read_mib},
                         {"pattern", reads.pattern().text()},
                         {"median_bytes_per_s", rate.median},
                         {"best_bytes_per_s", rate.best}};
  if (o.output.empty()) return 0;
  const Status written = write_whole_file(o.output, json.dump(2) + "\n");
  if (!written) return at_place(written.error(), o.output);
  return 0;
}

}  // namespace

void add_roofline_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<RooflineOptions>();
  CLI::App* app = program.add_subcommand(
      "roofline", "the ceilings of this machine: multiplications and memory reads per second");
  add_whole_number(*app, "--threads", "threads; default: one per CPU of this process", 1, 4096,
                   o->threads);
  add_whole_number(*app, "--read-mib", "memory to read, in all; more than the caches hold", 1,
                   std::int64_t{1} << 20, o->read_mib);
  add_fraction(*app, "--seconds", "of each measurement", 0.01, 60.0, o->seconds);
  app->add_option("--output", o->output, "write the same to this JSON file");
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
