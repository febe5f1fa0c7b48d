#include "engine/engine_thread.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tg {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

SteadyTime seconds_from_now(double seconds) {
  constexpr double kMost = 1e9;  // 30 years: what a time_point holds
  const double clipped = seconds > 0.0 ? std::min(seconds, kMost) : 0.0;
  return std::chrono::steady_clock::now() +
         std::chrono::duration_cast<SteadyTime::duration>(std::chrono::duration<double>(clipped));
}

}  // namespace

class EngineThread::Worker {
 public:
  Worker(Engine& engine, EngineThreadOptions options)
      : engine_(engine), options_(options), limits_(engine.admission_limits()) {
    options_.max_waiting = std::max<std::int64_t>(options_.max_waiting, 1);
    publish();
    thread_ = std::thread([this] { run(); });
    thread_id_ = thread_.get_id();
  }
  ~Worker() { stop(0); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  Result<RequestTicket> submit(Request request, std::shared_ptr<TokenSink> sink) {
    TG_CHECK(sink != nullptr);
    Status status = check_request(request, limits_);  // reads the whole prompt: not under the lock
    const std::lock_guard lock(mutex_);
    if (status) status = has_room();
    if (!status) {
      ++refused_;
      return tl::unexpected<Error>(std::move(status).error());
    }
    const RequestTicket ticket = ++last_ticket_;
    live_.emplace(ticket, false);
    inbox_.push_back({ticket, std::move(request), std::move(sink)});
    wake_.notify_one();
    return ticket;
  }

  void cancel(RequestTicket ticket) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(ticket);
    if (found == live_.end() || found->second) return;
    found->second = true;
    cancels_.push_back(ticket);
    wake_.notify_one();
  }

  EngineSnapshot snapshot() const {
    const std::lock_guard lock(mutex_);
    EngineSnapshot now = snapshot_;
    now.waiting += std::ssize(inbox_);
    now.stats.refused += refused_;
    return now;
  }

  void stop(double grace_s) {
    const SteadyTime deadline = seconds_from_now(grace_s);
    {
      std::unique_lock lock(mutex_);
      stopping_ = true;
      deadline_ = std::min(deadline_, deadline);
      wake_.notify_one();
      if (std::this_thread::get_id() == thread_id_) return;
      ended_.wait(lock, [this] { return has_ended_; });
    }
    std::call_once(joined_, [this] { thread_.join(); });
  }

 private:
  struct Posted {
    RequestTicket ticket = 0;
    Request request;
    std::shared_ptr<TokenSink> sink;
  };

  // The engine's sink of one request.
  class Relay : public TokenSink {
   public:
    Relay(Worker& worker, RequestTicket ticket, std::shared_ptr<TokenSink> sink)
        : worker_(worker), ticket_(ticket), sink_(std::move(sink)) {}

    bool on_token(const TokenEvent& event) override {
      return sink_->on_token(
          {ticket_, event.index, event.sampled, event.is_stop_id, event.last, event.time_s});
    }
    void on_prompt_scores(RequestId /*id*/, std::vector<SampledToken> scores) override {
      sink_->on_prompt_scores(ticket_, std::move(scores));
    }
    void on_finish(const FinishEvent& event) override {
      FinishEvent ticketed = event;
      ticketed.id = ticket_;
      worker_.forget(ticket_);  // before the sink hears of it: what it then cancels is gone
      sink_->on_finish(ticketed);
      sink_.reset();
    }

    RequestId id = 0;  // the engine's

   private:
    Worker& worker_;
    RequestTicket ticket_;
    std::shared_ptr<TokenSink> sink_;
  };

