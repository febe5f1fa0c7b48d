// Requests that are meant to do harm: ends of requests that are read in two ways, memory, and time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>

#include <atomic>

#include "server/http_client.h"
#include "server/http_server.h"

namespace tg {
namespace {

using ::testing::HasSubstr;

// The server's end of the connection, which is a socket of this process as well.
int server_side_of(const HttpClient& client) {
  sockaddr_in own{};
  socklen_t size = sizeof(own);
  if (::getsockname(client.socket(), reinterpret_cast<sockaddr*>(&own), &size) != 0) return -1;
  for (int other = 0; other < 1024; ++other) {
    sockaddr_in peer{};
    size = sizeof(peer);
    if (::getpeername(other, reinterpret_cast<sockaddr*>(&peer), &size) != 0) continue;
    if (peer.sin_family == AF_INET && peer.sin_port == own.sin_port) return other;
  }
  return -1;
}

// Whether the server has taken all that was sent.
bool has_read_all_of(const HttpClient& client) {
  int unsent = 1;
  int unread = 1;
  ::ioctl(client.socket(), TIOCOUTQ, &unsent);
  ::ioctl(server_side_of(client), FIONREAD, &unread);
  return unsent == 0 && unread == 0;
}

// What is behind such a request would be a second one to whoever sees its end elsewhere: none of
// them is taken, and nothing behind it.
TEST(HttpAttacks, RequestsWhoseEndIsNotPlainAreRefused) {
  std::mutex mutex;
  std::vector<std::string> handled;
  const auto server = start_http({}, [&](const HttpRequest& request, const auto& exchange) {
    const std::scoped_lock lock(mutex);
    handled.push_back(request.path);
    echo_request(request, exchange);
  });
  const std::string post = "POST / HTTP/1.1\r\nHost: h\r\n";
  const std::string chunked = post + "Transfer-Encoding: chunked\r\n\r\n";
  const std::vector<std::string> requests = {
      post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
      post + "Content-Length: 3, 3\r\n\r\nabc",
      post + "Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc",
      post + "Content-Length: +3\r\n\r\nabc",
      post + "Content-Length: 0x3\r\n\r\nabc",
      post + "Content-Length: 3 3\r\n\r\nabc",
      post + "Content-Length: 1\r\n 0\r\n\r\nabc",
      post + "Content-Length:\r\n\r\nabc",
      post + "Content-Length : 3\r\n\r\nabc",
      post + "Content-Length\t: 3\r\n\r\nabc",
      post + "Content-Length: 18446744073709551619\r\n\r\nabc",
      post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding: identity\r\n\r\n",
      post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
      post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
      post +
          "Transfer-Encoding: \x0B"
          "chunked\r\n\r\n0\r\n\r\n",
      "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n",
      post + "Host: other\r\n\r\n",
      post + "X: a\rTransfer-Encoding: chunked\r\n\r\n",
      post + "X: a\nTransfer-Encoding: chunked\r\n\r\n",
      post + "X: a" + std::string(1, '\0') + "b\r\n\r\n",
      post + "X Y: a\r\n\r\n",
      "POST / HTTP/1.1\r\n Host: h\r\n\r\n",
      "POST  / HTTP/1.1\r\nHost: h\r\n\r\n",
      "POST / x HTTP/1.1\r\nHost: h\r\n\r\n",
      "POST / HTTP/1.1 \r\nHost: h\r\n\r\n",
      "POST /\tx HTTP/1.1\r\nHost: h\r\n\r\n",
      chunked + "0x3\r\nabc\r\n0\r\n\r\n",
      chunked + "+3\r\nabc\r\n0\r\n\r\n",
      chunked + "-3\r\nabc\r\n0\r\n\r\n",
      chunked + "3 3\r\nabc\r\n0\r\n\r\n",
      chunked + "\r\n3\r\nabc\r\n0\r\n\r\n",
      chunked + "3\nabc\n0\n\n",
      chunked + "3\rXabc\r\n0\r\n\r\n",
      chunked + "3;a\nb\r\nabc\r\n0\r\n\r\n",
      chunked + "3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n",
      chunked + "3\r\nabcd\r\n0\r\n\r\n",
      chunked + "3\r\nabc0\r\n\r\n",
      chunked + "10000000000000003\r\nabc\r\n0\r\n\r\n",
      chunked + "0\r\nbad trailer\r\n\r\n",
  };
  for (const std::string& request : requests) {
    HttpClient client(server->port());
    ASSERT_TRUE(client.send(request + "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"));
    const ClientResponse answer = client.response();
    EXPECT_TRUE(answer.status == 400 || answer.status == 413 || answer.status == 501)
        << answer.status << " to " << request;
    EXPECT_EQ(answer.header("Connection"), "close") << request;
    client.end_sending();
    EXPECT_TRUE(client.wait_for_end()) << request;
    EXPECT_EQ(client.received(), "") << request;
  }
  const std::scoped_lock lock(mutex);
  EXPECT_THAT(handled, testing::IsEmpty());
}

// What looks odd and is not.
TEST(HttpAttacks, RequestsThatOnlyLookOddAreTaken) {
  const auto server = start_http({}, [](const HttpRequest& request, const auto& exchange) {
    exchange->respond({.body = std::string(request.header("x")) + "|" + request.body});
  });
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0003\r\n\r\nabc", "|abc"},
      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\t3 \r\n\r\nabc", "|abc"},
      {"POST / HTTP/1.1\r\nHost: h\r\ntransfer-encoding:CHUNKED\r\n\r\n03\r\nabc\r\n00\r\n\r\n",
       "|abc"},
      {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
       "3 ; a=\"b;c\" ;d\r\nabc\r\n0;e\r\nX: trailer\r\n\r\n",
       "|abc"},
      {"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\t b\r\n\r\n", "a b|"},
      {"GET / HTTP/1.1\r\nHost: h\r\nX:\r\n\r\n", "|"},
  };
  HttpClient client(server->port());
  for (const auto& [request, expected] : cases) {
    ASSERT_TRUE(client.send(request));
    EXPECT_EQ(client.response().body, expected) << request;
  }
}

// Headers, chunk headers and trailers without end, in many pieces.
TEST(HttpAttacks, NothingWithoutEndIsReadForEver) {
  HttpOptions options;
  options.max_header_bytes = 8192;
  const auto server = start_http(options, echo_request);
  const std::string chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const auto& [begin, piece, status] : std::vector<std::tuple<std::string, std::string, int>>{
           {"GET / HTTP/1.1\r\n", "A: b\r\n", 431},
           {"GET / HTTP/1.1\r\nA: ", "bbbbbb", 431},
           {"GET /", "aaaaaa", 431},
           {"", "AAAAAA", 431},
           {chunked + "1;a=", "bbbbbb", 400},
           {chunked + "1;", ";a=b ", 400},
           {chunked, "000000", 400},
           {chunked + "0\r\n", "A: b\r\n", 400},
           {chunked + "0\r\nA: ", "bbbbbb", 400}}) {
    HttpClient client(server->port());
    ASSERT_TRUE(client.send(begin));
    std::string many;
    for (int i = 0; i < 100; ++i) many += piece;
    for (int i = 0; i < 200 && client.send(many); ++i) {  // 120 KB, far beyond
    }
    EXPECT_EQ(client.response().status, status) << begin.substr(begin.size() / 2) << piece;
  }
  // Many small chunks are no header, however long their headers are together.
  HttpClient client(server->port());
  std::string body;
  for (int i = 0; i < 5000; ++i) body += "1;abc=def\r\nx\r\n";
  ASSERT_TRUE(client.send(chunked + body + "0\r\n\r\n"));
  EXPECT_EQ(client.response().body.size(), std::string("POST /? ").size() + 5000);
}

