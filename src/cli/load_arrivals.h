// What: when each request of a load run is sent.
// Who owns: pure functions. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tg {

// Seconds since the begin, ascending. An infinite `rate` sends everything at once. Else the gaps
// are gamma-distributed with the mean 1/rate and the shape `burstiness` (1: a Poisson process;
// below it they cluster, far above it they are even), and scaled so that the last is at
// count / rate: runs with different seeds offer the same load (as `vllm bench serve` does it).
std::vector<double> arrival_times(std::size_t count, double rate, double burstiness,
                                  std::uint64_t seed);

}  // namespace tg
