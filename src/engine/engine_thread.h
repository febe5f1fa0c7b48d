// What: an Engine on a thread of its own, for callers on other threads: requests and cancellations
//   are posted and taken between steps, the queue is bounded, and what the engine holds can be read
//   at any time. The thread sleeps while there is nothing to do.
// Who owns: the caller owns the engine, which nobody else may touch while this lives; a sink is
//   shared with the caller until its on_finish.
// Thread: everything here from any, sinks included; sinks are called on the engine's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"

namespace tg {

struct EngineThreadOptions {
  // Requests that hold no pages yet, at least 1; more are refused (kBusy).
  std::int64_t max_waiting = 256;
  // A step that fails ends its requests. After so many without one between them that succeeds, the
  // engine counts as failed: all requests end (kError) and no more are taken.
  std::int64_t failures_in_a_row = 3;
};

// As of the end of the last step.
struct EngineSnapshot {
  std::int64_t running = 0;
  std::int64_t waiting = 0;     // what was submitted since included
  std::int64_t free_pages = 0;  // those that only the prefix cache holds included
  std::int64_t total_pages = 0;
  std::vector<RunningUser> users;  // those that run; ids are the engine's
  EngineStats stats;               // `refused` has what this class refused too
  bool failed = false;             // no step succeeds any more: `failure` says why
  Error failure;
};

// Of one EngineThread: 1, 2, ... in order of submit(). It is the id of the sink's events.
using RequestTicket = std::uint64_t;

class EngineThread {
 public:
  EngineThread(Engine& engine, EngineThreadOptions options);
  // stop(0)
  ~EngineThread();
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  // Queues a request. check_request()'s errors; kBusy when the queue is full, the thread is
  // stopping or the engine has failed. `sink` gets no event after a refusal.
  Result<RequestTicket> submit(Request request, std::shared_ptr<TokenSink> sink);
  // Before the next step the request ends (kCancelled); nothing happens if it has ended.
  void cancel(RequestTicket ticket);

  // Never waits for a step.
  EngineSnapshot snapshot() const;

  // No further requests; those there get `grace_s` to end, then they are cancelled. Returns when
  // the thread has ended; on the thread itself, that is in a sink, at once. A second call from
  // another thread with less grace shortens the first.
  void stop(double grace_s);

 private:
  class Worker;
  std::unique_ptr<Worker> worker_;
};

}  // namespace tg
