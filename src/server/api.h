// What: the HTTP API: which request means what. OpenAI's /v1/completions, /v1/chat/completions and
//   /v1/models, vLLM's /tokenize, /detokenize, /tokenizer_info, /health, /version and /metrics; the
//   paths are those of routes.h. Requests are read and prompts are made on threads of its own;
//   answers come from the engine's.
// Who owns: the caller, who stops the HTTP server and the engine's thread before this goes away.
// Thread: handle() on the HTTP server's and does not block; the rest from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine_thread.h"
#include "server/answer_format.h"
#include "server/answer_request.h"
#include "server/api_error.h"
#include "server/form_masks.h"
#include "server/http_server.h"
#include "server/mesh_view.h"
#include "server/metrics.h"
#include "server/routes.h"
#include "server/served_model.h"
#include "server/work_queue.h"

namespace tg {

struct ApiOptions {
  std::vector<std::string> keys;      // a request needs one of them; none: anybody may ask
  SamplingParams sampling;            // where the request says nothing
  std::optional<std::uint64_t> seed;  // as well; none: a fresh one for each
  std::int64_t most_answers = 256;    // of one request: prompts times choices
  int threads = 2;
  std::size_t most_waiting = 256;  // requests that are not with the engine yet
  std::string version;
  Metrics* metrics = nullptr;  // what /metrics tells; none: there is no such path
  MeshView mesh;               // what /mesh tells of it
};

class Api {
 public:
  Api(ServedModel model, ApiOptions options);
  ~Api();
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  void handle(HttpRequest request, const std::shared_ptr<HttpExchange>& exchange);
  // What handle() would answer whatever the body is: a wrong path, method or key, or no model yet.
  std::optional<HttpResponse> refuse(const HttpRequest& request) const;

  // The weights are there. Until then requests for answers get 503. `max_tokens`: of one request,
  // prompt and answer together.
  void serve_with(EngineThread& engine, std::int64_t max_tokens);
  // From now on only answers in progress go on; new requests get 503.
  void drain();

 private:
  // Answers, or says why not. `id`: of the request.
  using Action = Status (Api::*)(const RequestJson& body, const std::string& id,
                                 const std::shared_ptr<HttpExchange>& exchange);
  static Action action_of(const Route& route);  // nullptr: answered at once, by get()

  HttpResponse get(const Route& route, std::string_view path) const;
  // Why there are no answers now, a 503: it loads, drains or has failed.
  std::optional<ApiError> unavailable() const;
  HttpResponse health() const;
  EngineSnapshot snapshot() const;  // nothing while it loads
  HttpResponse metrics() const;
  HttpResponse mesh() const;
  HttpResponse models() const;
  HttpResponse model(std::string_view id) const;
  std::string model_card() const;
  HttpResponse tokenizer_info() const;
  bool has_key(const HttpRequest& request) const;
  void post(Action action, HttpRequest request, const std::shared_ptr<HttpExchange>& exchange);
  Status check_model(const std::string& name) const;

  // On the work queue's threads.
  Status act(Action action, const HttpRequest& request,
             const std::shared_ptr<HttpExchange>& exchange);
  Status complete(const RequestJson& body, const std::string& id,
                  const std::shared_ptr<HttpExchange>& exchange);
  Status chat(const RequestJson& body, const std::string& id,
              const std::shared_ptr<HttpExchange>& exchange);
  Status tokenize(const RequestJson& body, const std::string& id,
                  const std::shared_ptr<HttpExchange>& exchange);
  Status detokenize(const RequestJson& body, const std::string& id,
                    const std::shared_ptr<HttpExchange>& exchange);
  struct Prompt;
  AnswerHead head_of(const AnswerRequest& request, std::string id) const;
  Status start(const AnswerRequest& request, const std::vector<Prompt>& prompts,
               const char* prompt_field, std::unique_ptr<AnswerFormat> format,
               const std::shared_ptr<HttpExchange>& exchange);

  enum class State : std::uint8_t { kLoading, kReady, kDraining };

  const ServedModel model_;
  const ApiOptions options_;
  FormMasks forms_;
  std::atomic<State> state_ = State::kLoading;
  std::atomic<EngineThread*> engine_ = nullptr;
  std::atomic<std::int64_t> max_tokens_ = 0;
  WorkQueue work_;  // last: its threads use the rest
};

}  // namespace tg
