#include "cli/serve_run.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>

#include "cli/opened_model.h"
#include "cli/print.h"
#include "cli/ranks.h"
#include "cli/serve_signals.h"
#include "cli/service_manager.h"
#include "engine/engine_thread.h"
#include "server/access_log.h"
#include "server/api.h"
#include "server/http_server.h"
#include "server/metrics.h"
#include "text/utf8.h"

namespace tg {
namespace {

// For the last bytes of answers, once the engine has ended.
constexpr double kFlushSeconds = 2.0;
// Requests of the longest kind whose bodies are held at once.
constexpr std::int64_t kLongBodiesAtOnce = 8;

std::string name_of_model(const ServeOptions& o, const std::string& path) {
  std::string name = o.served_model_name;
  if (name.empty()) name = std::filesystem::path(path).filename().string();
  if (name.empty()) name = std::filesystem::path(path).parent_path().filename().string();
  std::string shown;  // file names are bytes, JSON is UTF-8
  append_replacing_invalid(name, shown);
  return shown.empty() ? "model" : shown;
}

ServedModel served_model(const ServeOptions& o, const OpenedModel& model, const ContextPlan& plan) {
  ServedModel served;
  served.id = name_of_model(o, model.path);
  served.root = model.path;
  served.created = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  served.max_context = plan.max_seq_len;
  served.tokenizer = model.tokenizer;
  served.chat_template = model.chat_template;
  served.chat_template_name = model.chat_template_name;
  served.bos_text = model.bos_text;
  served.eos_text = model.eos_text;
  served.stop_ids = model.stop_ids;
  return served;
}

ApiOptions api_options(const ServeOptions& o, const MeshShape& mesh, Metrics& metrics) {
  ApiOptions options;
  options.metrics = &metrics;
  options.keys = o.api_keys;
  if (const char* key = std::getenv("LLAMA_TG_API_KEY");
      options.keys.empty() && key != nullptr && *key != '\0') {
    options.keys.emplace_back(key);
  }
  options.sampling = o.sampling.params;
  options.seed = o.sampling.seed;
  options.most_answers = o.max_waiting;
  options.version = TG_VERSION;
  options.mesh = {mesh.rows, mesh.cols, o.context.max_users};
  return options;
}

Result<std::unique_ptr<HttpServer>> listen_for(const ServeOptions& o, Metrics& metrics,
                                               const Api& api) {
  HttpOptions options;
  options.host = o.host;
  options.port = static_cast<int>(o.port);
  options.tls_certificate = o.tls_certificate;
  options.tls_key = o.tls_key;
  options.max_body_bytes = o.max_body_mb << 20;
  options.max_bodies_bytes = kLongBodiesAtOnce * options.max_body_bytes;
  options.cors_origins = o.cors_origins;
  options.error_body = [](int status, const std::string& message) {
    return error_body(ApiError{status, message});
  };
  options.check_head = [&api](const HttpRequest& head) { return api.refuse(head); };
  std::shared_ptr<AccessLog> log;
  if (!o.access_log.empty()) {
    auto opened =
        AccessLog::open(o.access_log, [](const std::string& what) { spdlog::warn(what); });
    if (!opened) return at_place(std::move(opened).error(), "--access-log");
    log = std::move(*opened);
  }
  options.on_done = [&metrics, log](const HttpRecord& record) {
    metrics.on_http(record);
    if (log) log->write(access_log_line(record));
  };
  return HttpServer::listen(std::move(options));
}

std::string url_of(const ServeOptions& o, const HttpServer& http) {
  const bool is_ipv6 = o.host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", o.tls_certificate.empty() ? "http" : "https",
                     is_ipv6 ? "[" : "", o.host, is_ipv6 ? "]" : "", http.port());
}

// Returns when all has ended: answers in progress have `grace_s`, or until the next signal, and
// their last bytes kFlushSeconds.
void serve_until_signal(Api& api, EngineThread& engine, HttpServer& http, double grace_s) {
  ServeSignals::wait();
  tell_service_manager("STOPPING=1");
  api.drain();
  std::atomic<bool> drained = false;
  std::thread drains([&] {
    engine.stop(grace_s);
    http.stop(kFlushSeconds);
    drained.store(true);
    ServeSignals::wake();
  });
  ServeSignals::wait();
  if (!drained.load()) engine.stop(0.0);
  drains.join();
}

EngineOptions engine_options(const ServeOptions& o) {
  EngineOptions options;
  options.max_users = o.context.max_users;
  options.prefill_chunk = o.prefill_chunk;
  options.prefill_rows = std::min(o.prefill_chunk, o.busy_prefill_chunk);
  options.step_goal_s = o.itl_goal_ms / 1000.0;
  options.prefix_cache = !o.no_prefix_cache;
  return options;
}

}  // namespace

Result<int> run_serve(ServeOptions& o) {
  const ServeSignals signals;
  if (std::find(o.api_keys.begin(), o.api_keys.end(), "") != o.api_keys.end()) {
    return error(ErrorCode::kBadArgument, "--api-key is empty, which would let everybody in");
  }
  TG_ASSIGN(RunSettings settings, run_settings(o.model));
  TG_RETURN_IF_ERROR(join_ranks(o.model, settings));
  TG_ASSIGN(const OpenedModel model, open_model(o.model));
  TG_RETURN_IF_ERROR(model.needs_tokenizer());
  TG_RETURN_IF_ERROR(validate(o.sampling.params, model.source->config().vocab));
  TG_ASSIGN(const Speculation speculation,
            open_speculation(o.speculative, o.model, settings, model));
  TG_ASSIGN(const ContextPlan plan, plan_serve_context(model, settings, o.context));

  // In the order in which they may go away: last what all others speak to.
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<LoadedModel> loaded;
  std::unique_ptr<EngineThread> engine;
  std::unique_ptr<Api> api;
  std::unique_ptr<HttpServer> http;
  if (settings.leads()) {
    ServedModel served = served_model(o, model, plan);
    metrics = std::make_unique<Metrics>(served.id);
    api = std::make_unique<Api>(std::move(served), api_options(o, settings.mesh.shape, *metrics));
    TG_ASSIGN(http, listen_for(o, *metrics, *api));
    http->start([&api = *api](HttpRequest request, const std::shared_ptr<HttpExchange>& exchange) {
      api.handle(std::move(request), exchange);
    });
    spdlog::info("{} says that it is loading until {} is loaded", url_of(o, *http), model.path);
  }
  TG_ASSIGN(loaded, LoadedModel::load(model, settings, plan, engine_options(o), speculation));
  // mpirun hands SIGUSR1 on to all ranks: the others go on until the first one lets them go.
  // (SIGTERM is the watchdog's there.)
  ServeSignals::start_counting();
  if (!loaded->leads()) return loaded->serve();
  const std::int64_t most_tokens = loaded->engine().max_tokens_per_request();
  engine = std::make_unique<EngineThread>(loaded->engine(),
                                          EngineThreadOptions{.max_waiting = o.max_waiting});
  api->serve_with(*engine, most_tokens);
  print_out("Listening on {}\n", url_of(o, *http));
  std::fflush(stdout);
  tell_service_manager("READY=1");
  serve_until_signal(*api, *engine, *http, o.grace_s);
  return 0;
}

}  // namespace tg
