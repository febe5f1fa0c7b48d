#include "mesh/hop_schedule.h"

#include <utility>

namespace tg {
namespace {

// From `from` to `to` in single steps, both included.
std::vector<std::int64_t> walk(std::int64_t from, std::int64_t to) {
  std::vector<std::int64_t> devices{from};
  while (from != to) {
    from += from < to ? 1 : -1;
    devices.push_back(from);
  }
  return devices;
}

// `count` devices from `from` on, upwards and round.
std::vector<std::int64_t> walk_round(std::int64_t from, std::int64_t count, std::int64_t n) {
  std::vector<std::int64_t> devices;
  devices.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) devices.push_back((from + i) % n);
  return devices;
}

}  // namespace

HopSchedule make_hop_schedule(HopWork work, HopAlgorithm algorithm, std::int64_t n) {
  HopSchedule schedule{work, algorithm, n, {}};
  const bool reduce = work == HopWork::kReduceScatter;
  for (std::int64_t s = 0; s < n; ++s) {
    if (algorithm == HopAlgorithm::kRing) {
      schedule.streams.push_back({s, walk_round(reduce ? (s + 1) % n : s, n, n), false});
    } else if (reduce) {
      schedule.streams.push_back({s, walk(0, s), false});
      if (s < n - 1) schedule.streams.push_back({s, walk(n - 1, s), true});
    } else {
      schedule.streams.push_back({s, walk(s, n - 1), false});
      if (s > 0) schedule.streams.push_back({s, walk(s, 0), false});
    }
  }
  return schedule;
}

}  // namespace tg
