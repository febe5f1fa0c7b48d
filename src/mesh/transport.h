// What: how the processes (ranks) of one mesh exchange bytes. What they hold and in which order it
//   is added is the collectives' matter (mesh.h); a transport only moves messages.
//   Implementations: MPI (mpi_transport.h); ranks that are threads of one process (tests).
// Who owns: the caller; it outlives the mesh. Thread: one thread calls, between parallel regions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tg {

// Where in the work a rank is: what a watchdog says when somebody does not come.
struct Position {
  std::string collective;  // "all_gather WO over rows, ring"; a watchdog keeps it beyond the mesh
  std::int64_t step = 0;
  std::int64_t layer = -1;  // -1: outside of the layers
};

struct Outgoing {
  int to = 0;       // rank
  int channel = 0;  // 0..7: tells apart messages between the same two ranks in one exchange
  std::span<const std::byte> bytes;
};

struct Incoming {
  int from = 0;
  int channel = 0;
  std::span<std::byte> bytes;
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;

  // Sends and receives all of these, and returns when all have gone and come. Both sides know the
  // sizes; at most one message per peer, direction and channel. A peer that does not come ends the
  // whole job with a message (it does not return).
  virtual void exchange(const Position& at, std::span<const Outgoing> sends,
                        std::span<const Incoming> receives) = 0;

  // Rank 0's `message` becomes everybody's. Waiting for it may take as long as rank 0 has nothing
  // to do, so only a rank 0 that is gone ends the job. An empty message says that the job is over.
  virtual void broadcast(const Position& at, std::vector<std::byte>& message) = 0;

  // Payload bytes given to exchange() so far.
  virtual std::uint64_t bytes_sent() const = 0;
};

}  // namespace tg
