// The one file that knows MPI (plain C calls of MPI 3). Without it, start_mpi() says so.
#include "mesh/mpi_transport.h"

#ifndef TG_WITH_MPI

namespace tg {
Result<std::unique_ptr<Transport>> start_mpi(const MpiOptions&) {
  return error(ErrorCode::kUnsupported,
               "several ranks: this program was built without MPI (Debian: libopenmpi-dev)");
}
}  // namespace tg

#else

#include <fmt/format.h>
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>

#include "mesh/heartbeats.h"
#include "mesh/watchdog.h"

namespace tg {
namespace {

using std::chrono::duration;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr int kBroadcastTag = 100;
// Partners and sizes of a decode step are a few; prefill steps of ever new lengths must not pile
// up.
constexpr std::size_t kMostChannels = 512;
constexpr int kFailedStatus = 2;

// A wait that begins as a spin, since a partner on a core of its own comes within microseconds, and
// soon gives the core away, since ranks may outnumber cores.
class Patience {
 public:
  explicit Patience(microseconds longest) : longest_(longest) {}
  void wait() {
    ++turns_;
    if (turns_ < 200) return;
    if (turns_ < 1000) {
      ::sched_yield();
      return;
    }
    std::this_thread::sleep_for(pause_);
    pause_ = std::min(2 * pause_, longest_);
  }

 private:
  int turns_ = 0;
  microseconds pause_{20};
  microseconds longest_;
};

class MpiTransport final : public Transport {
 public:
  MpiTransport(const MpiOptions& options, Heartbeats beats) : watchdog_s_(options.watchdog_s) {
    MPI_Comm_dup(MPI_COMM_WORLD, &messages_);
    MPI_Comm_rank(messages_, &rank_);
    MPI_Comm_size(messages_, &ranks_);
    introduce(beats);
    // Nobody is watched before everybody is there: programs start at different speeds.
    MPI_Barrier(messages_);
    // A lost connection may be reported to the caller, who does not know which rank is missing.
    MPI_Comm_set_errhandler(messages_, MPI_ERRORS_RETURN);
    watchdog_.emplace(std::move(beats),
                      Watchdog::Options{rank_, ranks_, options.watchdog_s, options.place_of,
                                        [](int status) { MPI_Abort(MPI_COMM_WORLD, status); }});
  }

