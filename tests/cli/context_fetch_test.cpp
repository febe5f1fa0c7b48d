// Contexts from URLs, files and text, with every limit of a download.
#include "cli/context_fetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "cli/http_servers.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

class ContextFetch : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("tg_context_" + std::to_string(::getpid()) + "_" +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
    options_.base_directory = folder_.string();
    options_.cache_directory = (folder_ / "cache").string();
    options_.timeout_s = 5.0;
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  std::string failure(const std::string& context) const {
    const Result<std::string> text = fetch_context(context, options_);
    return text ? "succeeded with " + *text : text.error().text();
  }
  std::ptrdiff_t cached_files() const {
    if (!fs::exists(options_.cache_directory)) return 0;
    return std::distance(fs::directory_iterator(options_.cache_directory), {});
  }

  fs::path folder_;
  ContextOptions options_;
};

TEST_F(ContextFetch, TextStandsForItself) {
  for (const char* text : {"Some words of text.", "word", "http is a protocol.", "Two\nlines."}) {
    EXPECT_EQ(fetch_context(text, options_).value(), text);
  }
  // Longer than any file name.
  const std::string long_text(100000, 'a');
  EXPECT_EQ(fetch_context(long_text, options_).value(), long_text);
}

TEST_F(ContextFetch, FilesLieBesideThePromptFile) {
  write("book.txt", "\xEF\xBB\xBFIt was a dark night.\xFF");
  write("my book", "spaces");
  write("plain", "one word");
  EXPECT_EQ(fetch_context("book.txt", options_).value(), "It was a dark night.\xEF\xBF\xBD");
  EXPECT_EQ(fetch_context("./book.txt", options_).value(), "It was a dark night.\xEF\xBF\xBD");
  EXPECT_EQ(fetch_context("my book", options_).value(), "spaces");
  EXPECT_EQ(fetch_context("plain", options_).value(), "one word");
  EXPECT_EQ(fetch_context((folder_ / "book.txt").string(), options_).value().size(), 23U);
  const Result<std::string> missing = fetch_context("missing.txt", options_);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().text(),
            "missing.txt: no such file (one word with a '.' or '/' in it is taken for one)");
  EXPECT_THAT(failure("."), testing::StartsWith(".: no such file"));
  options_.max_bytes = 4;
  EXPECT_EQ(failure("plain"), "plain: 8 bytes, more than 4");
  EXPECT_LT(failure(std::string(100000, 'a') + "/").size(), 500U);
}

