// Clients that take their time, clients that do not read, and bytes that are no HTTP at all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>

#include "server/http_client.h"
#include "server/http_server.h"

namespace tg {
namespace {

using Clock = std::chrono::steady_clock;

double limit_seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

HttpOptions short_timeouts() {
  HttpOptions options;
  options.header_timeout_s = 0.25;
  options.body_timeout_s = 0.25;
  options.idle_timeout_s = 0.25;
  options.write_timeout_s = 0.25;
  return options;
}

TEST(HttpTimeouts, ASlowHeaderGets408HoweverSteadilyItDrips) {
  const auto server = start_http(short_timeouts(), echo_request);
  HttpClient client(server->port());
  const auto start = Clock::now();
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\n"));
  while (!client.receive(0.02) && limit_seconds_since(start) < 3.0) client.send("X-Drip: 1\r\n");
  EXPECT_GT(limit_seconds_since(start), 0.23);
  EXPECT_LT(limit_seconds_since(start), 4.0);
  const ClientResponse answer = client.response();
  EXPECT_EQ(answer.status, 408);
  EXPECT_EQ(answer.header("Connection"), "close");
}

TEST(HttpTimeouts, ABodyMayTakeLongButNotStop) {
  const auto server = start_http(short_timeouts(), echo_request);
  HttpClient client(server->port());
  ASSERT_TRUE(client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n"));
  for (int i = 0; i < 8; ++i) {  // longer than the time-out altogether
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    ASSERT_TRUE(client.send("x"));
  }
  EXPECT_EQ(client.response().status, 200);
  ASSERT_TRUE(client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nx"));
  const auto start = Clock::now();
  EXPECT_EQ(client.response().status, 408);
  EXPECT_LT(limit_seconds_since(start), 4.0);
}

TEST(HttpTimeouts, AnIdleConnectionIsClosedInSilence) {
  const auto server = start_http(short_timeouts(), echo_request);
  HttpClient fresh(server->port());
  HttpClient used(server->port());
  ASSERT_TRUE(used.get("/"));
  EXPECT_EQ(used.response().status, 200);
  const auto start = Clock::now();
  EXPECT_TRUE(used.wait_for_end());
  EXPECT_TRUE(fresh.wait_for_end());
  EXPECT_LT(limit_seconds_since(start), 4.0);
  EXPECT_EQ(used.received() + fresh.received(), "");
  EXPECT_TRUE(becomes_true([&] { return server->connections() == 0; }));
}

// An answer that takes longer than every time-out is none of them.
TEST(HttpTimeouts, NoneAppliesWhileTheAnswerIsMade) {
  HeldExchanges held;
  const auto server = start_http(short_timeouts(), held.handler());
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/"));
  const auto exchange = held.next();
  EXPECT_FALSE(client.receive(0.4));
  exchange->start_stream({.body = "begun"});
  ASSERT_TRUE(client.wait_for("begun"));
  EXPECT_FALSE(client.receive(0.4));
  exchange->finish();
  EXPECT_TRUE(client.wait_for("0\r\n\r\n"));
}

TEST(HttpTimeouts, AClientThatDoesNotReadAnAnswerIsCutOff) {
  std::atomic<int> complete = -1;
  HttpOptions options = short_timeouts();
  options.on_done = [&](const HttpRecord& record) { complete = record.complete ? 1 : 0; };
  const auto server = start_http(options, [](const auto& /*request*/, const auto& exchange) {
    exchange->respond({.body = std::string(16 << 20, 'x')});
  });
  HttpClient client(server->port(), 8192);
  ASSERT_TRUE(client.get("/"));
  const auto start = Clock::now();
  EXPECT_TRUE(becomes_true([&] { return complete != -1; }));
  EXPECT_EQ(complete, 0);
  EXPECT_GT(limit_seconds_since(start), 0.23);
  EXPECT_LT(limit_seconds_since(start), 4.0);
  EXPECT_TRUE(becomes_true([&] { return server->connections() == 0; }));
}

// A slow reader is not one that has stopped: it gets all, though it takes several time-outs.
TEST(HttpTimeouts, ASlowReaderGetsEverything) {
  const auto server =
      start_http(short_timeouts(), [](const auto& /*request*/, const auto& exchange) {
        exchange->respond({.body = std::string(3 << 20, 'x')});
      });
  HttpClient client(server->port(), 65536);
  ASSERT_TRUE(client.get("/"));
  const auto start = Clock::now();
  while (client.received().size() < 2 << 20 && client.receive(1.0)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_GT(limit_seconds_since(start), 0.4);
  const ClientResponse answer = client.response();
  EXPECT_EQ(answer.body.size(), 3U << 20);
}

// By the bytes that wait: long before the time-out.
TEST(HttpLimits, AStreamThatNobodyReadsIsCutOffByItsQueue) {
  HeldExchanges held;
  HttpOptions options;
  options.stream_queue_bytes = 256 << 10;
  const auto server = start_http(options, held.handler());
  HttpClient client(server->port(), 8192);
  ASSERT_TRUE(client.get("/"));
  const auto exchange = held.next();
  std::atomic<int> gone = 0;
  exchange->on_gone([&] { ++gone; });
  exchange->start_stream({});
  const std::string piece(4096, 'x');
  std::size_t written = 0;
  while (written < 64 << 20 && exchange->write(piece)) {
    written += piece.size();
    std::this_thread::sleep_for(std::chrono::microseconds(100));  // the kernel has time to take it
  }
  EXPECT_LT(written, 8U << 20);  // queue and kernel buffers
  EXPECT_GT(written, 256U << 10);
  EXPECT_TRUE(becomes_true([&] { return gone == 1 && server->connections() == 0; }, 1.0));
}

// By time: little waits, but nothing of it goes.
TEST(HttpLimits, AStreamThatNobodyReadsIsCutOffByTime) {
  HeldExchanges held;
  HttpOptions options = short_timeouts();
  options.stream_queue_bytes = 64 << 20;
  const auto server = start_http(options, held.handler());
  HttpClient client(server->port(), 8192);
  ASSERT_TRUE(client.get("/"));
  const auto exchange = held.next();
  std::atomic<int> gone = 0;
  exchange->on_gone([&] { ++gone; });
  exchange->start_stream({});
  ASSERT_TRUE(exchange->write(std::string(16 << 20, 'x')));
  EXPECT_TRUE(becomes_true([&] { return gone == 1 && server->connections() == 0; }, 1.5));
  EXPECT_FALSE(exchange->write("x"));
}

// Pieces of HTTP in any order, cut anywhere, mixed with noise, for two seconds from a fixed seed:
// the server lives, and leaves no connection behind.
TEST(HttpLimits, MalformedTrafficEndsNothing) {
  HttpOptions options = short_timeouts();
  options.max_header_bytes = 4096;
  options.max_body_bytes = 4096;
  const auto server = start_http(options, echo_request);
  const std::vector<std::string> pieces = {"GET / HTTP/1.1\r\n",
                                           "POST /x HTTP/1.1\r\n",
                                           "HEAD * HTTP/1.0\r\n",
                                           "Host: h\r\n",
                                           "\r\n",
                                           "Content-Length: 5\r\n",
                                           "Content-Length: 99999999999999999999\r\n",
                                           "abcde",
                                           "0\r\n\r\n",
                                           "Transfer-Encoding: chunked\r\n",
                                           "5\r\nabcde\r\n",
                                           "fffffffffffffffff\r\n",
                                           "0\r\n",
                                           "\r",
                                           "\n",
                                           ";ext=\"",
                                           "Expect: 100-continue\r\n",
                                           "Connection: close, keep-alive\r\n",
                                           " folded\r\n",
                                           ": no name\r\n",
                                           std::string(5000, 'a'),
                                           std::string("\0\xFF\x80", 3),
                                           "OPTIONS * HTTP/1.1\r\n",
                                           "GET /%2e%2e/%c3%28?%00 HTTP/1.1\r\n",
                                           "\x16\x03\x01\x02\x00\x01",
                                           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                           "Content-Length: 0\r\n",
                                           "Upgrade: websocket\r\nConnection: upgrade\r\n"};
  std::mt19937 random(20261128);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const auto start = Clock::now();
  std::size_t rounds = 0;
  while (limit_seconds_since(start) < 2.0) {
    HttpClient client(server->port());
    std::string bytes;
    if (below(3) > 0) bytes = pieces[below(2)] + "Host: h\r\n";  // most get past the first line
    for (std::size_t i = below(8) + 1; i > 0; --i) bytes += pieces[below(pieces.size())];
    for (std::size_t i = below(3); i > 0 && !bytes.empty(); --i) {
      bytes[below(bytes.size())] = static_cast<char>(random());
    }
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t size = below(4) == 0 ? bytes.size() - at : below(40) + 1;
      if (!client.send(std::string_view(bytes).substr(at, size))) break;
      at += size;
      if (below(8) == 0) client.receive(0.001);
    }
    if (below(2) == 0) client.end_sending();
    if (below(4) == 0) client.receive(0.002);
    if (below(3) == 0) client.reset();
    ++rounds;
  }
  EXPECT_GT(rounds, 500U);
  EXPECT_TRUE(becomes_true([&] { return server->connections() == 0; }));
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/alive"));
  EXPECT_EQ(client.response().body, "GET /alive? ");
}

}  // namespace
}  // namespace tg