// One byte after the other, each just in time.
TEST(HttpAttacks, ABodyCannotDripForEver) {
  HttpOptions options;
  options.body_timeout_s = 0.05;
  const auto server = start_http(options, echo_request);
  HttpClient client(server->port());
  ASSERT_TRUE(client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"));
  const auto begin = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  while (!client.receive(0.01) && seconds() < 10.0) client.send("x");
  EXPECT_GT(seconds(), 0.4);
  EXPECT_LT(seconds(), 5.0);
  EXPECT_EQ(client.response().status, 408);
}

// Who has no key does not get to fill the memory: the handler's word on the head comes before a
// long body is read.
TEST(HttpAttacks, ALongBodyIsReadOnlyForThoseWhoMaySendIt) {
  std::atomic<int> checked = 0;
  std::atomic<int> handled = 0;
  HttpOptions options;
  options.check_head = [&](const HttpRequest& head) -> std::optional<HttpResponse> {
    ++checked;
    EXPECT_EQ(head.path, "/p");
    if (head.header("authorization") == "right") return std::nullopt;
    return HttpResponse{.status = 401, .body = "no"};
  };
  const auto server = start_http(options, [&](const HttpRequest& request, const auto& exchange) {
    ++handled;
    exchange->respond({.body = std::to_string(request.body.size())});
  });
  const std::string post = "POST /p HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\n";
  {
    HttpClient client(server->port());
    ASSERT_TRUE(client.send(post + "Content-Length: 30000000\r\n\r\n"));
    const std::string part(100000, 'x');
    for (int i = 0; i < 10 && client.send(part); ++i) {
    }
    const ClientResponse answer = client.response();
    EXPECT_EQ(answer.status, 401);
    EXPECT_EQ(answer.body, "no");
    EXPECT_EQ(answer.header("X-Request-Id"), "mine");
    EXPECT_EQ(answer.header("Connection"), "close");
  }
  {
    HttpClient client(server->port());
    ASSERT_TRUE(client.send(post + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
    EXPECT_EQ(client.response().status, 401);
  }
  EXPECT_EQ(handled, 0);
  EXPECT_EQ(checked, 2);
  HttpClient client(server->port());
  const std::string right = post + "Authorization: right\r\n";
  ASSERT_TRUE(client.send(right + "Content-Length: 500000\r\n\r\n" + std::string(500000, 'x')));
  EXPECT_EQ(client.response().body, "500000");
  ASSERT_TRUE(client.send(right + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
  EXPECT_EQ(client.response().status, 100);
  ASSERT_TRUE(client.send("abc"));
  EXPECT_EQ(client.response().body, "3");
  EXPECT_EQ(checked, 4) << "once each";
  // A short one is the handler's alone.
  ASSERT_TRUE(client.send(post + "Content-Length: 3\r\n\r\nabc"));
  EXPECT_EQ(client.response().body, "3");
  EXPECT_EQ(checked, 4);
}

TEST(HttpAttacks, BodiesOfAllClientsTogetherAreBounded) {
  HeldExchanges held;
  HttpOptions options;
  options.max_body_bytes = 1000000;
  options.max_bodies_bytes = 1500000;
  const auto server = start_http(options, [&](const HttpRequest& request, auto exchange) {
    if (request.path == "/held") return held.handler()(request, std::move(exchange));
    exchange->respond({.body = std::to_string(request.body.size())});
  });
  const std::string post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n";
  const std::string body(1000000, 'x');
  // One that has not come to its end, and one that has no answer yet.
  for (const std::string path : {"/", "/held"}) {
    HttpClient first(server->port());
    std::shared_ptr<HttpExchange> exchange;
    if (path == "/") {
      ASSERT_TRUE(first.send(post + body.substr(1)));
    } else {
      ASSERT_TRUE(first.post(path, body));
      exchange = held.next();
    }
    ASSERT_TRUE(becomes_true([&] { return has_read_all_of(first); }));
    HttpClient second(server->port());
    second.send(post + body);
    const ClientResponse refused = second.response();
    EXPECT_EQ(refused.status, 503) << refused.body;
    EXPECT_THAT(refused.body, HasSubstr("1500000"));
    EXPECT_EQ(refused.header("Retry-After"), "1");
    // Short requests are none of this.
    HttpClient third(server->port());
    ASSERT_TRUE(third.post("/", std::string(1000, 'x')));
    EXPECT_EQ(third.response().body, "1000");
    if (exchange) {
      exchange->respond({.body = "1000000"});
    } else {
      ASSERT_TRUE(first.send("x"));
    }
    EXPECT_EQ(first.response().body, "1000000");
    ASSERT_TRUE(third.post("/", body)) << "there is room again";
    EXPECT_EQ(third.response().body, "1000000");
  }
  // Those who hang up give it back too.
  ASSERT_TRUE(becomes_true([&] { return server->connections() == 0; }));
  for (int i = 0; i < 5; ++i) {
    HttpClient leaver(server->port());
    ASSERT_TRUE(leaver.send(post + body.substr(1)));
    ASSERT_TRUE(becomes_true([&] { return server->connections() == 1; }));
    leaver.close();
    ASSERT_TRUE(becomes_true([&] { return server->connections() == 0; }));
  }
  HttpClient last(server->port());
  ASSERT_TRUE(last.post("/", body));
  EXPECT_EQ(last.response().body, "1000000");
}

// A stream with requests behind it: they wait, in order, and however many there are, they take no
// memory; and that the client hangs up behind all of them is seen by what it does not read.
TEST(HttpAttacks, RequestsBehindAStreamWait) {
  HeldExchanges held;
  std::atomic<int> handled = 0;
  const auto server = start_http({}, [&](const HttpRequest& request, auto exchange) {
    ++handled;
    held.handler()(request, std::move(exchange));
  });
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/"));
  const auto stream = held.next();
  std::atomic<bool> gone = false;
  stream->on_gone([&] { gone = true; });
  stream->start_stream({.content_type = "text/event-stream"});
  std::string many;
  for (int i = 0; i < 20000; ++i) many += "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  std::thread sender([&] { client.send(many); });
  ASSERT_TRUE(stream->write("data: x\n\n"));
  EXPECT_TRUE(client.wait_for("data: x\n\n"));
  EXPECT_EQ(handled, 1);
  EXPECT_TRUE(stream->write("data: y\n\n"));
  EXPECT_TRUE(client.wait_for("data: y\n\n"));
  EXPECT_FALSE(gone);
  ::shutdown(client.socket(), SHUT_RDWR);
  sender.join();
  client.close();
  EXPECT_TRUE(becomes_true([&] { return !stream->write("data: z\n\n"); }));
  EXPECT_TRUE(becomes_true([&] { return gone && server->connections() == 0; }));
  EXPECT_EQ(handled, 1);
}

// A host that is gone says nothing, not even that it is gone: the kernel gives up on it.
TEST(HttpAttacks, TheKernelGivesUpOnHostsThatAreGone) {
  HttpOptions options;
  options.write_timeout_s = 7.0;
  const auto server = start_http(options, echo_request);
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/"));
  EXPECT_EQ(client.response().status, 200);
  unsigned unheard_ms = 0;
  socklen_t size = sizeof(unheard_ms);
  ::getsockopt(server_side_of(client), IPPROTO_TCP, TCP_USER_TIMEOUT, &unheard_ms, &size);
  EXPECT_EQ(unheard_ms, 14000U);
}

}  // namespace
}  // namespace tg
