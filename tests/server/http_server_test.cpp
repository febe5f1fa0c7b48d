// Answers given at once: what arrives at the handler and what at the client, in every way in which
// bytes can be cut, and what the server says by itself.
#include "server/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "server/http_client.h"

namespace tg {
namespace {

using ::testing::HasSubstr;

TEST(HttpServer, GivesTheHandlerTheRequestAndTheClientTheAnswer) {
  std::mutex mutex;
  HttpRequest seen;
  const auto server = start_http({}, [&](const HttpRequest& request, const auto& exchange) {
    const std::scoped_lock lock(mutex);
    seen = request;
    exchange->respond({.status = 202,
                       .content_type = "text/plain",
                       .headers = {{"X-Extra", "a\r\nInjected: b"}, {"Content-Length", "7"}},
                       .body = "hello"});
  });
  HttpClient client(server->port());
  ASSERT_TRUE(
      client.send("POST /a%20b/%C3%A9?x=%20 HTTP/1.1\r\nHost: h\r\nX-Request-Id: my-id.1\r\n"
                  "CONTENT-length: 4\r\n\r\nbody"));
  const ClientResponse answer = client.response();
  EXPECT_EQ(answer.status, 202);
  EXPECT_THAT(answer.head, HasSubstr("HTTP/1.1 202 Accepted\r\n"));
  EXPECT_EQ(answer.body, "hello");
  EXPECT_EQ(answer.header("X-Request-Id"), "my-id.1");
  EXPECT_EQ(answer.header("Content-Type"), "text/plain");
  EXPECT_EQ(answer.header("Server"), "llama-tg");
  EXPECT_EQ(answer.header("Content-Length"), "5");
  EXPECT_EQ(answer.header("Date").size(), std::string("Sat, 28 Nov 2026 12:00:00 GMT").size());
  // The line break of the value is gone, so what stood behind it is no header.
  EXPECT_EQ(answer.header("X-Extra"), "aInjected: b");
  EXPECT_EQ(answer.header("Injected"), "");

  const std::scoped_lock lock(mutex);
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.path, "/a b/\xC3\xA9");
  EXPECT_EQ(seen.query, "x=%20");
  EXPECT_EQ(seen.body, "body");
  EXPECT_EQ(seen.id, "my-id.1");
  EXPECT_EQ(seen.header("content-length"), "4");
  EXPECT_EQ(seen.header("none"), "");
  EXPECT_THAT(seen.remote, HasSubstr("127.0.0.1:"));
}

TEST(HttpServer, MakesAnIdWhenTheClientsIsMissingOrHarmful) {
  const auto server = start_http({}, echo_request);
  HttpClient client(server->port());
  std::vector<std::string> ids;
  for (const std::string sent : {"", "X-Request-Id: a b\r\n", "X-Request-Id: \"x\"\r\n"}) {
    ASSERT_TRUE(client.get("/", sent));
    ids.push_back(client.response().header("X-Request-Id"));
    EXPECT_THAT(ids.back(), testing::MatchesRegex("req-[0-9a-f]{16}"));
  }
  EXPECT_NE(ids[0], ids[1]);
  EXPECT_NE(ids[1], ids[2]);
}

// The same requests cut at every byte: a body by length, one in chunks with extensions and a
// trailer, an empty one in chunks, none.
TEST(HttpServer, ReadsRequestsThatComeByteByByte) {
  const auto server = start_http({}, echo_request);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"POST /l HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", "POST /l? abc"},
      {"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
       "3;e=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n",
       "POST /c? abc0123456789"},
      {"POST /e HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST /e? "},
      {"\r\nGET /n?q HTTP/1.1\r\nHost: h\r\n\r\n", "GET /n?q "},
      {"GET http://h:1/abs?q HTTP/1.1\r\nHost: h\r\n\r\n", "GET /abs?q "},
  };
  HttpClient client(server->port());
  for (const auto& [request, expected] : cases) {
    for (const char& byte : request) {
      ASSERT_TRUE(client.send(std::string_view(&byte, 1)));
      std::this_thread::yield();
    }
    EXPECT_EQ(client.response().body, expected);
  }
}

