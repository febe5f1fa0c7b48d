// Servers on loopback for tests: the scripts of tests/tools (case C50 has one), and one with a
// canned reply.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

namespace tg {

// A socket that listens on a free port of 127.0.0.1.
struct Listener {
  int socket = -1;
  int port = 0;
};

inline Listener listen_on_loopback() {
  Listener listener{.socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .port = 0};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  EXPECT_EQ(::bind(listener.socket, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::listen(listener.socket, 16), 0);
  EXPECT_EQ(::getsockname(listener.socket, reinterpret_cast<sockaddr*>(&address), &size), 0);
  listener.port = ntohs(address.sin_port);
  // A proxy of the environment is not asked for these addresses.
  ::setenv("no_proxy", "127.0.0.1", 1);
  return listener;
}

// A script of tests/tools on a port of its own, from construction to destruction.
class ScriptServer {
 public:
  explicit ScriptServer(const char* script) {
    // Its port was free a moment ago; nothing else in a test run asks for one by number.
    const Listener listener = listen_on_loopback();
    port_ = listener.port;
    ::close(listener.socket);
    const std::string port = std::to_string(port_);
    const std::string path = std::string(TG_SOURCE_DIR "/tests/tools/") + script;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is killed leaves no server behind
      ::execlp("python3", "python3", path.c_str(), port.c_str(), nullptr);
      ::_exit(127);
    }
    for (int tries = 0; tries < 500 && !answers(); ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  ScriptServer(const ScriptServer&) = delete;
  ScriptServer& operator=(const ScriptServer&) = delete;
  ~ScriptServer() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  int port() const { return port_; }
  std::string url(const std::string& path) const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }

 private:
  bool answers() const {
    const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port_));
    const bool connected =
        ::connect(s, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    ::close(s);
    return connected;
  }

  int port_ = 0;
  pid_t pid_ = -1;
};

class ContextServer : public ScriptServer {
 public:
  ContextServer() : ScriptServer("context_server.py") {}
};

// Sends the same bytes to everybody who asks for anything, and hangs up.
class CannedServer {
 public:
  explicit CannedServer(std::string reply) : reply_(std::move(reply)) {
    listener_ = listen_on_loopback();
    thread_ = std::thread([this] { serve(); });
  }
  CannedServer(const CannedServer&) = delete;
  CannedServer& operator=(const CannedServer&) = delete;
  ~CannedServer() {
    ::shutdown(listener_.socket, SHUT_RDWR);  // wakes accept()
    thread_.join();
    ::close(listener_.socket);
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(listener_.port) + "/x"; }
  int hits() const { return hits_; }

 private:
  void serve() {
    for (;;) {
      const int client = ::accept(listener_.socket, nullptr, nullptr);
      if (client < 0) return;
      ++hits_;
      std::string request;
      char part[4096];
      while (request.find("\r\n\r\n") == std::string::npos) {
        const ssize_t got = ::recv(client, part, sizeof(part), 0);
        if (got <= 0) break;
        request.append(part, static_cast<std::size_t>(got));
      }
      for (std::size_t sent = 0; sent < reply_.size();) {
        const ssize_t bytes =
            ::send(client, reply_.data() + sent, reply_.size() - sent, MSG_NOSIGNAL);
        if (bytes <= 0) break;
        sent += static_cast<std::size_t>(bytes);
      }
      ::close(client);
    }
  }

  std::string reply_;
  Listener listener_;
  std::atomic<int> hits_{0};
  std::thread thread_;
};

inline std::string http_reply(const std::string& status, const std::string& headers,
                              const std::string& body) {
  return "HTTP/1.1 " + status + "\r\nConnection: close\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace tg
