// What: signs of life between the ranks of a job, as datagrams (UDP) on a socket of their own. MPI
//   libraries can wait for ever inside a call when a connection is lost, with their locks held; a
//   thread that never calls them still beats, hears and can say who is missing.
// Who owns: the transport. Thread: one at a time; nothing here waits.
#pragma once

#include <netinet/in.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/result.h"

namespace tg {

// Where a rank is, as it tells all others: plain bytes of one size.
struct Whereabouts {
  std::uint64_t processes = 0;  // which machine (since it started) and whose process numbers
  std::uint64_t network = 0;    // the same of network addresses
  std::int64_t pid = 0;
  std::uint32_t port = 0;
  std::array<std::uint32_t, 8> addresses{};  // IPv4 as sockets have it; 0: none
};

enum class Sign : std::uint8_t {
  kAlive,
  kLeaves,   // ends because the launcher said so: it is not missing
  kHasSaid,  // ends the job and has said why
};

// Whether a rank goes on: ranks that all wait, for each other, never will.
struct Progress {
  std::uint64_t waits = 0;  // begun so far
  bool waiting = false;     // for other ranks

  bool operator==(const Progress&) const = default;
};

class Heartbeats {
 public:
  struct Beat {
    int rank = 0;
    Sign sign = Sign::kAlive;
    int status = 0;  // exit status of the one that has said why
    Progress progress;
  };

  // kIo when there are no sockets.
  static Result<Heartbeats> open();
  Heartbeats(Heartbeats&& other) noexcept;
  Heartbeats& operator=(Heartbeats&&) = delete;
  ~Heartbeats();

  const Whereabouts& here() const { return here_; }

  // `all` has every rank's here(), in their order; `job` is a number that other jobs do not have.
  void join(int rank, std::vector<Whereabouts> all, std::uint64_t job);

  // The number of a rank's process, or 0 when its processes cannot be seen from here.
  pid_t visible_pid(int rank) const;

  // To all others. What the network does not take is lost.
  void send(Sign sign, int status = 0, Progress progress = {});

  // What has come since the last call.
  std::vector<Beat> hear();

 private:
  explicit Heartbeats(int socket) : socket_(socket) {}
  void send_to(const sockaddr_in& address, const void* letter, std::size_t bytes) const;

  int socket_ = -1;
  int rank_ = 0;
  std::uint64_t job_ = 0;
  Whereabouts here_;
  std::vector<Whereabouts> all_;
  // [rank] Where its last letter came from; before the first, every address it has is tried.
  std::vector<sockaddr_in> known_;
};

}  // namespace tg
