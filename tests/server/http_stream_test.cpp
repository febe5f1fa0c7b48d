// Answers that take long: streams, clients that hang up in them, many at once, and the end of the
// server while they run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <fstream>

#include "server/http_client.h"
#include "server/http_server.h"

namespace tg {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What this process holds in memory of its own, in MiB.
double own_memory_mib() {
  std::ifstream status("/proc/self/status");
  std::string line;
  double kib = 0.0;
  while (std::getline(status, line)) {
    if (line.starts_with("RssAnon:") || line.starts_with("VmSwap:")) {
      kib += std::strtod(line.c_str() + line.find(':') + 1, nullptr);
    }
  }
  return kib / 1024.0;
}

TEST(HttpStream, SendsEachPieceAsItIsWritten) {
  HeldExchanges held;
  const auto server = start_http({}, held.handler());
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/"));
  const auto exchange = held.next();
  exchange->start_stream({.content_type = "text/event-stream"});
  ASSERT_TRUE(client.wait_for("\r\n\r\n"));  // the head does not wait for a body
  EXPECT_THAT(client.received(), testing::HasSubstr("Transfer-Encoding: chunked"));
  for (const std::string piece : {"data: a\n\n", "data: b\n\n", "data: c\n\n"}) {
    EXPECT_TRUE(exchange->write(piece));
    EXPECT_TRUE(client.wait_for("9\r\n" + piece + "\r\n", 2.0));
  }
  exchange->finish();
  EXPECT_TRUE(client.wait_for("\r\n0\r\n\r\n"));
  EXPECT_FALSE(exchange->write("late"));
  // The connection is ready for the next request.
  ASSERT_TRUE(client.get("/"));
  held.next()->respond({.body = "next"});
  EXPECT_TRUE(client.wait_for("next"));
}

TEST(HttpStream, AllOfALongStreamArrivesWhileTheClientKeepsUp) {
  HeldExchanges held;
  const auto server = start_http({}, held.handler());
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/"));
  const auto exchange = held.next();
  std::string expected;
  std::thread writer([&] {
    exchange->start_stream({.body = "0,"});
    for (int i = 1; i < 20000; ++i) {
      if (!exchange->write(std::to_string(i) + ",")) return;
    }
    exchange->finish();
  });
  for (int i = 0; i < 20000; ++i) expected += std::to_string(i) + ",";
  const ClientResponse answer = client.response();
  writer.join();
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.body, expected);
}

TEST(HttpStream, SaysAtOnceThatTheClientHungUp) {
  HeldExchanges held;
  const auto server = start_http({}, held.handler());
  const auto ways = std::vector<std::function<void(HttpClient&)>>{
      [](HttpClient& c) { c.close(); },
      [](HttpClient& c) { c.reset(); },
      [](HttpClient& c) {
        c.end_sending();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        c.close();
      },
  };
  for (const bool streaming : {true, false}) {
    for (const auto& hang_up : ways) {
      HttpClient client(server->port());
      ASSERT_TRUE(client.get("/"));
      const auto exchange = held.next();
      std::atomic<int> gone = 0;
      exchange->on_gone([&] { ++gone; });
      if (streaming) {
        exchange->start_stream({.content_type = "text/event-stream", .body = "begun"});
        ASSERT_TRUE(client.wait_for("begun"));
      }
      EXPECT_EQ(gone, 0);
      hang_up(client);
      ASSERT_TRUE(becomes_true([&] { return gone == 1; }, 3.0)) << "nobody noticed";
      EXPECT_FALSE(exchange->write("x"));
      exchange->finish();
      exchange->respond({});
      // Who asks later hears it too.
      exchange->on_gone([&] { ++gone; });
      ASSERT_TRUE(becomes_true([&] { return gone == 2; }, 1.0));
    }
  }
  EXPECT_TRUE(becomes_true([&] { return server->connections() == 0; }));
}

