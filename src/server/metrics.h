// What: the numbers of GET /metrics in Prometheus' text form, under the names that vLLM's
//   dashboards know. Counters and histograms grow with events, gauges are read from a snapshot.
// Who owns: the caller; it outlives the sinks and the server that report to it.
// Thread: everything here from any.
#pragma once

#include <memory>
#include <string>

#include "engine/engine_thread.h"
#include "engine/request.h"
#include "server/http_server.h"

namespace tg {

class Metrics {
 public:
  explicit Metrics(const std::string& model_name);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Per token as it comes, so that the time between tokens is there while a long answer still runs.
  // Call it before on_finished() of the same id.
  void on_token(const TokenEvent& event);

  // Tokens and latencies count only for answers that ended by themselves (stop, length): these are
  // the ones whose `usage` a client sees, and an answer broken off says nothing of how long one
  // takes. With `counts_prompt` false the prompt is left out: a request for several choices of one
  // prompt is several requests of the engine, and `usage` has its prompt once.
  void on_finished(const FinishEvent& event, bool counts_prompt = true);

  // One finished HTTP exchange (HttpOptions::on_done).
  void on_http(const HttpRecord& record);

  // What GET /metrics answers: "text/plain; version=0.0.4".
  std::string text(const EngineSnapshot& snapshot);

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace tg
