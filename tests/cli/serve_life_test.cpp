// The life of llama-tg serve: what it says while it loads, what ends it and what does not.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/program.h"
#include "cli/serve_program.h"
#include "server/http_client.h"

namespace tg::test {
namespace {

Json long_request(int tokens) {
  return {{"prompt", "Hi"}, {"max_tokens", tokens}, {"ignore_eos", true}, {"stream", true}};
}

// Loading takes half a second, in which a busy machine may do anything else: so, several tries.
template <typename Test>
bool succeeds_once(Test&& test) {
  const ProgramFolder folder("serve_loading");
  for (int i = 0; i < 5; ++i) {
    Server server({}, {.model = small_model(), .err = folder.file("err"), .waits_for_it = false});
    if (server.get("/health").status == 503 && test(server)) return true;
  }
  return false;
}

TEST(ServeLife, SaysThatItIsLoadingAndThenThatItIsReady) {
  EXPECT_TRUE(succeeds_once([](Server& server) {
    const ClientResponse early = server.post("/v1/completions", {{"prompt", "Hi"}});
    if (early.status == 200) return false;
    EXPECT_EQ(early.status, 503);
    EXPECT_EQ(json_of(early).at("error").at("code"), "loading");
    EXPECT_EQ(server.get("/v1/models").status, 200) << "who it is, it knows";
    EXPECT_EQ(server.get("/metrics").status, 200);
    return becomes_true([&] { return server.get("/health").status == 200; }, 60.0);
  }));
}

TEST(ServeLife, ASignalEndsItWhileItLoads) {
  EXPECT_TRUE(succeeds_once([](Server& server) {
    server.signal(SIGHUP);  // nothing
    server.signal(SIGTERM);
    return server.wait() == 128 + SIGTERM;
  }));
}

// In order: nothing but the log's own words on stderr, and those once.
TEST(ServeLife, AnswersThoughItsLogCannotBeWritten) {
  const ProgramFolder folder("serve_log");
  Server full({"--access-log", "/dev/full"}, {.err = folder.file("full")});
  Server closed({"--access-log", "-"}, {.err = folder.file("closed")});  // nobody reads its stdout
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(full.get("/health").status, 200);
    EXPECT_EQ(closed.get("/health").status, 200);
  }
  full.signal(SIGTERM);
  closed.signal(SIGTERM);
  EXPECT_EQ(full.wait(), 0);
  EXPECT_EQ(closed.wait(), 0);
  EXPECT_TRUE(contains(full.err(), "/dev/full: No space left on device; lines are lost"));
  EXPECT_TRUE(contains(closed.err(), "on stdout: Broken pipe; lines are lost")) << closed.err();
  for (const Server* server : {&full, &closed}) {
    EXPECT_TRUE(contains(server->err(), "the access log has lost 5 lines")) << server->err();
    const std::string err = server->err();
    EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 3) << "loading, why, and how many: " << err;
  }
}

TEST(ServeLife, AStrangersLongBodyIsNotRead) {
  const Server server({"--api-key", "right"});
  const std::string head = " HTTP/1.1\r\nHost: h\r\nContent-Length: 30000000\r\n";
  for (const auto& [request, status] : std::vector<std::pair<std::string, int>>{
           {"POST /v1/completions" + head, 401},
           {"POST /v1/completions" + head + "Authorization: Bearer wrong\r\n", 401},
           {"PUT /v1/completions" + head + "Authorization: Bearer right\r\n", 405},
           {"POST /nothing" + head, 404}}) {
    HttpClient client(server.port());
    ASSERT_TRUE(client.send(request + "\r\n" + std::string(100000, ' ')));
    EXPECT_EQ(response_of(client).status, status) << request;
  }
}

TEST(ServeLife, StreamsEndWhenTheirGraceIsOver) {
  Server server({"--grace-s", "0.3"});
  HttpClient client = server.send("/v1/completions", long_request(100000).dump());
  wait_for_events(client, 2);
  const auto begin = std::chrono::steady_clock::now();
  server.signal(SIGTERM);
  const ClientResponse cut = response_of(client);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  EXPECT_TRUE(contains(cut.body, "shutting_down")) << cut.body;
  EXPECT_TRUE(cut.body.ends_with("data: [DONE]\n\n"));
  EXPECT_GT(taken.count(), 0.29);
  EXPECT_LT(taken.count(), 10.0);
  EXPECT_EQ(server.wait(), 0);
}

// Whoever rotates logs sends SIGHUP; a terminal that is closed does, too, and means another thing.
TEST(ServeLife, SighupIsAnEndOnlyWhereTheTerminalIsGone) {
  const ProgramFolder folder("serve_hup");
  const std::string log = folder.file("log");
  Server server({"--access-log", log}, {.in_terminal = true});
  EXPECT_EQ(server.get("/one").status, 404);
  ASSERT_TRUE(becomes_true([&] { return contains(read_whole(log), "/one"); }));
  std::filesystem::rename(log, log + ".1");
  server.signal(SIGHUP);
  server.signal(SIGHUP);
  EXPECT_EQ(server.get("/two").status, 404);
  EXPECT_TRUE(becomes_true([&] { return contains(read_whole(log), "/two"); }));
  EXPECT_FALSE(contains(read_whole(log), "/one"));
  HttpClient client = server.send("/v1/completions", long_request(200).dump());
  wait_for_events(client, 2);
  server.close_terminal();
  EXPECT_TRUE(response_of(client).body.ends_with("data: [DONE]\n\n"))
      << "what was begun is finished";
  EXPECT_EQ(server.wait(), 0);
}

TEST(ServeLife, TellsTheServiceManagerWhatItDoes) {
  const ProgramFolder folder("serve_notify");
  for (const bool is_file : {true, false}) {
    const std::string path = is_file ? folder.file("notify") : "@" + folder.file("notify");
    const int manager = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (!is_file) address.sun_path[0] = '\0';
    ASSERT_EQ(::bind(manager, reinterpret_cast<const sockaddr*>(&address),
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size())),
              0);
    const timeval patience{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(manager, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    const auto told = [manager] {
      char text[100];
      const ssize_t size = ::recv(manager, text, sizeof(text), 0);
      return std::string(text, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    };
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    Server server({});
    ::unsetenv("NOTIFY_SOCKET");
    EXPECT_EQ(told(), "READY=1");
    server.signal(SIGTERM);
    EXPECT_EQ(told(), "STOPPING=1");
    EXPECT_EQ(server.wait(), 0);
    ::close(manager);
  }
}

TEST(ServeLife, ListensOnIpv6OrSaysThatItCannot) {
  const ProgramFolder folder("serve_ipv6");
  const std::string serve = "serve --port 0 --model '" + golden("tiny/hf") + "' --host ";
  // A prefix for documentation: no machine has an address of it.
  expect_refusal(folder.run(serve + "2001:db8::1"), {"cannot listen on 2001:db8::1:0: "});
  const int probe = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 loopback{};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const bool has_ipv6 =
      ::bind(probe, reinterpret_cast<const sockaddr*>(&loopback), sizeof(loopback)) == 0;
  ::close(probe);
  if (!has_ipv6) {
    expect_refusal(folder.run(serve + "::1"), {"cannot listen on ::1:0: "});
    return;
  }
  const Server server({"--host", "::1"});
  HttpClient client(server.port(), 0, AF_INET6);
  ASSERT_TRUE(client.get("/health"));
  EXPECT_EQ(response_of(client).status, 200);
}

}  // namespace
}  // namespace tg::test
