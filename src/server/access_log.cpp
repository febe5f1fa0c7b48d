#include "server/access_log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cmath>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "text/utf8.h"

namespace tg {
namespace {

// Nobody needs more of what may be 64 KiB of somebody's nonsense, up to six times as long in JSON.
constexpr std::size_t kLongestPath = 2048;
constexpr std::size_t kLongestMethod = 32;
// A disk that is full every other moment is said once in this time.
constexpr auto kQuiet = std::chrono::seconds(60);

std::string clipped(std::string_view text, std::size_t most) {
  if (text.size() <= most) return std::string(text);
  return std::string(text.substr(0, valid_utf8_prefix(text.substr(0, most)))) + "...";
}

// At once, or not at all: a pipe without a reader is an error then, and one that is full too.
int open_log(const std::string& path) {
  constexpr mode_t kMode = 0644;
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                kMode);
}

// A server that was killed may have left half a line.
bool ends_inside_a_line(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file < 0) return false;
  struct stat status = {};
  char last = '\n';
  if (::fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
    if (::pread(file, &last, 1, status.st_size - 1) != 1) last = '\n';
  }
  ::close(file);
  return last != '\n';
}

}  // namespace

std::string access_log_line(const HttpRecord& record) {
  const double whole = std::floor(record.unix_time_s);
  const auto time = static_cast<std::time_t>(whole);
  std::tm utc{};
  ::gmtime_r(&time, &utc);
  const nlohmann::ordered_json line = {
      {"time", fmt::format("{:%FT%T}.{:03}Z", utc,
                           static_cast<int>((record.unix_time_s - whole) * 1000.0))},
      {"remote", record.remote},
      {"method", clipped(record.method, kLongestMethod)},
      {"path", clipped(record.path, kLongestPath)},
      {"status", record.status},
      {"bytes", record.bytes},
      {"ms", std::round(record.seconds * 1e6) / 1e3},
      {"id", record.id},
      {"complete", record.complete},
  };
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Result<std::unique_ptr<AccessLog>> AccessLog::open(const std::string& path, Say say) {
  if (path == "-")
    return std::unique_ptr<AccessLog>(new AccessLog({}, STDOUT_FILENO, std::move(say)));
  const int file = open_log(path);
  if (file < 0) return error(ErrorCode::kIo, "{}: {}", path, std::strerror(errno));
  return std::unique_ptr<AccessLog>(new AccessLog(path, file, std::move(say)));
}

AccessLog::AccessLog(std::string path, int file, Say say)
    : path_(std::move(path)), say_(std::move(say)) {
  take(file);
}

AccessLog::~AccessLog() {
  if (!rest_.empty() && !put_rest() && rest_.size() > 1) lose_line();
  if (lost_ > lost_and_said_) {
    say_(fmt::format("the access log has lost {} lines", lost_ - lost_and_said_));
  }
  close();
}

void AccessLog::close() {
  if (file_ >= 0 && !path_.empty()) ::close(file_);
  file_ = -1;
}

void AccessLog::take(int file) {
  if (rest_.size() > 1) lose_line();  // its beginning is in the old file
  rest_.clear();
  close();
  file_ = file;
  if (!path_.empty() && ends_inside_a_line(path_)) rest_ = "\n";
}

// Whether file_ is what the path names by now.
bool AccessLog::follow_path() {
  if (path_.empty()) return true;
  struct stat named = {};
  struct stat opened = {};
  if (::stat(path_.c_str(), &named) == 0 && ::fstat(file_, &opened) == 0 &&
      named.st_dev == opened.st_dev && named.st_ino == opened.st_ino) {
    return true;
  }
  const int file = open_log(path_);
  if (file < 0) return false;
  take(file);
  return true;
}

// False with errno when not all of it went out. Pieces that a pipe takes whole or not at all, once
// it says that it takes something: so no write waits, on stdout too, whose mode is not ours.
bool AccessLog::put_rest() {
  while (!rest_.empty()) {
    pollfd ready{.fd = file_, .events = POLLOUT, .revents = 0};
    if (::poll(&ready, 1, 0) == 0) errno = EAGAIN;
    const ssize_t count =
        ready.revents == 0
            ? -1
            : ::write(file_, rest_.data(), std::min<std::size_t>(rest_.size(), PIPE_BUF));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    rest_.erase(0, static_cast<std::size_t>(count));
  }
  return true;
}

void AccessLog::write(std::string_view line) {
  bool written = follow_path();
  if (written) written = put_rest();
  if (!written) {
    lose_line();
    return fail(std::strerror(errno));
  }
  rest_ = line;
  rest_ += '\n';
  const std::size_t whole = rest_.size();
  if (!put_rest()) {
    const int number = errno;
    if (rest_.size() == whole) {
      rest_.clear();
      lose_line();
    }
    return fail(std::strerror(number));
  }
  if (!std::exchange(failing_, false) || !std::exchange(failure_said_, false)) return;
  say_(fmt::format("access log {}: it can be written again; {} lines were lost",
                   path_.empty() ? "on stdout" : path_, lost_ - lost_and_said_));
  lost_and_said_ = lost_;
}

void AccessLog::fail(const char* reason) {
  if (std::exchange(failing_, true)) return;
  const auto now = Clock::now();
  if (now < quiet_until_) return;
  quiet_until_ = now + kQuiet;
  failure_said_ = true;
  say_(fmt::format("access log {}: {}; lines are lost until it can be written",
                   path_.empty() ? "on stdout" : path_, reason));
}

}  // namespace tg