  ~MpiTransport() override {
    if (!over_) {
      std::fflush(nullptr);
      watchdog_->end_job(kFailedStatus);
    }
    // Everybody watches until everybody is here.
    MPI_Request all_here = MPI_REQUEST_NULL;
    require(MPI_Ibarrier(messages_, &all_here));
    wait_for({"the end of the job", 0, -1}, {&all_here, 1}, milliseconds(1));
    watchdog_.reset();
    forget_channels();
    MPI_Comm_free(&messages_);
    MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int ranks() const override { return ranks_; }
  std::uint64_t bytes_sent() const override { return bytes_sent_; }

  void exchange(const Position& at, std::span<const Outgoing> sends,
                std::span<const Incoming> receives) override {
    if (channels_.size() > kMostChannels) forget_channels();
    started_.clear();
    for (const Incoming& in : receives) start(in.from, in.channel, kComing, in.bytes.size());
    for (const Outgoing& out : sends) {
      Channel& channel = channel_of(out.to, out.channel, kGoing, out.bytes.size());
      std::memcpy(channel.buffer.data(), out.bytes.data(), out.bytes.size());
      start(out.to, out.channel, kGoing, out.bytes.size());
      bytes_sent_ += out.bytes.size();
    }
    wait_for(at, started_, microseconds(50));
    for (const Incoming& in : receives) {
      const Channel& channel = channel_of(in.from, in.channel, kComing, in.bytes.size());
      std::memcpy(in.bytes.data(), channel.buffer.data(), in.bytes.size());
    }
  }

  void broadcast(const Position& at, std::vector<std::byte>& message) override {
    if (rank_ == 0) {
      TG_CHECK(message.size() <= INT_MAX);
      std::vector<MPI_Request> sends(static_cast<std::size_t>(ranks_ - 1));
      for (int r = 1; r < ranks_; ++r) {
        require(MPI_Isend(message.data(), static_cast<int>(message.size()), MPI_BYTE, r,
                          kBroadcastTag, messages_, &sends[static_cast<std::size_t>(r - 1)]));
      }
      wait_for(at, sends, microseconds(50));
    } else {
      // Rank 0 may have nothing to do for hours.
      watchdog_->begin_wait(at);
      Patience patience(milliseconds(1));
      int here = 0;
      MPI_Message incoming = MPI_MESSAGE_NULL;
      MPI_Status status;
      for (;;) {
        require(MPI_Improbe(0, kBroadcastTag, messages_, &here, &incoming, &status));
        if (here != 0) break;
        patience.wait();
      }
      int size = 0;
      MPI_Get_count(&status, MPI_BYTE, &size);
      message.resize(static_cast<std::size_t>(size));
      MPI_Request receive = MPI_REQUEST_NULL;
      require(MPI_Imrecv(message.data(), size, MPI_BYTE, &incoming, &receive));
      wait_for(at, {&receive, 1}, microseconds(50));
    }
    over_ = message.empty();
  }

 private:
  enum Direction { kComing, kGoing };
  // A persistent request and the memory that it is bound to.
  struct Channel {
    std::vector<std::byte> buffer;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  Channel& channel_of(int peer, int number, Direction direction, std::size_t bytes) {
    TG_CHECK(bytes <= INT_MAX);
    Channel& channel = channels_[{peer, number, direction, bytes}];
    if (channel.request == MPI_REQUEST_NULL) {
      channel.buffer.resize(std::max<std::size_t>(bytes, 1));
      const auto count = static_cast<int>(bytes);
      if (direction == kComing) {
        MPI_Recv_init(channel.buffer.data(), count, MPI_BYTE, peer, number, messages_,
                      &channel.request);
      } else {
        MPI_Send_init(channel.buffer.data(), count, MPI_BYTE, peer, number, messages_,
                      &channel.request);
      }
    }
    return channel;
  }

  void start(int peer, int number, Direction direction, std::size_t bytes) {
    Channel& channel = channel_of(peer, number, direction, bytes);
    require(MPI_Start(&channel.request));
    started_.push_back(channel.request);
  }

  void forget_channels() {
    for (auto& [key, channel] : channels_) MPI_Request_free(&channel.request);
    channels_.clear();
  }

  void wait_for(const Position& at, std::span<MPI_Request> requests, microseconds longest_pause) {
    watchdog_->begin_wait(at);
    Patience patience(longest_pause);
    int done = 0;
    for (;;) {
      require(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done,
                          MPI_STATUSES_IGNORE));
      if (done != 0) break;
      patience.wait();
    }
    watchdog_->end_wait();
  }

  // Tells all ranks where each of them is.
  void introduce(Heartbeats& beats) {
    std::random_device entropy;
    std::uint64_t job = (std::uint64_t{entropy()} << 32) | entropy();
    MPI_Bcast(&job, sizeof(job), MPI_BYTE, 0, messages_);
    std::vector<Whereabouts> all(static_cast<std::size_t>(ranks_));
    const Whereabouts mine = beats.here();
    MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, all.data(), sizeof(mine), MPI_BYTE, messages_);
    beats.join(rank_, std::move(all), job);
  }

  // The network gave up. Mostly a rank is gone: then the watchdog says which and ends this process
  // in the meantime.
  void require(int code) {
    if (code == MPI_SUCCESS) return;
    std::this_thread::sleep_for(duration<double>(watchdog_s_));
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(code, text.data(), &length);
    fmt::print(stderr, "llama-tg: error: rank {}: MPI failed: {}\n", rank_, text.data());
    watchdog_->end_job(kFailedStatus);
  }

  double watchdog_s_;
  MPI_Comm messages_ = MPI_COMM_NULL;
  int rank_ = 0;
  int ranks_ = 1;
  bool over_ = false;
  std::uint64_t bytes_sent_ = 0;
  std::map<std::tuple<int, int, Direction, std::size_t>, Channel> channels_;
  std::vector<MPI_Request> started_;

  std::optional<Watchdog> watchdog_;
};

}  // namespace

Result<std::unique_ptr<Transport>> start_mpi(const MpiOptions& options) {
  Result<Heartbeats> beats = Heartbeats::open();
  if (!beats) return tl::unexpected<Error>(std::move(beats).error());
  // Open MPI writes to connections whose other end has gone.
  std::signal(SIGPIPE, SIG_IGN);
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
  if (provided < MPI_THREAD_MULTIPLE) {
    MPI_Finalize();
    return error(ErrorCode::kUnsupported,
                 "this MPI library does not allow calls from several threads");
  }
  return std::make_unique<MpiTransport>(options, std::move(*beats));
}

}  // namespace tg

#endif