  Status has_room() const {
    if (snapshot_.failed) {
      return error(ErrorCode::kBusy, "the engine has failed: {}", snapshot_.failure.text());
    }
    if (stopping_) return error(ErrorCode::kBusy, "the engine is stopping");
    const std::int64_t waiting = snapshot_.waiting + std::ssize(inbox_);
    if (waiting < options_.max_waiting) return {};
    return error(ErrorCode::kBusy, "{} requests are waiting: the queue holds {}", waiting,
                 options_.max_waiting);
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] {
        return stopping_ || !engine_.idle() || !inbox_.empty() || !cancels_.empty();
      });
      if (stopping_ && engine_.idle() && inbox_.empty()) break;
      posted_.swap(inbox_);
      cancelled_.swap(cancels_);
      snapshot_.waiting += std::ssize(posted_);  // they are until the step has ended
      const bool out_of_time = stopping_ && std::chrono::steady_clock::now() >= deadline_;
      lock.unlock();
      step(out_of_time);
      lock.lock();
      publish();
    }
    has_ended_ = true;
    ended_.notify_all();
  }

  void step(bool cancel_all) {
    for (Posted& posted : posted_) begin(std::move(posted));
    posted_.clear();
    for (const RequestTicket ticket : cancelled_) cancel_now(ticket);
    cancelled_.clear();
    if (cancel_all) {
      for (const auto& [ticket, relay] : relays_) engine_.cancel(relay->id);
    }
    if (!engine_.idle()) {
      engine_.step();
      note_failure(engine_.last_step());
    }
    for (const RequestTicket ticket : gone_) relays_.erase(ticket);
    gone_.clear();
  }

  void begin(Posted posted) {
    auto relay = std::make_unique<Relay>(*this, posted.ticket, std::move(posted.sink));
    Relay& sink = *relay;
    relays_.emplace(posted.ticket, std::move(relay));
    const Result<RequestId> id = engine_.submit(std::move(posted.request), &sink);
    if (id) {
      sink.id = *id;
    } else {
      refuse(sink, id.error());
    }
  }

  // The end of a request that the engine does not have.
  static void refuse(Relay& relay, const Error& why) {
    const RequestTiming never;
    relay.on_finish({0, FinishReason::kError, why, 0, 0, 0, 0, {}, never});
  }

  void cancel_now(RequestTicket ticket) {
    const auto found = relays_.find(ticket);
    if (found != relays_.end()) engine_.cancel(found->second->id);
  }

  void note_failure(const StepReport& report) {
    if (!report.failure) {
      if (report.decode_rows + report.prefill_rows > 0) failures_ = 0;
      return;
    }
    if (++failures_ < options_.failures_in_a_row) return;
    {
      const std::lock_guard lock(mutex_);
      snapshot_.failed = true;
      snapshot_.failure = *report.failure;
      posted_.swap(inbox_);  // the last: none is taken any more
      snapshot_.waiting += std::ssize(posted_);
    }
    const Error why = *report.failure;
    for (Posted& posted : posted_) begin(std::move(posted));
    posted_.clear();
    engine_.fail_all(why);
  }

  void forget(RequestTicket ticket) {
    gone_.push_back(ticket);
    const std::lock_guard lock(mutex_);
    live_.erase(ticket);
  }

  void publish() {
    snapshot_.running = engine_.running();
    snapshot_.waiting = engine_.waiting();
    snapshot_.free_pages = engine_.free_pages();
    snapshot_.total_pages = engine_.total_pages();
    engine_.list_running(snapshot_.users);
    snapshot_.stats = engine_.stats();
  }

  // The thread's own.
  Engine& engine_;
  EngineThreadOptions options_;
  std::unordered_map<RequestTicket, std::unique_ptr<Relay>> relays_;
  std::vector<Posted> posted_;            // taken from the inbox
  std::vector<RequestTicket> cancelled_;  // taken from the cancels
  std::vector<RequestTicket> gone_;       // of relays_: ended in the step in progress
  std::int64_t failures_ = 0;             // steps in a row

  const AdmissionLimits limits_;
  mutable std::mutex mutex_;  // guards what follows; never held during a step or in a sink
  std::condition_variable wake_;
  std::condition_variable ended_;
  std::vector<Posted> inbox_;
  std::vector<RequestTicket> cancels_;
  std::unordered_map<RequestTicket, bool> live_;  // whether it was cancelled
  RequestTicket last_ticket_ = 0;
  EngineSnapshot snapshot_;  // `waiting` and `refused` without what is counted here
  std::int64_t refused_ = 0;
  bool stopping_ = false;
  SteadyTime deadline_ = SteadyTime::max();
  bool has_ended_ = false;

  std::once_flag joined_;
  std::thread thread_;
  std::thread::id thread_id_;
};

EngineThread::EngineThread(Engine& engine, EngineThreadOptions options)
    : worker_(std::make_unique<Worker>(engine, options)) {}
EngineThread::~EngineThread() = default;

Result<RequestTicket> EngineThread::submit(Request request, std::shared_ptr<TokenSink> sink) {
  return worker_->submit(std::move(request), std::move(sink));
}
void EngineThread::cancel(RequestTicket ticket) { worker_->cancel(ticket); }
EngineSnapshot EngineThread::snapshot() const { return worker_->snapshot(); }
void EngineThread::stop(double grace_s) { worker_->stop(grace_s); }

}  // namespace tg
