// What: what the connections of a server have in common: its event loop, its options, and who is
//   connected. Shows Boost: included by http_*.cpp only.
// Who owns: server, connections and exchanges share it, so it may outlive any of them.
// Thread: the server's, but for post() and `connections`.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <unordered_set>

#include "server/http_server.h"

namespace tg {

class HttpConnection;

template <typename T = void>
using HttpTask = boost::asio::awaitable<T>;

struct HttpShared {
  using Clock = std::chrono::steady_clock;

  boost::asio::io_context io{1};
  HttpOptions options;
  HttpHandler handler;
  std::optional<boost::asio::ssl::context> tls;
  std::unordered_set<HttpConnection*> open;
  std::atomic<std::int64_t> connections{0};  // open.size(), for other threads
  std::int64_t refusing = 0;                 // of them: only there to be told 503
  std::int64_t body_bytes = 0;               // of requests that have no answer yet
  bool stopping = false;
  std::array<char, 64 << 10> scratch;  // what is read lands here first
  boost::asio::steady_timer tick{io};  // see http_server.cpp; cancelled when there is news

  // Runs `work` on the server's thread; here and now once that has ended.
  void post(std::function<void()> work);
  // The server's thread is about to end.
  void end_posts();
  const std::string& date();
  std::string make_id();

 private:
  std::uint64_t id_state_ = std::random_device()();
  std::mutex post_mutex_;
  bool ended_ = false;
  std::time_t date_time_ = 0;
  std::string date_;
};

// Whatever a caller's function throws stays here.
template <typename F>
void call_safely(F&& function) {
  try {
    function();
  } catch (...) {  // NOLINT(bugprone-empty-catch): there is nobody to tell
  }
}

}  // namespace tg
