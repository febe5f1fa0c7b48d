#include "cli/load_arrivals.h"

#include <cmath>
#include <random>

namespace tg {

std::vector<double> arrival_times(std::size_t count, double rate, double burstiness,
                                  std::uint64_t seed) {
  std::vector<double> times(count, 0.0);
  if (std::isinf(rate)) return times;
  std::mt19937_64 random(seed);
  std::gamma_distribution<double> gap(burstiness, 1.0 / (rate * burstiness));
  double now = 0.0;
  for (double& time : times) time = now += gap(random);
  const double end = static_cast<double>(count) / rate;
  // Gaps of a tiny shape are often 0, all of a short run perhaps.
  const double scale = now > 0.0 ? end / now : 0.0;
  for (double& time : times) time *= scale;
  return times;
}

}  // namespace tg
