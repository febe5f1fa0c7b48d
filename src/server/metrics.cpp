#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

namespace tg {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// Seconds. Two or three bounds an octave where a user notices: from a step of a small model to the
// prefill of a long prompt on a slow machine.
const Buckets& first_token_buckets() {
  static const Buckets buckets = {0.002, 0.005, 0.01, 0.02, 0.04,  0.08,  0.15,
                                  0.3,   0.5,   0.75, 1.0,  1.5,   2.5,   5.0,
                                  10.0,  20.0,  40.0, 80.0, 160.0, 640.0, 2560.0};
  return buckets;
}
const Buckets& token_gap_buckets() {
  static const Buckets buckets = {0.001, 0.002, 0.004, 0.006, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1,
                                  0.15,  0.2,   0.3,   0.5,   0.75, 1.0,   2.0,   5.0,  20.0};
  return buckets;
}
const Buckets& request_buckets() {
  static const Buckets buckets = {0.01, 0.03,  0.1,   0.3,   0.5,   0.8,    1.0,   1.5,
                                  2.0,  2.5,   5.0,   10.0,  15.0,  20.0,   30.0,  40.0,
                                  60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
  return buckets;
}

// Any client may send any method; a label must not grow without bound.
const char* method_label(const std::string& method) {
  static constexpr std::array kKnown = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"};
  const auto* const found = std::find(kKnown.begin(), kKnown.end(), method);
  return found == kKnown.end() ? "other" : *found;
}

// vLLM's word for each; a client that hangs up "aborts".
const char* reason_label(FinishReason reason) {
  return reason == FinishReason::kCancelled ? "abort" : name(reason);
}

bool ended_by_itself(FinishReason reason) {
  return reason == FinishReason::kStop || reason == FinishReason::kLength;
}

// Raises a counter to a total that somebody else keeps.
void raise_to(prometheus::Counter& counter, std::int64_t total) {
  const double difference = static_cast<double>(total) - counter.Value();
  if (difference > 0.0) counter.Increment(difference);
}

}  // namespace

struct Metrics::Families {
  explicit Families(const std::string& model) : labels{{"model_name", model}} {}

  prometheus::Gauge& gauge(const char* metric, const char* help) {
    return prometheus::BuildGauge().Name(metric).Help(help).Register(registry).Add(labels);
  }
  prometheus::Counter& counter(const char* metric, const char* help) {
    return prometheus::BuildCounter().Name(metric).Help(help).Register(registry).Add(labels);
  }
  prometheus::Histogram& histogram(const char* metric, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(metric).Help(help).Register(registry).Add(labels,
                                                                                       buckets);
  }

  const prometheus::Labels labels;
  prometheus::Registry registry;

  prometheus::Gauge& running = gauge("vllm:num_requests_running", "Requests that hold KV pages.");
  prometheus::Gauge& waiting = gauge("vllm:num_requests_waiting", "Requests in the queue.");
  prometheus::Gauge& kv_usage =
      gauge("vllm:kv_cache_usage_perc", "Part of the KV pages that requests hold, 0 to 1.");

  prometheus::Counter& preemptions =
      counter("vllm:num_preemptions_total", "How often a request gave its KV pages back.");
  prometheus::Counter& prompt_tokens =
      counter("vllm:prompt_tokens_total", "Prompt tokens of finished requests.");
  prometheus::Counter& prompt_tokens_cached =
      counter("vllm:prompt_tokens_cached_total", "Of them: found in the prefix cache.");
  prometheus::Counter& generation_tokens =
      counter("vllm:generation_tokens_total", "Sampled tokens of finished requests.");
  prometheus::Counter& prefix_queries =
      counter("vllm:prefix_cache_queries_total", "Tokens looked up in the prefix cache.");
  prometheus::Counter& prefix_hits =
      counter("vllm:prefix_cache_hits_total", "Tokens found in the prefix cache.");
  prometheus::Counter& draft_tokens =
      counter("vllm:spec_decode_num_draft_tokens_total", "Tokens proposed by speculation.");
  prometheus::Counter& accepted_tokens = counter("vllm:spec_decode_num_accepted_tokens_total",
                                                 "Proposed tokens that were sampled too.");
  prometheus::Family<prometheus::Counter>& success = prometheus::BuildCounter()
                                                         .Name("vllm:request_success_total")
                                                         .Help("Requests by how they ended.")
                                                         .Register(registry);
  prometheus::Family<prometheus::Counter>& http =
      prometheus::BuildCounter()
          .Name("http_requests_total")
          .Help("HTTP exchanges by method and status; 499: the client left before there was one.")
          .Register(registry);

