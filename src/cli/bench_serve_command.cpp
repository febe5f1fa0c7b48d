// llama-tg bench-serve: a load client for any server that speaks OpenAI's completions, as
// `vllm bench serve` is one.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/answer_file.h"
#include "cli/commands.h"
#include "cli/load_arrivals.h"
#include "cli/load_client.h"
#include "cli/load_options.h"
#include "cli/load_report.h"
#include "cli/load_requests.h"
#include "cli/load_statistics.h"
#include "cli/number_option.h"
#include "cli/print.h"
#include "cli/progress_bar.h"
#include "cli/ranks.h"
#include "cli/stop_signals.h"

namespace tg {
namespace {

constexpr std::int64_t kMostRequests = 1'000'000;
constexpr std::int64_t kMostLoadTokens = 10'000'000;

struct BenchServeOptions {
  std::string base_url = "http://127.0.0.1:8000";
  std::string model;
  std::string endpoint = "/v1/completions";
  std::string api_key;
  std::int64_t num_prompts = 100;
  std::string request_rate = "inf";
  double burstiness = 1.0;
  std::int64_t max_concurrency = 0;
  std::int64_t warmup = 0;
  std::int64_t most_silent_s = 600;
  std::string prompts;
  bool words = false;
  std::string id_range = "1000:29999";
  std::int64_t prefix_len = 0;
  std::int64_t input_len = 128;
  std::int64_t output_len = 128;
  std::optional<std::uint64_t> seed;
  bool ignore_eos = false;
  double temperature = 0.0;
  std::string extra_body;
  std::vector<std::string> goodput;
  std::string percentiles = "50,90,99";
  std::string output;
};

// What the options say, checked.
struct LoadSettings {
  LoadServer server;
  RequestPlan requests;
  LoadAbout about;
};

// The value of an option; an error names it.
template <typename T>
Result<T> of_option(const char* name, Result<T> value) {
  if (!value) return at_place(std::move(value).error(), name);
  return value;
}

Result<RequestPlan> request_plan(const BenchServeOptions& o, bool chat) {
  RequestPlan plan;
  plan.chat = chat;
  plan.form = !o.prompts.empty() ? PromptForm::kTexts
              : o.words || chat  ? PromptForm::kWords
                                 : PromptForm::kIds;
  if (plan.form == PromptForm::kTexts && (o.prefix_len > 0 || o.words)) {
    return error(ErrorCode::kBadArgument, "{} is for random prompts, and --prompts gives texts",
                 o.words ? "--words" : "--prefix-len");
  }
  TG_ASSIGN(plan.ids, of_option("--id-range", parse_id_range(o.id_range)));
  if (!o.prompts.empty()) {
    TG_ASSIGN(plan.texts, of_option("--prompts", read_load_texts(o.prompts)));
  }
  plan.prefix_len = o.prefix_len;
  plan.input_len = o.input_len;
  plan.output_len = o.output_len;
  plan.seed = o.seed.value_or(0);
  plan.ignore_eos = o.ignore_eos;
  plan.temperature = o.temperature;
  plan.extra_body = o.extra_body;
  if (Status status = check_request_plan(plan); !status) {
    return at_place(std::move(status).error(), "--extra-body");
  }
  return plan;
}

Result<LoadSettings> load_settings(const BenchServeOptions& o) {
  LoadSettings s;
  s.about.chat = o.endpoint.ends_with("/chat/completions");
  if (!o.endpoint.starts_with('/') || !o.endpoint.ends_with("/completions")) {
    return error(ErrorCode::kBadArgument,
                 "--endpoint '{}': need a path like /v1/completions or /v1/chat/completions",
                 o.endpoint);
  }
  TG_ASSIGN(s.server.base_url, of_option("--base-url", parse_base_url(o.base_url)));
  s.server.endpoint = o.endpoint;
  s.server.api_key = o.api_key;
  s.server.most_silent_s = o.most_silent_s;
  s.about.url = s.server.base_url + o.endpoint;
  s.about.num_prompts = o.num_prompts;
  TG_ASSIGN(s.about.request_rate, of_option("--request-rate", parse_request_rate(o.request_rate)));
  s.about.burstiness = o.burstiness;
  s.about.max_concurrency = o.max_concurrency;
  TG_ASSIGN(s.about.percents, of_option("--percentiles", parse_percents(o.percentiles)));
  TG_ASSIGN(s.about.limits, of_option("--goodput", parse_goodput(o.goodput)));
  TG_ASSIGN(s.requests, request_plan(o, s.about.chat));
  TG_RETURN_IF_ERROR(check_writable(o.output));
  return s;
}

// The one that was asked for, or the first that the server has. Asks the server in any case, so
// that one that is not there is an error of its own and not a failure of every request.
Result<std::string> model_name(const LoadServer& server, const std::string& asked) {
  TG_ASSIGN(const ServerReply reply, ask_server(server, "/v1/models"));
  if (!asked.empty()) return asked;
  if (reply.status != kHttpOk) {
    return error(ErrorCode::kIo, "{}/v1/models: HTTP {}: {}; --model names one", server.base_url,
                 reply.status, error_message_of(reply.body));
  }
  const auto json = nlohmann::json::parse(reply.body, nullptr, /*allow_exceptions=*/false);
  const nlohmann::json::json_pointer first_id("/data/0/id");
  if (json.is_object() && json.contains(first_id) && json[first_id].is_string()) {
    return json[first_id].get<std::string>();
  }
  return error(ErrorCode::kIo, "{}/v1/models lists no model; --model names one", server.base_url);
}

Error none_completed(const char* what, const std::vector<LoadAnswer>& answers) {
  return Error{
      ErrorCode::kIo,
      fmt::format("none of {} {} completed: {}", answers.size(), what, answers.front().failure),
      {}};
}

// Requests that are not measured, with prompts of their own.
Status warm_up(const LoadSettings& s, std::int64_t count) {
  if (count == 0) return {};
  const std::vector<double> starts(static_cast<std::size_t>(count), 0.0);
  const auto behind = static_cast<std::size_t>(s.about.num_prompts);
  LoadJob job;
  job.starts_s = starts;
  job.max_concurrency = s.about.max_concurrency;
  job.request = [&](std::size_t i) { return make_load_request(s.requests, behind + i); };
  job.stopped = [] { return StopSignals::received() != 0; };
  TG_ASSIGN(const LoadRun run, run_load(s.server, job));
  const auto failed = [](const LoadAnswer& answer) { return !answer.failure.empty(); };
  if (!run.stopped && std::all_of(run.answers.begin(), run.answers.end(), failed)) {
    return tl::unexpected<Error>(none_completed("warm-up requests", run.answers));
  }
  return {};
}

Result<LoadRun> measured_run(const LoadSettings& s) {
  const std::vector<double> starts =
      arrival_times(static_cast<std::size_t>(s.about.num_prompts), s.about.request_rate,
                    s.about.burstiness, s.requests.seed);
  ProgressBar bar("requests");
  LoadJob job;
  job.starts_s = starts;
  job.max_concurrency = s.about.max_concurrency;
  job.request = [&](std::size_t i) { return make_load_request(s.requests, i); };
  job.stopped = [] { return StopSignals::received() != 0; };
  job.progress = [&](std::size_t ended) {
    bar.show(static_cast<std::int64_t>(ended), s.about.num_prompts);
  };
  return run_load(s.server, job);
}

Result<int> run(const BenchServeOptions& o) {
  TG_RETURN_IF_ERROR(needs_one_process("bench-serve"));
  TG_ASSIGN(LoadSettings s, load_settings(o));
  TG_ASSIGN(s.requests.model, model_name(s.server, o.model));
  s.about.model = s.requests.model;
  const StopSignals signals;
  TG_RETURN_IF_ERROR(warm_up(s, o.warmup));
  s.about.date = fmt::format("{:%Y%m%d-%H%M%S}", fmt::localtime(std::time(nullptr)));
  TG_ASSIGN(const LoadRun run, measured_run(s));
  s.about.most_concurrent = run.most_concurrent;
  const LoadSummary summary = summarize_load(run.answers, s.about.percents, s.about.limits);
  print_text(stdout, load_table(s.about, summary, run.answers));
  std::fflush(stdout);
  if (!o.output.empty()) {
    TG_RETURN_IF_ERROR(write_answer_file(o.output, load_json(s.about, summary, run.answers)));
  }
  if (const int number = StopSignals::received(); number != 0) {
    print_error("llama-tg: ended by signal {} with {} of {} requests sent\n", number,
                run.answers.size(), o.num_prompts);
    return 128 + number;  // as a shell says it
  }
  if (summary.completed == 0) {
    return tl::unexpected<Error>(none_completed("requests", run.answers));
  }
  return 0;
}

}  // namespace

void add_bench_serve_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<BenchServeOptions>();
  CLI::App* app = program.add_subcommand(
      "bench-serve",
      "load on a server with OpenAI's API: latencies and throughput as in `vllm bench serve`");
  app->add_option("--base-url", o->base_url, "of the server, with or without /v1")
      ->capture_default_str();
  app->add_option("--model", o->model, "default: the first in the server's /v1/models");
  app->add_option("--endpoint", o->endpoint, "path; one that ends with /chat/completions is a chat")
      ->capture_default_str();
  app->add_option("--api-key", o->api_key, "sent as Authorization: Bearer KEY");
  add_whole_number(*app, "--num-prompts", "requests", 1, kMostRequests, o->num_prompts);
  app->add_option("--request-rate", o->request_rate, "requests per second; inf: all at once")
      ->capture_default_str();
  add_fraction(*app, "--burstiness",
               "shape of the gamma-distributed gaps: 1 is a Poisson process, less comes in bursts, "
               "more is even",
               0.001, 1e6, o->burstiness);
  add_whole_number(*app, "--max-concurrency", "requests at once; 0: any number", 0, kMostRequests,
                   o->max_concurrency);
  add_whole_number(*app, "--warmup", "requests before the measured ones", 0, kMostRequests,
                   o->warmup);
  add_whole_number(*app, "--timeout-s", "a request fails after so many seconds without a byte", 1,
                   1'000'000, o->most_silent_s);
  app->add_option(
      "--prompts", o->prompts,
      "JSON file: a list of texts, or of objects with \"prompt\"; default: random ones");
  app->add_flag("--words", o->words,
                "random prompts are English words, about a token each, not token ids; a chat's are "
                "always");
  app->add_option("--id-range", o->id_range, "FIRST:LAST id of random prompts")
      ->capture_default_str();
  add_whole_number(*app, "--prefix-len", "tokens in front that all random prompts share", 0,
                   kMostLoadTokens, o->prefix_len);
  add_whole_number(*app, "--input-len", "tokens of a random prompt behind the shared ones", 1,
                   kMostLoadTokens, o->input_len);
  add_whole_number(*app, "--output-len", "max_tokens of every request", 1, kMostLoadTokens,
                   o->output_len);
  add_seed(*app, "of prompts and arrivals; default: 0", o->seed);
  app->add_flag("--ignore-eos", o->ignore_eos,
                "ask the server to go on to --output-len (not all servers know it)");
  add_fraction(*app, "--temperature", "of the sampling", 0.0, 100.0, o->temperature);
  app->add_option("--extra-body", o->extra_body, "JSON object of more fields for every request");
  app->add_option("--goodput", o->goodput,
                  "upper limits in ms of a good answer: ttft:500 tpot:50 e2el:20000")
      ->delimiter(',');
  app->add_option("--percentiles", o->percentiles, "of all latencies")->capture_default_str();
  app->add_option("--output", o->output, "JSON file of everything");
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
