// What: the access log: one line of JSON per finished exchange, to a file or stdout. A line that
//   cannot be written now (a full disk, a pipe that nobody empties) is lost and counted, and nobody
//   waits for it. A file is looked for by its name before every line: once it was renamed or
//   deleted, the next line begins a new one.
// Who owns: the serve command. Thread: one at a time, the server's.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "server/http_server.h"

namespace tg {

// {"time":"2026-11-28T12:00:00.123Z","remote":...} without newline, whatever bytes the path has;
// very long paths and methods are cut.
std::string access_log_line(const HttpRecord& record);

class AccessLog {
 public:
  // Tells whoever looks after the server that lines are lost, or are not any more.
  using Say = std::function<void(const std::string& message)>;

  // A file to append to, or "-" for stdout. kIo: it cannot be opened. Signals of writing (SIGPIPE,
  // SIGXFSZ) must be ignored by then.
  static Result<std::unique_ptr<AccessLog>> open(const std::string& path, Say say);
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  void write(std::string_view line);
  std::int64_t lost() const { return lost_; }

 private:
  using Clock = std::chrono::steady_clock;

  AccessLog(std::string path, int file, Say say);
  bool follow_path();
  void take(int file);
  bool put_rest();
  void fail(const char* reason);
  void lose_line() { ++lost_; }
  void close();

  const std::string path_;  // empty: stdout
  const Say say_;
  int file_ = -1;
  std::string rest_;  // of a line of which a part is written: nothing else may come before it

  std::int64_t lost_ = 0;
  std::int64_t lost_and_said_ = 0;
  bool failing_ = false;
  bool failure_said_ = false;
  Clock::time_point quiet_until_ = Clock::time_point::min();
};

}  // namespace tg