TEST_F(ContextFetch, OnlyHttpAndHttps) {
  for (const char* url : {"file:///etc/passwd", "FILE:///etc/passwd", "file:/etc/passwd",
                          "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "dict://127.0.0.1/x"}) {
    const Result<std::string> text = fetch_context(url, options_);
    ASSERT_FALSE(text) << url;
    EXPECT_EQ(text.error().code, ErrorCode::kBadArgument);
    EXPECT_THAT(text.error().text(), testing::StartsWith(std::string(url) + ": "));
    EXPECT_THAT(text.error().text(), testing::HasSubstr("only http and https"));
  }
  EXPECT_EQ(failure("http://"), "http://: 'http://' is no URL");
}

TEST_F(ContextFetch, LinkLocalAddressesAreNotAsked) {
  for (const char* url : {"http://169.254.169.254/latest", "http://2852039166/",
                          "http://0xA9FEA9FE/", "http://[fe80::1]/", "http://[febf::1]/",
                          "http://[::ffff:169.254.1.1]/", "https://169.254.0.1:8443/"}) {
    EXPECT_THAT(failure(url), testing::HasSubstr("link-local address, which is not allowed"))
        << url;
  }
}

// A name may resolve to such an address: what counts is where the socket goes. A proxy's address is
// the one that a test can choose.
TEST_F(ContextFetch, TheAddressConnectedToCounts) {
  const char* before = std::getenv("http_proxy");
  const std::string kept = before != nullptr ? before : "";
  ::setenv("http_proxy", "http://169.254.1.1:80", 1);
  EXPECT_EQ(failure("http://somewhere.invalid/"),
            "http://somewhere.invalid/: http://somewhere.invalid/ is at a link-local address, "
            "which is not allowed");
  before != nullptr ? ::setenv("http_proxy", kept.c_str(), 1) : ::unsetenv("http_proxy");
}

TEST_F(ContextFetch, ADownloadHappensOnce) {
  {
    const CannedServer server(http_reply("200 OK", "Content-Type: text/plain\r\n", "hello \xFF"));
    EXPECT_EQ(fetch_context(server.url(), options_).value(), "hello \xEF\xBF\xBD");
    EXPECT_EQ(fetch_context(server.url(), options_).value(), "hello \xEF\xBF\xBD");
    EXPECT_EQ(server.hits(), 1);
    EXPECT_EQ(cached_files(), 1);
    // Another URL, another file.
    EXPECT_TRUE(fetch_context(server.url() + "?2", options_));
    EXPECT_EQ(server.hits(), 2);
    EXPECT_EQ(cached_files(), 2);
    // Nothing is kept without a cache.
    options_.cache_directory.clear();
    EXPECT_TRUE(fetch_context(server.url(), options_));
    EXPECT_EQ(server.hits(), 3);
  }
}

TEST_F(ContextFetch, ACopyNeedsNoServer) {
  std::string url;
  {
    const CannedServer server(http_reply("200 OK", "", "kept"));
    url = server.url();
    EXPECT_TRUE(fetch_context(url, options_));
  }
  EXPECT_EQ(fetch_context(url, options_).value(), "kept");
}

TEST_F(ContextFetch, ACacheThatCannotBeWrittenIsNoError) {
  write("cache", "a file where the directory should be");
  const CannedServer server(http_reply("200 OK", "", "text"));
  EXPECT_EQ(fetch_context(server.url(), options_).value(), "text");
}

TEST_F(ContextFetch, OnlyCompleteAnswersCount) {
  {
    const CannedServer server(http_reply("500 Oops", "", "sorry"));
    EXPECT_EQ(failure(server.url()), server.url() + ": the server answers 500");
  }
  {
    const CannedServer server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    EXPECT_THAT(failure(server.url()), testing::HasSubstr("6 bytes remaining"));
  }
  {
    const CannedServer server("no HTTP at all\r\n\r\n");
    EXPECT_THAT(failure(server.url()), testing::StartsWith(server.url() + ": "));
  }
  EXPECT_EQ(cached_files(), 0);
}

TEST_F(ContextFetch, RedirectsKeepTheRules) {
  for (const char* target : {"file:///etc/passwd", "ftp://127.0.0.1/x", "http://169.254.1.1/"}) {
    const CannedServer server(
        http_reply("302 Found", std::string("Location: ") + target + "\r\n", ""));
    EXPECT_THAT(failure(server.url()), testing::HasSubstr("not allowed")) << target;
    EXPECT_EQ(server.hits(), 1);
  }
  const CannedServer end(http_reply("200 OK", "", "the end"));
  const CannedServer start(http_reply("301 Moved", "Location: " + end.url() + "\r\n", ""));
  EXPECT_EQ(fetch_context(start.url(), options_).value(), "the end");
  options_.cache_directory.clear();
  options_.max_redirects = 0;
  EXPECT_EQ(failure(start.url()), start.url() + ": more than 0 redirects");
}

std::string gzipped(const std::string& text) {
  std::string out(text.size() + 1000, '\0');
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

TEST_F(ContextFetch, TheLimitIsOnTheDecodedSize) {
  options_.max_bytes = 1 << 20;
  const std::string fits(1 << 20, 'x');
  const std::string body = gzipped(fits);
  ASSERT_LT(body.size(), 5000U);
  {
    const CannedServer server(http_reply("200 OK", "Content-Encoding: gzip\r\n", body));
    EXPECT_EQ(fetch_context(server.url(), options_).value(), fits);
  }
  const CannedServer bomb(http_reply("200 OK", "Content-Encoding: gzip\r\n", gzipped(fits + "x")));
  const Result<std::string> text = fetch_context(bomb.url() + "?bomb", options_);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kOutOfCapacity);
  EXPECT_EQ(text.error().text(), bomb.url() + "?bomb: more than 1048576 bytes");
}

TEST_F(ContextFetch, ACopyMayBeLongerThanItsDownload) {
  options_.max_bytes = 10;
  const CannedServer server(http_reply("200 OK", "", std::string(10, '\xFF')));
  const std::string text = fetch_context(server.url(), options_).value();
  EXPECT_EQ(text.size(), 30U);
  EXPECT_EQ(fetch_context(server.url(), options_).value(), text);
  EXPECT_EQ(server.hits(), 1);
}

TEST_F(ContextFetch, CharacterSets) {
  const ContextServer server;
  EXPECT_EQ(fetch_context(server.url("/latin1.txt"), options_).value(), "caf\xC3\xA9");
  EXPECT_EQ(fetch_context(server.url("/emoji.txt"), options_).value().size(), 40U);
}

TEST(Context, WhiteSpaceDoesNotMakeAUrlText) {
  ContextOptions options;
  options.cache_directory = "";
  for (const char* url :
       {" http://127.0.0.1:1/x", "http://127.0.0.1:1/x\n", "http://127.0.0.1:1/a b"}) {
    const auto text = fetch_context(url, options);
    ASSERT_FALSE(text) << url;
    EXPECT_THAT(text.error().text(), testing::HasSubstr("127.0.0.1:1"));
  }
  EXPECT_EQ(fetch_context("see http://127.0.0.1:1/x for more", options).value(),
            "see http://127.0.0.1:1/x for more");
  const std::string with_nul("p1.json\0 some text", 18);
  EXPECT_EQ(fetch_context(with_nul, options).value(), with_nul);
}

}  // namespace
}  // namespace tg