// The second and third request come while the first is in progress: that is no hang-up, and the
// answers keep the order.
TEST(HttpServer, AnswersPipelinedRequestsInOrder) {
  HeldExchanges held;
  std::atomic<bool> gone = false;
  const auto server = start_http({}, held.handler());
  HttpClient client(server->port());
  const std::string next = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  ASSERT_TRUE(client.send(next + next + next));
  for (int i = 0; i < 3; ++i) {
    const auto exchange = held.next();
    exchange->on_gone([&] { gone = true; });
    if (i == 0) {
      ASSERT_FALSE(client.receive(0.05));
      ASSERT_TRUE(client.send(next));  // a fourth, in the middle of the first
    }
    exchange->respond({.body = std::to_string(i)});
    EXPECT_EQ(client.response().body, std::to_string(i));
  }
  held.next()->respond({.body = "3"});
  EXPECT_EQ(client.response().body, "3");
  EXPECT_FALSE(gone);
  // Far more than is read ahead: the rest waits in the kernel and is not lost.
  std::thread answers([&] {
    for (int i = 0; i < 2000; ++i) held.next()->respond({.body = std::to_string(i)});
  });
  std::string many;
  for (int i = 0; i < 2000; ++i) many += next;
  std::thread sender([&] { client.send(many); });
  int in_order = 0;
  while (in_order < 2000 && client.response().body == std::to_string(in_order)) ++in_order;
  EXPECT_EQ(in_order, 2000);
  sender.join();
  answers.join();
}

TEST(HttpServer, AsksForTheBodyOfAClientThatWaitsForIt) {
  const auto server = start_http({.max_body_bytes = 100}, echo_request);
  HttpClient client(server->port());
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n";
  ASSERT_TRUE(client.send(head + "Content-Length: 4\r\n\r\n"));
  EXPECT_EQ(client.response().status, 100);
  ASSERT_TRUE(client.send("body"));
  EXPECT_EQ(client.response().body, "POST /? body");
  // Too long: refused without the body.
  ASSERT_TRUE(client.send(head + "Content-Length: 101\r\n\r\n"));
  EXPECT_EQ(client.response().status, 413);
}