  prometheus::Histogram& first_token =
      histogram("vllm:time_to_first_token_seconds", "From arrival to the first token.",
                first_token_buckets());
  prometheus::Histogram& token_gap = histogram(
      "vllm:inter_token_latency_seconds", "Between two tokens of a request.", token_gap_buckets());
  prometheus::Histogram& whole = histogram("vllm:e2e_request_latency_seconds",
                                           "From arrival to the last token.", request_buckets());
  prometheus::Histogram& queued = histogram("vllm:request_queue_time_seconds",
                                            "From arrival to the first step.", request_buckets());
  prometheus::Histogram& prefill =
      histogram("vllm:request_prefill_time_seconds", "From the first step to the first token.",
                request_buckets());
  prometheus::Histogram& decode = histogram("vllm:request_decode_time_seconds",
                                            "From the first token to the last.", request_buckets());

  std::mutex mutex;
  std::unordered_map<RequestId, double> last_token_s;  // of requests in progress
};

Metrics::Metrics(const std::string& model_name)
    : families_(std::make_unique<Families>(model_name)) {
  // A rate needs the zero before the first event.
  for (const FinishReason reason : {FinishReason::kStop, FinishReason::kLength,
                                    FinishReason::kCancelled, FinishReason::kError}) {
    families_->success.Add({{"model_name", model_name}, {"finished_reason", reason_label(reason)}});
  }
}

Metrics::~Metrics() = default;

void Metrics::on_token(const TokenEvent& event) {
  Families& f = *families_;
  std::optional<double> gap;
  {
    const std::scoped_lock lock(f.mutex);
    const auto [last, first] = f.last_token_s.try_emplace(event.id, event.time_s);
    if (!first) {
      gap = event.time_s - last->second;
      last->second = event.time_s;
    }
  }
  if (gap) f.token_gap.Observe(std::max(*gap, 0.0));
}

void Metrics::on_finished(const FinishEvent& event, bool counts_prompt) {
  Families& f = *families_;
  {
    const std::scoped_lock lock(f.mutex);
    f.last_token_s.erase(event.id);
  }
  prometheus::Labels labels = f.labels;
  labels.emplace("finished_reason", reason_label(event.reason));
  f.success.Add(labels).Increment();
  if (!ended_by_itself(event.reason)) return;

  if (counts_prompt) {
    f.prompt_tokens.Increment(static_cast<double>(event.prompt_tokens));
    f.prompt_tokens_cached.Increment(static_cast<double>(event.cached_tokens));
  }
  f.generation_tokens.Increment(static_cast<double>(event.completion_tokens));
  const RequestTiming& timing = event.timing;
  f.whole.Observe(timing.finished_s - timing.submitted_s);
  if (timing.started_s > 0.0) f.queued.Observe(timing.started_s - timing.submitted_s);
  if (timing.token_times_s.empty()) return;
  f.first_token.Observe(timing.ttft_s());
  f.prefill.Observe(timing.token_times_s.front() - timing.started_s);
  f.decode.Observe(timing.token_times_s.back() - timing.token_times_s.front());
}

void Metrics::on_http(const HttpRecord& record) {
  families_->http
      .Add({{"method", method_label(record.method)}, {"status", std::to_string(record.status)}})
      .Increment();
}

std::string Metrics::text(const EngineSnapshot& snapshot) {
  Families& f = *families_;
  const std::scoped_lock lock(f.mutex);
  f.running.Set(static_cast<double>(snapshot.running));
  f.waiting.Set(static_cast<double>(snapshot.waiting));
  f.kv_usage.Set(snapshot.total_pages > 0 ? 1.0 - static_cast<double>(snapshot.free_pages) /
                                                      static_cast<double>(snapshot.total_pages)
                                          : 0.0);
  raise_to(f.preemptions, snapshot.stats.preemptions);
  raise_to(f.prefix_queries, snapshot.stats.prefix_queries);
  raise_to(f.prefix_hits, snapshot.stats.prefix_hits);
  raise_to(f.draft_tokens, snapshot.stats.speculation.proposed);
  raise_to(f.accepted_tokens, snapshot.stats.speculation.accepted);
  return prometheus::TextSerializer().Serialize(f.registry.Collect());
}

}  // namespace tg
