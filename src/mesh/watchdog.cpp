#include "mesh/watchdog.h"

#include <fmt/format.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <utility>

namespace tg {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;

constexpr milliseconds kBeatEvery{100};
// Of the watchdog's time: what is left is for the message and for the launcher to end everybody,
// which takes a good second on one host and three and a half on several. At least half of it is for
// the silence.
constexpr double kEndingS = 4.0;
// Who is silent for so long when the job ends anyway is the one that is missing: the living are
// heard of several times in it. The launcher leaves about a second between SIGTERM and SIGKILL.
constexpr milliseconds kSilent{300};
constexpr milliseconds kLastWords{600};
// The lowest living rank has so long to speak before the others do.
constexpr milliseconds kSpeakerTakes{500};
// A watcher that did not run for so long was itself stopped, and knows nothing of the others.
constexpr milliseconds kWasStopped{1000};
// The launcher may be out of reach, and stderr full.
constexpr milliseconds kAbortTakes{200};
constexpr milliseconds kSayingTakes{900};
constexpr int kLostStatus = 1;  // of a job that lost a rank
constexpr int kSigtermStatus = 128 + SIGTERM;

// Set by the handler of SIGTERM, which may do nothing else.
std::atomic<bool> told_to_end{false};
void on_sigterm(int) { told_to_end.store(true); }
void on_sigalrm(int) { ::_exit(kLostStatus); }

// This process ends in time, whatever blocks until then.
void end_within(milliseconds time) {
  std::signal(SIGALRM, on_sigalrm);
  itimerval timer{};
  timer.it_value.tv_usec = static_cast<suseconds_t>(1000 * time.count());
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

}  // namespace

Watchdog::Watchdog(Heartbeats beats, Options options)
    : options_(std::move(options)), beats_(std::move(beats)) {
  limit_ = std::chrono::duration_cast<Clock::duration>(
      duration<double>(std::max(options_.watchdog_s - kEndingS, options_.watchdog_s / 2)));
  const Clock::time_point now = Clock::now();
  peers_.assign(static_cast<std::size_t>(options_.ranks), Peer{now, {}, now});
  std::signal(SIGTERM, on_sigterm);
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  stopping_.store(true);
  thread_.join();
  std::signal(SIGTERM, SIG_DFL);
}

void Watchdog::begin_wait(const Position& at) {
  const std::lock_guard lock(mutex_);
  position_ = at;
  progress_ = {progress_.waits + 1, true};
}

void Watchdog::end_wait() {
  const std::lock_guard lock(mutex_);
  progress_.waiting = false;
}

void Watchdog::end_job(int status) {
  stopping_.store(true);
  thread_.join();
  farewell_and_end(status);
}

void Watchdog::watch() {
  const Clock::time_point begin = Clock::now();
  Clock::time_point last_look = begin;
  while (!stopping_.load()) {
    const Progress own = own_progress();
    beats_.send(Sign::kAlive, 0, own);
    const Clock::time_point now = Clock::now();
    hear(now);
    see(peers_[static_cast<std::size_t>(options_.rank)], own, now);
    if (now - last_look > kWasStopped) {
      back_ = now;
      for (Peer& peer : peers_) peer.heard = peer.moved = now;
    }
    last_look = now;
    look_for_dead();
    if (told_to_end.load()) {
      end_after_sigterm(now);
    } else if (anybody_missing(now, limit_)) {
      end_for_missing(now);
    } else if (all_stand_still(now)) {
      end_for_standstill(now);
    } else if (!warned_ && now - begin > limit_) {
      warn_of_unheard();
    }
    std::this_thread::sleep_for(kBeatEvery);
  }
}

void Watchdog::hear(Clock::time_point now) {
  for (const Heartbeats::Beat& beat : beats_.hear()) {
    if (beat.sign == Sign::kHasSaid) ::_exit(beat.status);
    Peer& peer = peers_[static_cast<std::size_t>(beat.rank)];
    peer.heard = now;
    peer.ever = true;
    see(peer, beat.progress, now);
    if (beat.sign == Sign::kLeaves) peer.left = true;
  }
}

// A process that can be seen to be gone need not be waited for; the launcher ends the others a
// second later.
void Watchdog::look_for_dead() {
  for (int r = 0; r < options_.ranks; ++r) {
    Peer& peer = peers_[static_cast<std::size_t>(r)];
    const pid_t pid = beats_.visible_pid(r);
    if (r == options_.rank || peer.left || pid == 0) continue;
    peer.dead = ::kill(pid, 0) != 0 && errno == ESRCH;
  }
}

bool Watchdog::is_missing(std::size_t rank, Clock::time_point now, Clock::duration silence) const {
  const Peer& peer = peers_[rank];
  if (static_cast<int>(rank) == options_.rank || peer.left) return false;
  return peer.dead || (peer.ever && now - peer.heard > silence);
}

bool Watchdog::anybody_missing(Clock::time_point now, Clock::duration silence) const {
  for (std::size_t r = 0; r < peers_.size(); ++r) {
    if (is_missing(r, now, silence)) return true;
  }
  return false;
}

// Of the missing ones that were ever heard of: the others' silence says nothing.
Watchdog::Clock::duration Watchdog::longest_silence(Clock::time_point now) const {
  Clock::duration longest{};
  for (std::size_t r = 0; r < peers_.size(); ++r) {
    if (!peers_[r].ever || !is_missing(r, now, longest)) continue;
    longest = std::max(longest, now - peers_[r].heard);
  }
  return longest;
}

// The lowest rank of those that live, and stay to say something.
bool Watchdog::speaks(Clock::time_point now, Clock::duration silence) const {
  for (std::size_t r = 0; r < static_cast<std::size_t>(options_.rank); ++r) {
    if (!peers_[r].left && !is_missing(r, now, silence)) return false;
  }
  return true;
}

// Of ranks that all know it the lowest one that lives says it; the others wait for it a little.
void Watchdog::end_when_nobody_speaks_first(Clock::time_point now, Clock::duration silence,
                                            const std::function<bool(Clock::time_point)>& still_so,
                                            const std::function<void(Clock::time_point)>& say_it) {
  if (!speaks(now, silence)) {
    // hear() ends this process when the other one has said it.
    for (const Clock::time_point begin = now; now - begin < kSpeakerTakes; now = Clock::now()) {
      beats_.send(Sign::kAlive, 0, own_progress());
      hear(now);
      std::this_thread::sleep_for(kBeatEvery / 4);
    }
    if (!still_so(now)) return;
  }
  say_it(now);
  farewell_and_end(kLostStatus);
}

void Watchdog::end_for_missing(Clock::time_point now) {
  // Who fell silent together with the first one is missing, too; on a crowded machine a rank that
  // lives may well be late by a few beats.
  const Clock::duration silence = limit_ / 2;
  end_when_nobody_speaks_first(
      now, silence, [this](Clock::time_point t) { return anybody_missing(t, limit_); },
      [this, silence](Clock::time_point t) { say(t, silence); });
}

// Each rank's main thread waits for another rank, and has not gone on for the whole time.
bool Watchdog::all_stand_still(Clock::time_point now) const {
  for (std::size_t r = 0; r < peers_.size(); ++r) {
    const Peer& peer = peers_[r];
    const bool known = peer.ever || static_cast<int>(r) == options_.rank;
    if (!known || peer.left || !peer.progress.waiting || now - peer.moved < limit_) return false;
  }
  return true;
}

void Watchdog::end_for_standstill(Clock::time_point now) {
  end_when_nobody_speaks_first(
      now, limit_ / 2, [this](Clock::time_point t) { return all_stand_still(t); },
      [this](Clock::time_point) {
        end_within(kSayingTakes);
        say_line(fmt::format("all {} ranks wait for each other and none has gone on for {:.1f} s",
                             options_.ranks, duration<double>(limit_).count()));
      });
}

Progress Watchdog::own_progress() {
  const std::lock_guard lock(mutex_);
  return progress_;
}

void Watchdog::see(Peer& peer, const Progress& progress, Clock::time_point now) {
  if (peer.progress == progress) return;
  peer.progress = progress;
  peer.moved = now;
}

// A rank died and the launcher ends the others, or somebody ended the job.
void Watchdog::end_after_sigterm(Clock::time_point now) {
  if (told_ == Clock::time_point{}) told_ = now;
  const bool late = now - told_ > kLastWords;
  // A rank that was stopped itself wakes up when the others have gone.
  const bool knows = back_ == Clock::time_point{} || told_ - back_ > kWasStopped;
  if (knows && anybody_missing(now, kSilent) && (late || speaks(now, kSilent))) {
    // Who fell silent much later than the first one ended because of that.
    say(now, std::max<Clock::duration>(kSilent, longest_silence(now) / 2));
    farewell_and_end(kSigtermStatus);
  }
  if (knows && !late) return;
  for (int i = 0; i < 3; ++i) beats_.send(Sign::kLeaves);
  ::_exit(kSigtermStatus);
}

void Watchdog::farewell_and_end(int status) {
  // A datagram may be lost, and the reader may be slow; one that never comes is reported missing.
  for (int i = 0; i < 3; ++i) {
    beats_.send(Sign::kHasSaid, status);
    std::this_thread::sleep_for(milliseconds(10));
  }
  end_within(kAbortTakes);
  if (options_.abort_job) options_.abort_job(status);
  ::_exit(status);
}

void Watchdog::say(Clock::time_point now, Clock::duration silence) {
  end_within(kSayingTakes);
  std::string missing;
  for (std::size_t r = 0; r < peers_.size(); ++r) {
    if (!is_missing(r, now, silence)) continue;
    missing += fmt::format(
        "{}rank {} with devices {} ", missing.empty() ? "" : ", ", r,
        options_.place_of ? options_.place_of(static_cast<int>(r), options_.ranks) : "?");
    missing += peers_[r].dead ? "has ended"
                              : fmt::format("not heard of for {:.1f} s",
                                            duration<double>(now - peers_[r].heard).count());
  }
  say_line(missing);
}

void Watchdog::say_line(const std::string& what) {
  const std::lock_guard lock(mutex_);
  const std::string layer =
      position_.layer < 0 ? std::string() : fmt::format(", layer {}", position_.layer);
  fmt::print(stderr, "llama-tg: error: {}; rank {} {} {}, step {}{}. The job ends.\n", what,
             options_.rank, progress_.waiting ? "waits in" : "was last in", position_.collective,
             position_.step, layer);
  std::fflush(stderr);
}

void Watchdog::warn_of_unheard() {
  warned_ = true;
  std::string unheard;
  for (std::size_t r = 0; r < peers_.size(); ++r) {
    if (static_cast<int>(r) == options_.rank || peers_[r].ever) continue;
    unheard += fmt::format("{}{}", unheard.empty() ? "" : ", ", r);
  }
  if (unheard.empty()) return;
  fmt::print(
      stderr,
      "llama-tg: warning: rank {} hears no heartbeats (UDP) of rank {}: should that one stand "
      "still, nobody will say so\n",
      options_.rank, unheard);
  std::fflush(stderr);
}

}  // namespace tg
