// What: how many tasks want a CPU of this machine: what a measurement shares it with.
// Who owns: nothing. Thread: any.
#pragma once

#include <cstdlib>

namespace tg {

// Over the last minute; 0 where the system does not say.
inline double load_average() {
  double minute = 0.0;
  return ::getloadavg(&minute, 1) == 1 ? minute : 0.0;
}

}  // namespace tg
