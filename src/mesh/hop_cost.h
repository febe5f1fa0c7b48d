// What: what one collective costs on links: how many hops follow each other, the bytes on each
//   link, and an estimate of the time, from the hop schedule that the executors follow.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <span>

#include "mesh/hop_schedule.h"

namespace tg {

// Between neighbours of a mesh, one direction. The defaults are a Wormhole Galaxy's: ports of
// 100 Gbit/s, four to each neighbour (--num-links).
struct LinkModel {
  std::int64_t links = 4;
  double bytes_per_s = 12.5e9;  // of one link
  double hop_s = 1e-6;          // from the first byte sent to the first byte had
};

struct HopCost {
  std::int64_t hops = 0;     // one after the other: of the longest way
  std::int64_t bytes = 0;    // over all links of one group of devices
  std::int64_t busiest = 0;  // over the busiest pair of neighbours, one direction
  double seconds = 0.0;      // hops and the busiest pair's bytes; all pairs work at once
};

// segment_bytes: [devices] of each segment as it crosses a link.
HopCost cost_of(const HopSchedule& schedule, std::span<const std::int64_t> segment_bytes,
                const LinkModel& links);

}  // namespace tg
