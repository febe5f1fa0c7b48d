// A client of a few system calls, for servers in tests: what it sends is exactly what it is told
// to send, in the pieces it is told. Every wait ends after a few seconds.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "server/http_server.h"

namespace tg {

struct ClientResponse {
  int status = 0;  // 0: none came
  std::string head;
  std::string body;       // without the framing of chunks
  bool complete = false;  // the framing says so, or the connection's end where it has none

  std::string header(std::string_view name) const {
    const auto at = head.find("\r\n" + std::string(name) + ": ");
    if (at == std::string::npos) return {};
    const auto from = at + name.size() + 4;
    return head.substr(from, head.find("\r\n", from) - from);
  }
};

class HttpClient {
 public:
  // `receive_bytes`: of the kernel's buffer, so that a client that does not read is full early.
  explicit HttpClient(int port, int receive_bytes = 0, int family = AF_INET) {
    socket_ = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_bytes > 0) {
      ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    const int yes = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_in6 address6{};
    address6.sin6_family = AF_INET6;
    address6.sin6_port = address.sin_port;
    address6.sin6_addr = in6addr_loopback;
    connected_ = family == AF_INET6 ? connect(address6) : connect(address);
  }
  HttpClient(HttpClient&& other) noexcept
      : socket_(std::exchange(other.socket_, -1)),
        connected_(other.connected_),
        received_(std::move(other.received_)),
        ended_(other.ended_) {}
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  HttpClient& operator=(HttpClient&&) = delete;
  ~HttpClient() { close(); }

  bool connected() const { return connected_; }
  int socket() const { return socket_; }

  void close() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }
  // Closes with a reset instead of an orderly end.
  void reset() {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close();
  }
  void end_sending() { ::shutdown(socket_, SHUT_WR); }

  // False when the server has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  bool get(const std::string& path, const std::string& more_headers = {}) {
    return send("GET " + path + " HTTP/1.1\r\nHost: test\r\n" + more_headers + "\r\n");
  }
  bool post(const std::string& path, const std::string& body) {
    return send("POST " + path + " HTTP/1.1\r\nHost: test\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + body);
  }

  // Whether anything came, the connection's end included.
  bool receive(double seconds = 5.0) {
    pollfd ready{.fd = socket_, .events = POLLIN, .revents = 0};
    if (ended_ || ::poll(&ready, 1, static_cast<int>(seconds * 1e3)) <= 0) return ended_;
    char buffer[16384];
    const auto n = ::recv(socket_, buffer, sizeof(buffer), 0);
    if (n <= 0) {
      ended_ = true;
    } else {
      received_.append(buffer, static_cast<std::size_t>(n));
    }
    return true;
  }
  // Reads until `text` has come; false if it does not.
  bool wait_for(std::string_view text, double seconds = 5.0) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (received_.find(text) == std::string::npos) {
      const std::chrono::duration<double> left = until - std::chrono::steady_clock::now();
      if (ended_ || left.count() <= 0.0 || !receive(left.count())) return false;
    }
    return true;
  }
  // Whether the server ends the connection.
  bool wait_for_end(double seconds = 5.0) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (!ended_) {
      const std::chrono::duration<double> left = until - std::chrono::steady_clock::now();
      if (left.count() <= 0.0 || !receive(left.count())) return false;
    }
    return true;
  }
  const std::string& received() const { return received_; }

  // The next response; `to_head`: of a HEAD request.
  ClientResponse response(bool to_head = false) {
    ClientResponse out;
    if (!wait_for("\r\n\r\n")) return out;
    const auto end = received_.find("\r\n\r\n") + 4;
    out.head = received_.substr(0, end);
    received_.erase(0, end);
    out.status = std::atoi(out.head.c_str() + std::string_view("HTTP/1.1 ").size());
    if (to_head || out.status == 204 || out.status == 304 || out.status < 200) {
      out.complete = true;
    } else if (out.header("Transfer-Encoding") == "chunked") {
      read_chunks(out);
    } else if (const std::string length = out.header("Content-Length"); !length.empty()) {
      const auto bytes = static_cast<std::size_t>(std::atoll(length.c_str()));
      while (received_.size() < bytes && !ended_ && receive()) {
      }
      out.complete = received_.size() >= bytes;
      out.body = received_.substr(0, bytes);
      received_.erase(0, bytes);
    } else {
      out.complete = wait_for_end();
      out.body = std::exchange(received_, {});
    }
    return out;
  }

 private:
  template <typename Address>
  bool connect(const Address& address) const {
    return ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }

  void read_chunks(ClientResponse& out) {
    for (;;) {
      if (!wait_for("\r\n")) return;
      const auto size = static_cast<std::size_t>(std::strtoul(received_.c_str(), nullptr, 16));
      received_.erase(0, received_.find("\r\n") + 2);
      while (received_.size() < size + 2 && !ended_ && receive()) {
      }
      if (received_.size() < size + 2) return;
      out.body += received_.substr(0, size);
      received_.erase(0, size + 2);
      if (size == 0) {
        out.complete = true;
        return;
      }
    }
  }

  int socket_ = -1;
  bool connected_ = false;
  std::string received_;
  bool ended_ = false;
};

// Waits, in small steps, until it is so.
template <typename Condition>
bool becomes_true(Condition&& condition, double seconds = 5.0) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// A server on a free port that runs from construction on.
inline std::unique_ptr<HttpServer> start_http(HttpOptions options, HttpHandler handler) {
  options.port = 0;
  auto server = HttpServer::listen(std::move(options));
  EXPECT_TRUE(server.has_value()) << server.error().text();
  if (!server) return nullptr;
  (*server)->start(std::move(handler));
  return std::move(*server);
}

// Answers with what it was asked: "POST /path?query body".
inline void echo_request(const HttpRequest& request,
                         const std::shared_ptr<HttpExchange>& exchange) {
  exchange->respond(
      {.content_type = "text/plain",
       .body = request.method + " " + request.path + "?" + request.query + " " + request.body});
}

// Exchanges that a handler has put away for the test to answer.
class HeldExchanges {
 public:
  HttpHandler handler() {
    return [this](const HttpRequest& /*request*/, std::shared_ptr<HttpExchange> exchange) {
      const std::scoped_lock lock(mutex_);
      held_.push_back(std::move(exchange));
      changed_.notify_all();
    };
  }
  std::shared_ptr<HttpExchange> next() {
    std::unique_lock lock(mutex_);
    const bool came =
        changed_.wait_for(lock, std::chrono::seconds(5), [this] { return taken_ < held_.size(); });
    EXPECT_TRUE(came) << "no request came";
    return came ? std::move(held_[taken_++]) : nullptr;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<HttpExchange>> held_;
  std::size_t taken_ = 0;
};

}  // namespace tg
