// llama-tg serve in the background, for tests that speak to it over the wire.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cli/program.h"
#include "server/http_client.h"

namespace tg::test {

using Json = nlohmann::json;

// A machine that does much else may take long.
inline ClientResponse response_of(HttpClient& client) {
  EXPECT_TRUE(client.wait_for("\r\n\r\n", 60.0));
  ClientResponse response = client.response();
  EXPECT_TRUE(response.complete);
  return response;
}

// Events of a stream that have come by now; waits for so many.
inline void wait_for_events(HttpClient& client, int count) {
  EXPECT_TRUE(becomes_true([&] {
    client.receive(0.01);
    int events = 0;
    for (std::size_t at = 0; (at = client.received().find("data: ", at)) != std::string::npos;
         ++at) {
      ++events;
    }
    return events >= count;
  }));
}

inline Json json_of(const ClientResponse& response) {
  Json read = Json::parse(response.body, nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(read.is_discarded()) << response.body;
  return read;
}

struct ServerPlace {
  std::string model = golden("tiny/hf");
  std::string err = {};      // a file for stderr; empty: the test's own
  bool in_terminal = false;  // which close_terminal() takes away
  bool waits_for_it =
      true;  // for the "Listening" line; else only until it listens, which needs `err`
};

// From its start, and with `waits_for_it` from its "Listening" line on, to its end.
class Server {
 public:
  explicit Server(const std::vector<std::string>& arguments, ServerPlace place = {})
      : place_(std::move(place)) {
    int pipe_ends[2];
    EXPECT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
    std::vector<std::string> words = {TG_BINARY_DIR "/src/llama-tg",
                                      "serve",
                                      "--model",
                                      place_.model,
                                      "--port",
                                      "0",
                                      "--threads",
                                      "2"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    if (place_.in_terminal) {
      terminal_ = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
      EXPECT_EQ(::grantpt(terminal_) | ::unlockpt(terminal_), 0);
    }
    pid_ = ::fork();
    if (pid_ == 0) start(words, pipe_ends[1]);
    ::close(pipe_ends[1]);
    if (place_.waits_for_it) {
      std::string out;
      char c = 0;
      while (::read(pipe_ends[0], &c, 1) == 1 && c != '\n') out += c;
      read_port(out, "Listening on http");
    } else {
      EXPECT_TRUE(becomes_true([&] { return contains(err(), "says that it is loading"); }, 60.0));
      read_port(err(), "llama-tg: info: http");
    }
    ::close(pipe_ends[0]);
  }
  ~Server() {
    close_terminal();
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const { return port_; }
  std::string err() const { return read_whole(place_.err); }
  void signal(int number) const { ::kill(pid_, number); }
  void close_terminal() {
    if (terminal_ >= 0) ::close(std::exchange(terminal_, -1));
  }
  // The exit status; the program has a minute.
  int wait() {
    int status = 0;
    for (int i = 0; i < 6000; ++i) {
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return -1;
  }

  HttpClient send(const std::string& path, const std::string& body) const {
    HttpClient client(port_);
    EXPECT_TRUE(client.connected());
    EXPECT_TRUE(client.post(path, body));
    return client;
  }
  ClientResponse post(const std::string& path, const Json& body) const {
    HttpClient client = send(path, body.dump());
    return response_of(client);
  }
  ClientResponse get(const std::string& path) const {
    HttpClient client(port_);
    EXPECT_TRUE(client.connected());
    EXPECT_TRUE(client.get(path));
    return response_of(client);
  }

 private:
  [[noreturn]] void start(std::vector<std::string>& words, int out) const {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is killed leaves no server behind
    if (terminal_ >= 0) {
      ::setsid();
      ::ioctl(::open(::ptsname(terminal_), O_RDWR), TIOCSCTTY, 0);
    }
    ::dup2(out, STDOUT_FILENO);
    if (!place_.err.empty()) {
      ::dup2(::open(place_.err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
    }
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  void read_port(const std::string& text, const std::string& before) {
    const auto at = text.find(before);
    ASSERT_NE(at, std::string::npos) << text;
    const std::string url = text.substr(at, text.find_first_of(" \n", at + before.size()) - at);
    port_ = std::atoi(url.c_str() + url.rfind(':') + 1);
    EXPECT_GT(port_, 0) << text;
  }

  const ServerPlace place_;
  pid_t pid_ = -1;
  int port_ = 0;
  int terminal_ = -1;
};

}  // namespace tg::test
