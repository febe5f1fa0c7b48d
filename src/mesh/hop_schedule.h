// What: the ways that the parts ("segments") of a tensor take over n devices in a reduce-scatter or
//   an all-gather, as pure data. The way is the order of additions, so ring and line give different
//   last bits, and every executor (one process, many) that follows it gives the same ones.
//   Ring and line ("bucket") algorithms as in R. Thakur, R. Rabenseifner, W. Gropp, "Optimization
//   of Collective Communication Operations in MPICH", 2005; a line has no link from the last device
//   to the first, so everything goes both ways from its ends.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <vector>

namespace tg {

enum class HopAlgorithm : std::uint8_t { kRing, kLine };
enum class HopWork : std::uint8_t { kReduceScatter, kAllGather };

// One message's way: it starts at devices.front() and hops to the next, and so on.
//   kReduceScatter: the first device's summand sets out, each device adds its own to what arrives
//     (sum so far + own) and passes it on; the last one is the segment's owner.
//   kAllGather: the owner's segment sets out, each device keeps a copy and passes it on.
struct Stream {
  std::int64_t segment = 0;
  std::vector<std::int64_t> devices;
  // The last device adds what arrives to the sum of the segment's first stream (that + this) and
  // has no summand of its own in it: the second arm of a line.
  bool joins = false;
};

struct HopSchedule {
  HopWork work = HopWork::kReduceScatter;
  HopAlgorithm algorithm = HopAlgorithm::kRing;
  std::int64_t devices = 1;
  // Segments ascending; a segment's joining stream comes after its first.
  std::vector<Stream> streams;
};

// n >= 1 devices, as many segments; segment i belongs to device i.
HopSchedule make_hop_schedule(HopWork work, HopAlgorithm algorithm, std::int64_t n);

}  // namespace tg
