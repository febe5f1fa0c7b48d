// What: finds the rank that died or stands still, and ends this process with one line that says who
//   is missing and what waits for it. Each rank has one, and the lowest rank that is alive speaks.
//   A rank that computes for long is not taken for one that stands still; but ranks that all wait
//   for each other, and none goes on, end the job too. When the launcher ends
//   the job first (it does so when a rank dies), the line comes too.
// Who owns: the transport. Thread: its own one watches and calls no MPI, so that it goes on when
// MPI
//   blocks; the transport's thread says what it waits for.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "mesh/heartbeats.h"
#include "mesh/transport.h"

namespace tg {

class Watchdog {
 public:
  struct Options {
    int rank = 0;
    int ranks = 1;
    // A rank that is silent for about so long ends the job: a little less, so that all is over
    // then.
    double watchdog_s = 10.0;
    std::function<std::string(int rank, int ranks)> place_of = {};  // what a rank holds
    // Tells the launcher. May come back, or block: the process ends all the same.
    std::function<void(int status)> abort_job = {};
  };

  // The heartbeats have joined. Takes over SIGTERM, and SIGALRM at the end; at most one per
  // process.
  Watchdog(Heartbeats beats, Options options);
  // Watches no more; the process goes on.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // What the transport's thread waits for, until end_wait().
  void begin_wait(const Position& at);
  void end_wait();

  // Ends the job on purpose, by the transport's thread; whoever does so has said why.
  [[noreturn]] void end_job(int status);

 private:
  using Clock = std::chrono::steady_clock;
  struct Peer {
    Clock::time_point heard;
    Progress progress;
    Clock::time_point moved;  // when the progress last changed
    bool ever = false;        // else heartbeats may not get through at all
    bool left = false;        // on purpose
    bool dead = false;        // its process is gone
  };

  void watch();
  void hear(Clock::time_point now);
  void look_for_dead();
  bool is_missing(std::size_t rank, Clock::time_point now, Clock::duration silence) const;
  bool anybody_missing(Clock::time_point now, Clock::duration silence) const;
  Clock::duration longest_silence(Clock::time_point now) const;
  bool speaks(Clock::time_point now, Clock::duration silence) const;
  void say(Clock::time_point now, Clock::duration silence);
  void warn_of_unheard();
  Progress own_progress();
  static void see(Peer& peer, const Progress& progress, Clock::time_point now);
  bool all_stand_still(Clock::time_point now) const;
  void end_when_nobody_speaks_first(Clock::time_point now, Clock::duration silence,
                                    const std::function<bool(Clock::time_point)>& still_so,
                                    const std::function<void(Clock::time_point)>& say_it);
  void end_for_missing(Clock::time_point now);
  void end_for_standstill(Clock::time_point now);
  void say_line(const std::string& what);
  void end_after_sigterm(Clock::time_point now);
  [[noreturn]] void farewell_and_end(int status);

  Options options_;
  Heartbeats beats_;
  Clock::duration limit_{};  // of silence
  // Of the watching thread:
  std::vector<Peer> peers_;   // [rank]
  Clock::time_point told_{};  // when SIGTERM was seen
  Clock::time_point back_{};  // when this process last went on after a stop
  bool warned_ = false;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // guards the next two
  Position position_{"the start of the job", 0, -1};
  Progress progress_;
  std::thread thread_;
};

}  // namespace tg