// shutdown() by the client is no hang-up: what it has asked for still comes, and if it goes away
// after all, that is seen.
TEST(HttpStream, AClientThatHasSaidAllStillGetsItsAnswer) {
  HeldExchanges held;
  const auto server = start_http({}, held.handler());
  for (const bool streaming : {true, false}) {
    for (const bool at_once : {true, false}) {
      HttpClient client(server->port());
      ASSERT_TRUE(client.get("/"));
      if (at_once) client.end_sending();
      const auto exchange = held.next();
      if (!at_once) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        client.end_sending();
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      if (streaming) {
        exchange->start_stream({.content_type = "text/event-stream"});
        for (int i = 0; i < 3; ++i) {
          EXPECT_TRUE(exchange->write("data: x\n\n"));
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        exchange->finish();
      } else {
        exchange->respond({.body = "answer"});
      }
      ClientResponse answer = client.response();
      if (answer.status == 100) answer = client.response();  // whether it still reads
      EXPECT_EQ(answer.status, 200);
      EXPECT_TRUE(answer.complete);
      if (streaming) {
        std::string events = answer.body;
        while (const auto comment = events.find(":\n\n") + 1) events.erase(comment - 1, 3);
        EXPECT_EQ(events, "data: x\n\ndata: x\n\ndata: x\n\n");
      } else {
        EXPECT_EQ(answer.body, "answer");
      }
      EXPECT_TRUE(client.wait_for_end());
    }
  }
  // With HTTP/1.0 there is nothing harmless to say to find out.
  HttpClient old(server->port());
  ASSERT_TRUE(old.send("GET / HTTP/1.0\r\n\r\n"));
  const auto exchange = held.next();
  std::atomic<bool> gone = false;
  exchange->on_gone([&] { gone = true; });
  old.end_sending();
  EXPECT_TRUE(becomes_true([&] { return gone.load(); }));
}

// A stream of events in which nothing happens: comments keep asking.
TEST(HttpStream, ASilentClientOfASilentStreamIsAskedWhetherItIsThere) {
  HeldExchanges held;
  const auto server = start_http({}, held.handler());
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/"));
  const auto exchange = held.next();
  exchange->start_stream({.content_type = "text/event-stream", .body = "data: x\n\n"});
  ASSERT_TRUE(client.wait_for("data: x\n\n"));
  client.end_sending();
  ASSERT_TRUE(client.wait_for("3\r\n:\n\n\r\n3\r\n:\n\n\r\n", 10.0));
  EXPECT_TRUE(exchange->write("data: y\n\n"));
  exchange->finish();
  EXPECT_TRUE(client.wait_for("data: y\n\n\r\n0\r\n\r\n"));
  EXPECT_TRUE(client.wait_for_end());
}

TEST(HttpStream, ACompleteAnswerHasNobodyToTell) {
  HeldExchanges held;
  const auto server = start_http({}, held.handler());
  std::atomic<int> gone = 0;
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/"));
  const auto exchange = held.next();
  exchange->on_gone([&] { ++gone; });
  exchange->start_stream({});
  exchange->finish();
  ASSERT_TRUE(client.wait_for("0\r\n\r\n"));
  client.close();
  ASSERT_TRUE(becomes_true([&] { return server->connections() == 0; }));
  EXPECT_EQ(gone, 0);
}

// Whoever makes the answer may be in the middle of anything when the client goes.
TEST(HttpStream, FiveHundredDisconnectsLeaveNothingBehind) {
  std::atomic<int> gone = 0;
  std::atomic<int> begun = 0;
  std::mutex mutex;
  std::vector<std::shared_ptr<HttpExchange>> streams;
  const auto server = start_http({}, [&](const HttpRequest& /*request*/, auto exchange) {
    exchange->on_gone([&] { ++gone; });
    exchange->start_stream({.content_type = "text/event-stream"});
    ++begun;
    const std::scoped_lock lock(mutex);
    streams.push_back(std::move(exchange));
  });
  std::atomic<bool> done = false;
  std::thread writer([&] {
    while (!done) {
      {
        const std::scoped_lock lock(mutex);
        std::erase_if(streams, [](const auto& stream) { return !stream->write("data: x\n\n"); });
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  for (int i = 0; i < 500; ++i) {
    HttpClient client(server->port());
    ASSERT_TRUE(client.get("/"));
    if (i % 3 == 0) {
      ASSERT_TRUE(client.wait_for("data: x"));
    }
    if (i % 2 == 0) {
      client.reset();
    } else {
      client.close();
    }
  }
  // One that was reset before it was read has never been a request.
  EXPECT_TRUE(becomes_true([&] { return server->connections() == 0 && gone == begun; }));
  EXPECT_GE(begun, 250);
  EXPECT_TRUE(becomes_true([&] {
    const std::scoped_lock lock(mutex);
    return streams.empty();
  }));
  done = true;
  writer.join();
}

// The number: 2,000 idle streams in less than 60 MiB. The clients are of this process, but
// hold no memory besides their sockets.
TEST(HttpStream, TwoThousandIdleStreamsFitInLittleMemory) {
  constexpr int kStreams = 2000;
  HeldExchanges held;
  const auto server = start_http({}, held.handler());
  std::vector<std::shared_ptr<HttpExchange>> exchanges;
  std::vector<HttpClient> clients;
  exchanges.reserve(kStreams);
  clients.reserve(kStreams);
  const double before = own_memory_mib();
  for (int i = 0; i < kStreams; ++i) {
    clients.emplace_back(server->port());
    ASSERT_TRUE(clients.back().get("/v1/chat/completions"));
    exchanges.push_back(held.next());
    exchanges.back()->start_stream({.content_type = "text/event-stream"});
    exchanges.back()->write("data: first\n\n");
  }
  EXPECT_EQ(server->connections(), kStreams);
  const double grown = own_memory_mib() - before;
  RecordProperty("mib", std::to_string(grown));
  std::printf("%d idle streams: %.1f MiB\n", kStreams, grown);
  EXPECT_LT(grown, 60.0);
  // All of them still live. (Two pieces may come as one chunk.)
  for (int i = 0; i < kStreams; ++i)
    ASSERT_TRUE(exchanges[static_cast<std::size_t>(i)]->write("!"));
  for (auto& client : clients) ASSERT_TRUE(client.wait_for("!\r\n"));
}

// The program's soft limit is often 1024.
TEST(HttpDescriptors, MayBeAsManyAsTheSystemAllows) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = 64;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  const auto server = HttpServer::listen({.port = 0});
  rlimit after{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &after), 0);
  EXPECT_EQ(after.rlim_cur, before.rlim_max);
}

// Without a descriptor left, a connection waits; it is not lost, and the server does not end.
TEST(HttpDescriptors, ConnectionsWaitWhileThereAreNone) {
  auto server = HttpServer::listen({.port = 0});
  ASSERT_TRUE(server.has_value());
  HttpClient client((*server)->port());
  ASSERT_TRUE(client.get("/"));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 3;  // what is open stays so
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  (*server)->start(echo_request);
  EXPECT_FALSE(client.receive(0.12));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(client.response().body, "GET /? ");
}

TEST(HttpStop, ClosesIdleConnectionsAndWaitsForAnswers) {
  HeldExchanges held;
  auto server = start_http({}, held.handler());
  const int port = server->port();
  HttpClient idle(port);
  HttpClient busy(port);
  ASSERT_TRUE(busy.get("/"));
  const auto exchange = held.next();
  exchange->start_stream({.body = "begun"});
  ASSERT_TRUE(becomes_true([&] { return server->connections() == 2; }));
  std::thread stopper([&] { server->stop(20.0); });
  EXPECT_TRUE(idle.wait_for_end());
  EXPECT_TRUE(becomes_true([&] { return !HttpClient(port).connected(); }));
  EXPECT_TRUE(exchange->write(", ended"));
  const auto start = Clock::now();
  exchange->finish();
  stopper.join();
  EXPECT_LT(seconds_since(start), 2.0);
  EXPECT_EQ(busy.response().body, "begun, ended");
  EXPECT_TRUE(busy.wait_for_end());
}

TEST(HttpStop, CutsOffWhatTakesLongerThanTheGrace) {
  HeldExchanges held;
  auto server = start_http({}, held.handler());
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/"));
  const auto exchange = held.next();
  std::atomic<bool> gone = false;
  exchange->on_gone([&] { gone = true; });
  const auto start = Clock::now();
  server->stop(0.2);
  EXPECT_GT(seconds_since(start), 0.19);
  EXPECT_LT(seconds_since(start), 2.0);
  EXPECT_TRUE(gone);
  EXPECT_TRUE(client.wait_for_end());
  EXPECT_EQ(server->connections(), 0);
  server.reset();
  // The exchange lives on; nobody hears what it says.
  exchange->respond({});
  EXPECT_FALSE(exchange->write("x"));
  bool told = false;
  exchange->on_gone([&] { told = true; });
  EXPECT_TRUE(told);
}

TEST(HttpStop, ASecondCallShortensTheFirst) {
  HeldExchanges held;
  auto server = start_http({}, held.handler());
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/"));
  const auto exchange = held.next();
  const auto start = Clock::now();
  std::thread patient([&] { server->stop(60.0); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  server->stop(0.0);
  patient.join();
  EXPECT_LT(seconds_since(start), 5.0);
}

TEST(HttpStop, WorksInEveryState) {
  auto never_started = HttpServer::listen({.port = 0});
  ASSERT_TRUE(never_started.has_value());
  (*never_started)->stop(1.0);
  auto server = start_http({}, echo_request);
  HttpClient half(server->port());
  ASSERT_TRUE(half.send("GET / HTTP/1.1\r\nHo"));  // a request that never ends
  ASSERT_TRUE(becomes_true([&] { return server->connections() == 1; }));
  server->stop(0.0);
  server->stop(1.0);
  EXPECT_TRUE(half.wait_for_end());
}

}  // namespace
}  // namespace tg
