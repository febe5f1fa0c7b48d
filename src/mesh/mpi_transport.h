// What: ranks that are processes under MPI, on one host or several, watched by a watchdog each
//   (watchdog.h): a rank that died or stands still ends the whole job with one line.
// Who owns: the command, one per process. Thread: as Transport says.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "mesh/transport.h"

namespace tg {

struct MpiOptions {
  // A rank that is silent for about so long (a little less, so that all is over by then) ends the
  // job.
  double watchdog_s = 10.0;
  // What a rank holds, for messages: "(4,0)..(7,3)".
  std::function<std::string(int rank, int ranks)> place_of = {};
};

// Starts MPI, once per process, and ignores SIGPIPE from then on. The job is over, and the
// transport goes away in good order, after an empty message was broadcast; a transport that goes
// away before is a rank that failed, and it ends the job with status 2. kUnsupported: built without
// MPI, or an MPI library without threads; kIo: no socket for heartbeats.
Result<std::unique_ptr<Transport>> start_mpi(const MpiOptions& options);

}  // namespace tg