TEST(HttpServer, AnswersHeadAsGetWithoutTheBody) {
  HeldExchanges held;
  const auto server = start_http({}, [&](const HttpRequest& request, auto exchange) {
    if (request.path == "/stream") {
      exchange->start_stream({.content_type = "text/event-stream"});
      held.handler()(request, std::move(exchange));
    } else {
      echo_request(request, exchange);
    }
  });
  HttpClient client(server->port());
  ASSERT_TRUE(client.send("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n"));
  ClientResponse answer = client.response(true);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.header("Content-Length"), std::to_string(std::string("GET /x? ").size()));
  ASSERT_TRUE(client.send("HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_EQ(client.response(true).header("Content-Type"), "text/event-stream");
  // Whoever makes the stream hears that nobody wants it.
  const auto stream = held.next();
  EXPECT_TRUE(becomes_true([&] { return !stream->write("x"); }));
  ASSERT_TRUE(client.get("/y"));
  EXPECT_EQ(client.response().body, "GET /y? ");
}

TEST(HttpServer, SpeaksHttp10) {
  const auto server = start_http({}, [](const HttpRequest& request, const auto& exchange) {
    if (request.path != "/stream") return echo_request(request, exchange);
    exchange->start_stream({.content_type = "text/event-stream", .body = "one "});
    exchange->write("two");
    exchange->finish();
  });
  {
    HttpClient client(server->port());
    ASSERT_TRUE(client.send("GET /x HTTP/1.0\r\n\r\n"));
    const ClientResponse answer = client.response();
    EXPECT_EQ(answer.body, "GET /x? ");
    EXPECT_EQ(answer.header("Connection"), "close");
    EXPECT_TRUE(client.wait_for_end());
  }
  HttpClient client(server->port());
  ASSERT_TRUE(client.send("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  EXPECT_EQ(client.response().header("Connection"), "keep-alive");
  ASSERT_TRUE(client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  const ClientResponse stream = client.response();
  EXPECT_EQ(stream.header("Transfer-Encoding"), "");
  EXPECT_EQ(stream.body, "one two");
  EXPECT_TRUE(stream.complete);
}

TEST(HttpServer, ClosesWhenAskedTo) {
  const auto server = start_http({}, [](const HttpRequest& request, const auto& exchange) {
    if (request.path == "/close") return exchange->respond({.headers = {{"Connection", "close"}}});
    exchange->respond({.status = 204});
  });
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/", "Connection: close\r\n"));
  EXPECT_EQ(client.response().status, 204);
  EXPECT_TRUE(client.wait_for_end());
  HttpClient other(server->port());
  ASSERT_TRUE(other.get("/close"));
  EXPECT_EQ(other.response().header("Connection"), "close");
  EXPECT_TRUE(other.wait_for_end());
}

TEST(HttpServer, RefusesWhatIsMalformedWithTheCallersErrorBody) {
  HttpOptions options;
  options.max_header_bytes = 2048;
  options.max_body_bytes = 1000;
  options.error_body = [](int status, const std::string& message) {
    return std::to_string(status) + "|" + message;
  };
  std::atomic<int> handled = 0;
  const auto server = start_http(options, [&](const HttpRequest& request, const auto& exchange) {
    ++handled;
    echo_request(request, exchange);
  });
  const std::string post = "POST / HTTP/1.1\r\nHost: h\r\n";
  const std::vector<std::pair<int, std::string>> cases = {
      {400, "nonsense\r\n\r\n"},
      {400, "GET / HTTP/2.0\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\n\r\n"},  // no Host
      {400, "GET / HTTP/1.1\nHost: h\n\n"},
      {400, "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: h\r\nbad header\r\n\r\n"},
      {400, post + "Content-Length: -1\r\n\r\n"},
      {400, post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"},
      {400, post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {501, post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
      {501, post + "Transfer-Encoding: gzip\r\n\r\n"},
      {400, post + "Transfer-Encoding: chunked\r\n\r\nzz\r\nab"},
      {400, post + "Transfer-Encoding: chunked\r\n\r\n1" + std::string(30000, ' ')},
      {417, post + "Expect: cake\r\n\r\n"},
      {413, post + "Content-Length: 1001\r\n\r\n"},
      {413, post + "Content-Length: 99999999999999999\r\n\r\n"},
      {413, post + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + std::string(1001, 'x')},
      {431, "GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(3000, 'x')},
      {431, "GET /" + std::string(3000, 'x')},
  };
  for (const auto& [status, request] : cases) {
    HttpClient client(server->port());
    ASSERT_TRUE(client.send(request));
    const ClientResponse answer = client.response();
    EXPECT_EQ(answer.status, status) << request.substr(0, 100);
    EXPECT_EQ(answer.body.substr(0, 4), std::to_string(status) + "|");
    EXPECT_EQ(answer.header("Connection"), "close");
  }
  EXPECT_EQ(handled, 0);
  // What is just within the limits is taken.
  HttpClient client(server->port());
  ASSERT_TRUE(client.post("/", std::string(1000, 'x')));
  EXPECT_EQ(client.response().status, 200);
}

// A client that goes on sending a body that is too long must still see why it was refused.
TEST(HttpServer, TellsAClientThatIsStillSending) {
  const auto server = start_http({.max_body_bytes = 1000}, echo_request);
  HttpClient client(server->port());
  const std::string body(4 << 20, 'x');
  ASSERT_TRUE(client.post("/", body));
  EXPECT_EQ(client.response().status, 413);
}

TEST(HttpServer, AnswersForAHandlerThatDoesNot) {
  HeldExchanges held;
  const auto server = start_http({}, [&](const HttpRequest& request, const auto& exchange) {
    if (request.path == "/throws") throw std::runtime_error("a bug");
    if (request.path == "/breaks") exchange->start_stream({.body = "begun"});
    if (request.path == "/late") held.handler()(request, exchange);
  });
  for (const std::string path : {"/throws", "/forgets"}) {
    HttpClient client(server->port());
    ASSERT_TRUE(client.get(path));
    const ClientResponse answer = client.response();
    EXPECT_EQ(answer.status, 500);
    EXPECT_EQ(nlohmann::json::parse(answer.body)["error"]["type"], "server_error");
  }
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/breaks"));
  const ClientResponse answer = client.response();
  EXPECT_EQ(answer.body, "begun");
  EXPECT_FALSE(answer.complete);
  HttpClient late(server->port());
  ASSERT_TRUE(late.get("/late"));
  ASSERT_FALSE(late.receive(0.05));
  held.next().reset();  // the last one who could have answered
  EXPECT_EQ(late.response().status, 500);
}

TEST(HttpServer, OnlyTheFirstAnswerCounts) {
  const auto server = start_http({}, [](const HttpRequest& /*request*/, const auto& exchange) {
    exchange->finish();
    EXPECT_FALSE(exchange->write("too early"));
    exchange->respond({.body = "first"});
    exchange->respond({.body = "second"});
    exchange->start_stream({.body = "third"});
    EXPECT_FALSE(exchange->write("fourth"));
  });
  HttpClient client(server->port());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(client.get("/"));
    EXPECT_EQ(client.response().body, "first");
  }
}

TEST(HttpServer, AnswersPagesOfAllowedOriginsOnly) {
  HttpOptions options;
  options.cors_origins = {"https://page.example"};
  const auto server = start_http(options, echo_request);
  HttpClient client(server->port());
  const std::string ask =
      "OPTIONS /v1/models HTTP/1.1\r\nHost: h\r\nAccess-Control-Request-Method: POST\r\n"
      "Access-Control-Request-Headers: authorization, x-other\r\nOrigin: ";
  ASSERT_TRUE(client.send(ask + "https://page.example\r\n\r\n"));
  ClientResponse answer = client.response();
  EXPECT_EQ(answer.status, 204);
  EXPECT_EQ(answer.header("Access-Control-Allow-Origin"), "https://page.example");
  EXPECT_EQ(answer.header("Access-Control-Allow-Headers"), "authorization, x-other");
  EXPECT_THAT(answer.header("Access-Control-Allow-Methods"), HasSubstr("POST"));
  EXPECT_EQ(answer.header("Vary"), "Origin");
  EXPECT_EQ(answer.header("Content-Length"), "");
  ASSERT_TRUE(client.send(ask + "https://other.example\r\n\r\n"));
  answer = client.response();
  EXPECT_EQ(answer.status, 204);
  EXPECT_EQ(answer.header("Access-Control-Allow-Origin"), "");
  // The answers themselves, the server's own included, say so too.
  ASSERT_TRUE(client.get("/", "Origin: https://page.example\r\n"));
  EXPECT_EQ(client.response().header("Access-Control-Allow-Origin"), "https://page.example");
  ASSERT_TRUE(client.get("/", "Origin: https://page.example\r\nExpect: cake\r\n"));
  answer = client.response();
  EXPECT_EQ(answer.status, 417);
  EXPECT_EQ(answer.header("Access-Control-Allow-Origin"), "https://page.example");

  // Without origins there is no CORS: the handler decides.
  const auto plain = start_http({}, echo_request);
  HttpClient other(plain->port());
  ASSERT_TRUE(other.send(ask + "https://page.example\r\n\r\n"));
  answer = other.response();
  EXPECT_EQ(answer.body, "OPTIONS /v1/models? ");
  EXPECT_EQ(answer.header("Access-Control-Allow-Origin"), "");
}

TEST(HttpServer, RecordsEveryExchange) {
  std::mutex mutex;
  std::vector<HttpRecord> records;
  std::shared_ptr<HttpExchange> kept;
  HttpOptions options;
  options.on_done = [&](const HttpRecord& record) {
    const std::scoped_lock lock(mutex);
    records.push_back(record);
    throw std::runtime_error("a bug of the caller's, which stays there");
  };
  auto server = start_http(options, [&](const HttpRequest& request, const auto& exchange) {
    if (request.path != "/never") return echo_request(request, exchange);
    kept = exchange;
  });
  HttpClient client(server->port());
  ASSERT_TRUE(client.get("/q%22?secret=1", "X-Request-Id: one\r\n"));
  EXPECT_EQ(client.response().status, 200);
  ASSERT_TRUE(client.send("rubbish\r\n\r\n"));
  EXPECT_EQ(client.response().status, 400);
  HttpClient gone(server->port());
  ASSERT_TRUE(gone.get("/never"));
  ASSERT_FALSE(gone.receive(0.05));
  gone.close();
  ASSERT_TRUE(becomes_true([&] {
    const std::scoped_lock lock(mutex);
    return records.size() == 3;
  }));
  server.reset();
  EXPECT_EQ(records[0].method, "GET");
  EXPECT_EQ(records[0].path, "/q\"");  // without the query, which may have secrets
  EXPECT_EQ(records[0].status, 200);
  EXPECT_EQ(records[0].bytes, std::string("GET /q\"?secret=1 ").size());
  EXPECT_EQ(records[0].id, "one");
  EXPECT_THAT(records[0].remote, HasSubstr("127.0.0.1:"));
  EXPECT_GT(records[0].unix_time_s, 1.7e9);
  EXPECT_GE(records[0].seconds, 0.0);
  EXPECT_TRUE(records[0].complete);
  EXPECT_EQ(records[1].status, 400);
  EXPECT_EQ(records[2].status, 499);
  EXPECT_FALSE(records[2].complete);
}

TEST(HttpServer, TellsClientsWhenThereAreTooMany) {
  HttpOptions options;
  options.max_connections = 2;
  const auto server = start_http(options, echo_request);
  HttpClient first(server->port());
  auto second = std::make_unique<HttpClient>(server->port());
  ASSERT_TRUE(becomes_true([&] { return server->connections() == 2; }));
  HttpClient third(server->port());
  third.get("/");
  const ClientResponse refused = third.response();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.header("Retry-After"), "1");
  EXPECT_TRUE(third.wait_for_end());
  third.close();
  second.reset();
  ASSERT_TRUE(becomes_true([&] { return server->connections() == 1; }));
  HttpClient fourth(server->port());
  ASSERT_TRUE(fourth.get("/"));
  EXPECT_EQ(fourth.response().status, 200);
  ASSERT_TRUE(first.get("/"));
  EXPECT_EQ(first.response().status, 200);
}

TEST(HttpServer, SaysWhyItCannotListen) {
  const auto first = start_http({}, echo_request);
  const auto refused = HttpServer::listen({.port = first->port()});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kIo);
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(first->port())));
  for (const HttpOptions& options :
       {HttpOptions{.port = 70000}, HttpOptions{.port = 0, .tls_key = "only.pem"},
        HttpOptions{.port = 0, .tls_certificate = "/none.pem", .tls_key = "/none.pem"},
        HttpOptions{.port = 0, .max_header_bytes = 0},
        HttpOptions{.port = 0, .idle_timeout_s = 0.0}}) {
    const auto bad = HttpServer::listen(options);
    ASSERT_FALSE(bad.has_value());
    EXPECT_EQ(bad.error().code, ErrorCode::kBadArgument);
  }
}

// Connections wait between listen() and start(): a program can open its port before it is ready.
TEST(HttpServer, TakesConnectionsThatCameBeforeTheStart) {
  auto server = HttpServer::listen({.port = 0});
  ASSERT_TRUE(server.has_value());
  HttpClient client((*server)->port());
  ASSERT_TRUE(client.get("/early"));
  EXPECT_FALSE(client.receive(0.05));
  (*server)->start(echo_request);
  EXPECT_EQ(client.response().body, "GET /early? ");
}

}  // namespace
}  // namespace tg
