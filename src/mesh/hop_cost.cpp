#include "mesh/hop_cost.h"

#include <algorithm>
#include <vector>

namespace tg {

HopCost cost_of(const HopSchedule& schedule, std::span<const std::int64_t> segment_bytes,
                const LinkModel& links) {
  HopCost cost;
  const auto n = static_cast<std::size_t>(schedule.devices);
  std::vector<std::int64_t> pairs(n * n, 0);
  for (const Stream& stream : schedule.streams) {
    const std::int64_t bytes = segment_bytes[static_cast<std::size_t>(stream.segment)];
    cost.hops = std::max(cost.hops, static_cast<std::int64_t>(stream.devices.size()) - 1);
    for (std::size_t i = 0; i + 1 < stream.devices.size(); ++i) {
      const auto from = static_cast<std::size_t>(stream.devices[i]);
      pairs[from * n + static_cast<std::size_t>(stream.devices[i + 1])] += bytes;
      cost.bytes += bytes;
    }
  }
  cost.busiest = *std::max_element(pairs.begin(), pairs.end());
  cost.seconds =
      static_cast<double>(cost.hops) * links.hop_s +
      static_cast<double>(cost.busiest) / (static_cast<double>(links.links) * links.bytes_per_s);
  return cost;
}

}  // namespace tg
