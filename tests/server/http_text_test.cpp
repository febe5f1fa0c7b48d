// The text side of HTTP, without sockets.
#include "server/http_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tg {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

TEST(HttpText, ReadsTargets) {
  const struct {
    const char* target;
    const char* path;
    const char* query;
  } cases[] = {
      {"/", "/", ""},
      {"/v1/models?a=b&c", "/v1/models", "a=b&c"},
      {"/a%2Fb%3F?x%20", "/a/b?", "x%20"},
      {"/%E2%82%AC", "/\xE2\x82\xAC", ""},
      {"http://h:80/p?q", "/p", "q"},
      {"https://h?q", "/", "q"},
      {"http://h", "/", ""},
      {"HTTP://h/p", "/p", ""},
      {"/p#fragment?x", "/p", ""},
      {"/a?b?c", "/a", "b?c"},
      {"*", "*", ""},
  };
  for (const auto& one : cases) {
    const auto target = parse_http_target(one.target);
    ASSERT_TRUE(target.has_value()) << one.target;
    EXPECT_EQ(target->path, one.path) << one.target;
    EXPECT_EQ(target->query, one.query) << one.target;
  }
  for (const char* bad : {"", "host:443", "ftp://h/", "/%", "/%4", "/%4g", "/%00", "/%ff",
                          "/\xC3\x28", "/%ed%a0%80"}) {
    EXPECT_FALSE(parse_http_target(bad).has_value()) << bad;
  }
}

TEST(HttpText, TakesRequestIdsThatCanDoNoHarm) {
  for (const char* good : {"a", "req-1.2:3/4+5=6@7_8"}) EXPECT_TRUE(is_harmless_request_id(good));
  EXPECT_TRUE(is_harmless_request_id(std::string(128, 'a')));
  EXPECT_FALSE(is_harmless_request_id(std::string(129, 'a')));
  for (const char* bad : {"", " ", "a b", "\"", "a\n", "<b>", "\xC3\xA9"}) {
    EXPECT_FALSE(is_harmless_request_id(bad)) << bad;
  }
}

TEST(HttpText, WritesDatesAsHttpWantsThem) {
  EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");  // RFC 9110's example
  EXPECT_EQ(http_date(1709208000), "Thu, 29 Feb 2024 12:00:00 GMT");
}

TEST(HttpText, WritesHeadsByFraming) {
  const HttpResponse response{.status = 404,
                              .headers = {{"A", "b\r\nC: d"}, {"TRANSFER-ENCODING", "gzip"}},
                              .body = "12345"};
  HttpHeadFacts facts{.date = "today", .request_id = "id"};
  EXPECT_EQ(http_response_head(response, facts),
            "HTTP/1.1 404 Not Found\r\nDate: today\r\nServer: llama-tg\r\nContent-Length: 5\r\n"
            "Content-Type: application/json\r\nX-Request-Id: id\r\nA: bC: d\r\n\r\n");
  facts.framing = HttpFraming::kChunked;
  facts.keep_alive = false;
  std::string head = http_response_head(response, facts);
  EXPECT_THAT(head, HasSubstr("\r\nTransfer-Encoding: chunked\r\n"));
  EXPECT_THAT(head, HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_THAT(head, Not(HasSubstr("Content-Length")));
  facts.framing = HttpFraming::kNoBody;
  facts.keep_alive = facts.http_1_0 = true;
  head = http_response_head({.status = 204}, facts);
  EXPECT_THAT(head, HasSubstr("HTTP/1.1 204 No Content\r\n"));
  EXPECT_THAT(head, HasSubstr("\r\nConnection: keep-alive\r\n"));
  EXPECT_THAT(head, Not(HasSubstr("Content-")));
  // A status that could not be written as one.
  EXPECT_THAT(http_response_head({.status = 7}, {}), HasSubstr("HTTP/1.1 500 "));
}

TEST(HttpText, KnowsWhoMayReadAnswers) {
  const CorsRequest from_a{.method = "GET", .origin = "http://a"};
  EXPECT_THAT(cors_headers({}, from_a), IsEmpty());
  EXPECT_THAT(cors_headers({"*"}, from_a), Contains(Pair("Access-Control-Allow-Origin", "*")));
  EXPECT_THAT(cors_headers({"*"}, {.method = "GET"}), IsEmpty());
  EXPECT_THAT(cors_headers({"http://b", "http://a"}, from_a),
              Contains(Pair("Access-Control-Allow-Origin", "http://a")));
  // Another origin gets nothing but the word that it depends on the origin.
  EXPECT_THAT(cors_headers({"http://b"}, from_a), testing::ElementsAre(Pair("Vary", "Origin")));
  CorsRequest preflight{.method = "OPTIONS",
                        .origin = "http://a",
                        .wanted_method = "POST",
                        .wanted_headers = "x-one, x-two"};
  EXPECT_TRUE(is_preflight(preflight));
  EXPECT_THAT(cors_headers({"*"}, preflight),
              Contains(Pair("Access-Control-Allow-Headers", "x-one, x-two")));
  preflight.wanted_headers = "x(1)";
  EXPECT_THAT(cors_headers({"*"}, preflight),
              Not(Contains(Pair("Access-Control-Allow-Headers", testing::_))));
  preflight.wanted_method = "";
  EXPECT_FALSE(is_preflight(preflight));
}

TEST(HttpText, ErrorBodiesAreJsonWhateverTheMessageHolds) {
  const auto body = nlohmann::json::parse(plain_error_body(400, "\xFF \" \n"));
  EXPECT_EQ(body["error"]["message"], "\xEF\xBF\xBD \" \n");
  EXPECT_EQ(body["error"]["type"], "invalid_request_error");
  EXPECT_TRUE(body["error"]["param"].is_null());
}

}  // namespace
}  // namespace tg
