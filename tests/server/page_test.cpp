// The page at "/" and what it alone asks for, GET /mesh. What the page does in a browser is tested
// by tests/page.
#include "server/page.h"

#include <gtest/gtest.h>

#include <regex>
#include <string>

#include "server/api_calls.h"
#include "server/mesh_view.h"

namespace tg::test {
namespace {

std::string page_header(const HttpResponse& page, const std::string& name) {
  for (const auto& [key, value] : page.headers) {
    if (key == name) return value;
  }
  return {};
}

TEST(Page, IsTheFileAndNeedsNeitherKeyNorModel) {
  ApiOptions options;
  options.keys = {"secret"};
  Api api(tiny_served({}), options);
  const auto get = [&](const std::string& method) {
    auto exchange = std::make_shared<FakeExchange>();
    HttpRequest request;
    request.method = method;
    request.path = "/";
    api.handle(std::move(request), exchange);
    exchange->wait_for_end();
    return exchange->head;
  };
  const HttpResponse page = get("GET");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.content_type, "text/html; charset=utf-8");
  std::ifstream in(TG_SOURCE_DIR "/src/server/page/index.html", std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(in), {}};
  EXPECT_FALSE(file.empty());
  EXPECT_EQ(page.body, file);
  EXPECT_EQ(get("POST").status, 405);
}

// Of "abc", as the standard's example has it (FIPS 180-2), in base64.
TEST(Page, HashesAreThoseOfTheTextBetweenTheTags) {
  EXPECT_EQ(inline_hash("<p>x</p><script>abc</script><script>d</script>", "script"),
            "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='");
}

TEST(Page, HeadersForbidWhatItDoesNotDo) {
  const HttpResponse page = page_response();
  const std::string policy = page_header(page, "Content-Security-Policy");
  EXPECT_NE(policy.find("default-src 'none'"), std::string::npos) << policy;
  EXPECT_NE(policy.find("script-src " + inline_hash(page.body, "script")), std::string::npos);
  EXPECT_NE(policy.find("style-src " + inline_hash(page.body, "style")), std::string::npos);
  EXPECT_NE(policy.find("connect-src 'self'"), std::string::npos) << policy;
  EXPECT_EQ(policy.find("unsafe"), std::string::npos) << policy;
  EXPECT_EQ(page_header(page, "Cache-Control"), "no-cache");
  EXPECT_EQ(page_header(page, "X-Content-Type-Options"), "nosniff");
}

TEST(Page, HasNoAddressOfAnotherHost) {
  const std::string page = page_response().body;
  const std::regex address(R"(\w+:?//[^\s'"`]+)");
  for (std::sregex_iterator at(page.begin(), page.end(), address), end; at != end; ++at) {
    EXPECT_EQ(at->str(), "http://www.w3.org/2000/svg");  // the name of a language, asked by nobody
  }
  // One of each, without attributes, as what is hashed is the first.
  for (const char* tag : {"<script", "<style"}) {
    const std::size_t first = page.find(tag);
    ASSERT_NE(first, std::string::npos);
    EXPECT_EQ(page[first + std::string(tag).size()], '>') << tag;
    EXPECT_EQ(page.find(tag, first + 1), std::string::npos) << tag;
  }
  EXPECT_EQ(page.find(" style=\""), std::string::npos);
  EXPECT_FALSE(std::regex_search(page, std::regex(R"(\son\w+=")")));
}

TEST(Mesh, TellsWhoIsOnWhichColumn) {
  EngineSnapshot snapshot;
  snapshot.total_pages = 64;
  snapshot.free_pages = 57;
  snapshot.users = {{4, 1, 30, 5, 34, 3}, {9, 0, 80, 0, 64, 4}};
  const Json read = Json::parse(mesh_json({8, 4, 32}, snapshot));
  EXPECT_EQ(read, Json::parse(R"({
    "rows": 8, "columns": 4, "max_users": 32, "total_pages": 64, "free_pages": 57, "users": [
      {"id": 4, "column": 1, "prompt_tokens": 30, "generated_tokens": 5, "cached_tokens": 34, "pages": 3},
      {"id": 9, "column": 0, "prompt_tokens": 80, "generated_tokens": 0, "cached_tokens": 64, "pages": 4}]})"));
}

TEST(Mesh, ShowsARunningAnswerAndThenNobody) {
  TestApi server({.keys = {"secret"}});
  EXPECT_EQ(server.get("/mesh").body.at("users"), Json::array());  // nothing while it loads
  server.load();
  const auto stream = server.send(kCompletions, streamed(read_case("c30_long_stream.json")).dump(),
                                  {{"authorization", "Bearer secret"}});
  stream->wait_for_pieces(3);
  const Json running = server.get("/mesh").body;
  ASSERT_EQ(running.at("users").size(), 1U) << running;
  const Json& user = running.at("users").front();
  EXPECT_EQ(user.at("column"), 0);
  EXPECT_GE(user.at("generated_tokens"), 2);  // the snapshot may be one step old
  EXPECT_EQ(user.at("cached_tokens").get<int>() + 1,
            user.at("prompt_tokens").get<int>() + user.at("generated_tokens").get<int>());
  EXPECT_EQ(running.at("total_pages").get<int>() - running.at("free_pages").get<int>(),
            user.at("pages").get<int>());
  stream->hang_up();
  EXPECT_TRUE(server.becomes_idle());
  EXPECT_EQ(server.get("/mesh").body.at("users"), Json::array());
}

}  // namespace
}  // namespace tg::test
