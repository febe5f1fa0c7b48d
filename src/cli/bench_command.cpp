// llama-tg bench: the engine's speed in decode and prefill, as lines of JSON for other programs:
// once for what the command line lists, or again and again as stdin asks.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench_work.h"
#include "cli/commands.h"
#include "cli/load_average.h"
#include "cli/number_option.h"
#include "cli/opened_model.h"
#include "cli/print.h"
#include "cli/ranks.h"
#include "kernels/ceilings.h"

namespace tg {
namespace {

using Json = nlohmann::ordered_json;

struct BenchOptions {
  ModelOptions model;
  std::vector<std::string> measure;
  bool on_request = false;
  std::int64_t read_mib = 1024;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

// Of the time in the runner, what each kind of operation took.
Json shares_of(const OpTimes& times) {
  double total = 0.0;
  for (const OpTimes::Op& op : times.ops()) total += op.seconds;
  Json shares;
  for (const OpTimes::Op& op : times.ops()) {
    shares[fmt::format("{} {}", op.of, op.what)] = std::round(op.seconds / total * 1e4) / 1e4;
  }
  return shares;
}

void print_json(const Json& json) {
  print_out("{}\n", json.dump());
  std::fflush(stdout);
}

// Room for the largest of the works.
Result<ContextPlan> plan_for(const std::vector<BenchWork>& works, const ModelConfig& config) {
  ContextAsk ask;
  ask.max_seq_len = 1;
  std::int64_t pages = 1;
  for (const BenchWork& work : works) {
    ask.users = std::max(ask.users, work.users);
    ask.max_seq_len = std::max(*ask.max_seq_len, positions_of(work));
    pages = std::max(pages, pages_of(work, ask.block));
  }
  ask.blocks = pages;
  return plan_context(config, ask);
}

class Bench {
 public:
  Bench(const BenchOptions& o, const RunSettings& settings, LoadedModel& loaded)
      : o_(o), loaded_(loaded), team_(settings.threads) {}

  // The first use of every buffer is slow and is not what is measured.
  Status warm_up(const std::vector<BenchWork>& works) {
    loaded_.runner().touch_kv();
    for (BenchWork work : works) {
      if (work.kind == BenchWork::Kind::kRead) continue;
      work.steps = 1;
      work.tokens = std::min(work.tokens, kStepRows);
      TG_RETURN_IF_ERROR(run_bench_work(loaded_.runner(), work));
    }
    return {};
  }

  Status answer(const std::string& text, const BenchWork& work) {
    Json json = {{"work", text}, {"load_average", load_average()}};
    if (work.kind == BenchWork::Kind::kRead) {
      TG_ASSIGN(const RateSpread rate, read_speed(work.seconds));
      json["median_bytes_per_s"] = rate.median;
      json["best_bytes_per_s"] = rate.best;
      json["pattern"] = reads_->pattern().text();
    } else {
      OpTimes operations;
      loaded_.runner().set_op_times(&operations);
      auto times = run_bench_work(loaded_.runner(), work);
      loaded_.runner().set_op_times(nullptr);
      if (!times) return at_place(std::move(times).error(), text);
      json["users"] = work.users;
      json["tokens"] = times->tokens;
      json["seconds"] = times->total_s();
      json["tokens_per_s"] = times->tokens_per_s();
      json["median_step_s"] = median(times->step_s);
      json["median_runner_s"] = median(times->runner_s);
      json["step_s"] = times->step_s;
      json["shares"] = shares_of(operations);
    }
    print_json(json);
    return {};
  }

 private:
  // The memory to read is there from the first question on.
  Result<RateSpread> read_speed(double seconds) {
    if (!reads_) {
      TG_ASSIGN(reads_, ReadSpeed::create(static_cast<std::size_t>(o_.read_mib) << 20, team_));
      reads_->choose_pattern(team_);
    }
    return reads_->measure(team_, seconds);
  }

  const BenchOptions& o_;
  LoadedModel& loaded_;
  ThreadTeam team_;
  std::optional<ReadSpeed> reads_;
};

// One measurement per line of stdin until it ends.
Status answer_requests(Bench& bench) {
  for (std::string line; std::getline(std::cin, line);) {
    TG_ASSIGN(const BenchWork work, parse_bench_work(line));
    TG_RETURN_IF_ERROR(bench.answer(line, work));
  }
  return {};
}

Result<int> run(const BenchOptions& o) {
  TG_RETURN_IF_ERROR(needs_one_process("bench"));
  std::vector<BenchWork> works;
  works.reserve(o.measure.size());
  for (const std::string& text : o.measure) {
    auto work = parse_bench_work(text);
    if (!work) return at_place(std::move(work).error(), "--measure");
    works.push_back(*work);
  }
  TG_ASSIGN(const RunSettings settings, run_settings(o.model));
  TG_ASSIGN(const OpenedModel model, open_model(o.model));
  TG_ASSIGN(const ContextPlan plan, plan_for(works, model.source->config()));
  TG_ASSIGN(const std::unique_ptr<LoadedModel> loaded,
            LoadedModel::load_runner(model, settings, plan));
  Bench bench(o, settings, *loaded);
  TG_RETURN_IF_ERROR(bench.warm_up(works));
  print_json({{"model", model.path},
              {"kernels", settings.kernels->name},
              {"compute_dtype", o.model.compute_dtype},
              {"kv_dtype", name(settings.kv_format, settings.dtype)},
              {"threads", settings.threads},
              {"load_s", loaded->load_s()},
              {"page_block_size", plan.capacity.block},
              {"page_max_num_blocks", plan.capacity.blocks}});
  if (o.on_request) TG_RETURN_IF_ERROR(answer_requests(bench));
  for (std::size_t i = 0; i < works.size() && !o.on_request; ++i) {
    TG_RETURN_IF_ERROR(bench.answer(o.measure[i], works[i]));
  }
  return 0;
}

}  // namespace

void add_bench_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<BenchOptions>();
  CLI::App* app = program.add_subcommand(
      "bench", "whole engine steps of decode and prefill, timed; one line of JSON each");
  add_checkpoint_options(*app, o->model);
  add_run_options(*app, o->model);
  app->add_option("--measure", o->measure,
                  "decode:USERS:CONTEXT:STEPS (what is before CONTEXT counts as cached), "
                  "prefill:TOKENS or read:SECONDS (memory speed); several: separated by commas")
      ->delimiter(',')
      ->required();
  app->add_flag("--on-request", o->on_request,
                "take measurements from stdin, one a line; --measure names the largest ones");
  add_whole_number(*app, "--read-mib", "memory that read:SECONDS goes through", 1,
                   std::int64_t{1} << 20, o->read_mib);
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
