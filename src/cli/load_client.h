// What: sends the requests of a load run at their times and reads the streamed answers, hundreds at
//   once on one thread (libcurl's multi interface). Times are taken as bytes come off a socket,
//   before anything is made of them.
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/load_answer.h"
#include "cli/load_requests.h"

namespace tg {

struct LoadServer {
  std::string base_url;  // of parse_base_url()
  std::string endpoint = "/v1/completions";
  std::string api_key;               // empty: none
  std::int64_t most_silent_s = 600;  // without a byte; then the request has failed
};

struct LoadJob {
  std::span<const double> starts_s;  // ascending; one request each
  std::int64_t max_concurrency = 0;  // 0: none; a request waits for its turn, and that time is not
                                     // part of its latency
  std::function<LoadRequest(std::size_t index)> request;
  std::function<bool()> stopped;                    // asked at least ten times a second
  std::function<void(std::size_t ended)> progress;  // after each answer
};

struct LoadRun {
  std::vector<LoadAnswer> answers;  // of the requests that were sent, in their order
  std::int64_t most_concurrent = 0;
  bool stopped = false;
};

// Whatever a server answers is an answer (`failure` says what is wrong with it). kOutOfCapacity
// when the process may not have as many connections open as the job needs.
Result<LoadRun> run_load(const LoadServer& server, const LoadJob& job);

// The body of GET `path`, where the status is 200; else `status` says so. kIo, with the URL and the
// reason, when no server answers within ten seconds.
struct ServerReply {
  long status = 0;
  std::string body;
};
Result<ServerReply> ask_server(const LoadServer& server, const std::string& path);

}  // namespace tg
