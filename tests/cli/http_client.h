// Test helper: a raw HTTP client on a socket of its own, so that a test sees what is on the wire,
// piece by piece, and can hang up in the middle.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace tg::test {

struct HttpReply {
  int status = 0;
  std::string head;  // status line and headers as sent
  std::string body;  // chunks put together
  nlohmann::json json() const {
    auto read = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
    EXPECT_FALSE(read.is_discarded()) << body;
    return read;
  }
};

class HttpClient {
 public:
  explicit HttpClient(int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    const timeval most{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most));
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~HttpClient() { hang_up(); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return connected_; }
  void hang_up() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

  void send(const std::string& method, const std::string& path, const std::string& body) {
    const std::string request = method + " " + path +
                                " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                                "Content-Type: application/json\r\nContent-Length: " +
                                std::to_string(body.size()) + "\r\n\r\n" + body;
    EXPECT_EQ(::send(socket_, request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
  }
  // Reads until `count` events have come (or the end).
  void wait_for_events(int count) {
    while (events_received() < count && receive()) {
    }
  }
  HttpReply reply() {
    while (receive()) {
    }
    HttpReply reply;
    const std::size_t end = received_.find("\r\n\r\n");
    if (!received_.starts_with("HTTP/1.1 ") || end == std::string::npos) return reply;
    reply.head = received_.substr(0, end);
    reply.status = std::atoi(received_.c_str() + 9);
    reply.body = received_.substr(end + 4);
    if (reply.head.find("chunked") != std::string::npos) reply.body = joined_chunks(reply.body);
    return reply;
  }

 private:
  bool receive() {
    char bytes[65536];
    const ssize_t count = ::recv(socket_, bytes, sizeof(bytes), 0);
    if (count <= 0) return false;
    received_.append(bytes, static_cast<std::size_t>(count));
    return true;
  }
  int events_received() const {
    int count = 0;
    for (std::size_t at = 0; (at = received_.find("data: ", at)) != std::string::npos; ++at)
      ++count;
    return count;
  }
  static std::string joined_chunks(const std::string& body) {
    std::string joined;
    for (std::size_t at = 0; at < body.size();) {
      const std::size_t size = std::strtoul(body.c_str() + at, nullptr, 16);
      at = body.find("\r\n", at);
      if (size == 0 || at == std::string::npos) break;
      joined += body.substr(at + 2, size);
      at += 2 + size + 2;
    }
    return joined;
  }

  int socket_;
  bool connected_ = false;
  std::string received_;
};

}  // namespace tg::test
