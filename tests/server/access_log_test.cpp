// The access log where it cannot be written: full disks, pipes that nobody empties, rotation.
#include "server/access_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

namespace tg {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A folder of its own, and what was said.
class AccessLogTest : public ::testing::Test {
 protected:
  AccessLogTest()
      : folder_(std::filesystem::temp_directory_path() /
                ("tg_access_log_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);
  }
  ~AccessLogTest() override {
    std::filesystem::remove_all(folder_);
    ::signal(SIGPIPE, SIG_DFL);
    ::signal(SIGXFSZ, SIG_DFL);
  }

  std::string file(const std::string& name) const { return (folder_ / name).string(); }
  std::unique_ptr<AccessLog> open(const std::string& path) {
    auto log = AccessLog::open(path, [this](const std::string& what) { said_.push_back(what); });
    EXPECT_TRUE(log.has_value()) << log.error().text();
    return log ? std::move(*log) : nullptr;
  }
  static std::string text_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  std::filesystem::path folder_;
  std::vector<std::string> said_;
};

TEST_F(AccessLogTest, WritesALine) {
  HttpRecord record{.unix_time_s = 784111777.25,
                    .seconds = 0.0123456,
                    .remote = "127.0.0.1:1",
                    .method = "GET",
                    .path = "/\"\n\xC3\xA9",
                    .id = "i",
                    .status = 200,
                    .bytes = 12,
                    .complete = true};
  EXPECT_EQ(access_log_line(record),
            R"({"time":"1994-11-06T08:49:37.250Z","remote":"127.0.0.1:1","method":"GET",)"
            "\"path\":\"/\\\"\\n\xC3\xA9\",\"status\":200,\"bytes\":12,\"ms\":12.346,\"id\":\"i\","
            "\"complete\":true}");
  // Whatever the bytes are and however many.
  record.path.clear();
  for (int byte = 0; byte < 256; ++byte) record.path += static_cast<char>(byte);
  for (int i = 0; i < 30000; ++i) record.path += "\xE2\x82\xAC";
  record.method = std::string(60000, 'A');
  const std::string line = access_log_line(record);
  EXPECT_LT(line.size(), 4096U);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_TRUE(nlohmann::json::accept(line)) << line;
}

TEST_F(AccessLogTest, AppendsAndFollowsItsName) {
  std::ofstream(file("log")) << "half of a li";  // what a killed server may leave
  const auto log = open(file("log"));
  log->write("one");
  log->write("two");
  EXPECT_EQ(text_of(file("log")), "half of a li\none\ntwo\n");
  std::filesystem::rename(file("log"), file("log.1"));
  log->write("three");
  EXPECT_EQ(text_of(file("log")), "three\n");
  EXPECT_EQ(text_of(file("log.1")), "half of a li\none\ntwo\n");
  std::filesystem::resize_file(file("log"), 0);  // the other way of rotating
  log->write("four");
  EXPECT_EQ(text_of(file("log")), "four\n");
  std::filesystem::remove(file("log"));
  log->write("five");
  EXPECT_EQ(text_of(file("log")), "five\n");
  EXPECT_EQ(log->lost(), 0);
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(AccessLogTest, ItsFolderMayGoAndComeBack) {
  std::filesystem::create_directory(folder_ / "sub");
  const auto log = open(file("sub/log"));
  std::filesystem::remove_all(folder_ / "sub");
  log->write("one");
  log->write("two");
  EXPECT_THAT(said_, ElementsAre(HasSubstr("No such file or directory")));
  std::filesystem::create_directory(folder_ / "sub");
  log->write("three");
  EXPECT_EQ(text_of(file("sub/log")), "three\n");
  EXPECT_EQ(log->lost(), 2);
  EXPECT_THAT(said_, ElementsAre(HasSubstr("lost"), HasSubstr("2 lines were lost")));
}

TEST_F(AccessLogTest, AFullDiskIsSaidOnce) {
  auto log = open("/dev/full");
  for (int i = 0; i < 1000; ++i) log->write("line");
  EXPECT_EQ(log->lost(), 1000);
  EXPECT_THAT(said_, ElementsAre(HasSubstr("/dev/full: No space left on device")));
  log.reset();
  EXPECT_THAT(said_, ElementsAre(testing::_, HasSubstr("lost 1000 lines")));
}

// The limit cuts a line in the middle: once there is space, it is finished before the next one.
TEST_F(AccessLogTest, GoesOnWhenThereIsSpaceAgain) {
  const std::string line = R"({"a":")" + std::string(90, 'x') + R"("})";
  auto log = open(file("log"));
  log->write(line);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit full = before;
  full.rlim_cur = 150;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  for (int i = 0; i < 5; ++i) log->write(line);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(text_of(file("log")).size(), 150U);
  EXPECT_EQ(log->lost(), 4);
  log->write(line);
  EXPECT_EQ(text_of(file("log")), line + "\n" + line + "\n" + line + "\n");
  EXPECT_THAT(said_, ElementsAre(HasSubstr("File too large"), HasSubstr("4 lines were lost")));

  // Once more in the same minute: counted, and said at the end only. A rotation loses what was
  // begun.
  full.rlim_cur = 350;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  for (int i = 0; i < 3; ++i) log->write(line);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::filesystem::rename(file("log"), file("log.1"));
  log->write(line);
  EXPECT_EQ(text_of(file("log")), line + "\n");
  EXPECT_EQ(log->lost(), 7);
  EXPECT_EQ(said_.size(), 2U);
  log.reset();
  ASSERT_EQ(said_.size(), 3U);
  EXPECT_THAT(said_[2], HasSubstr("lost 3 lines"));
}

TEST_F(AccessLogTest, APipeIsNeverWaitedFor) {
  ASSERT_EQ(::mkfifo(file("pipe").c_str(), 0600), 0);
  EXPECT_FALSE(AccessLog::open(file("pipe"), {}).has_value()) << "nobody reads";
  int reader = ::open(file("pipe").c_str(), O_RDONLY | O_NONBLOCK);
  const auto log = open(file("pipe"));
  // Not a divisor of what a pipe holds, and longer than what it takes in one piece.
  const std::string line(7001, 'x');
  for (int i = 0; i < 40; ++i) log->write(line);
  EXPECT_GT(log->lost(), 25);
  EXPECT_THAT(said_, ElementsAre(HasSubstr("Resource temporarily unavailable")));
  std::string read;
  char part[65536];
  const auto drain = [&] {
    for (ssize_t n = 0; (n = ::read(reader, part, sizeof(part))) > 0;) {
      read.append(part, static_cast<std::size_t>(n));
    }
  };
  drain();
  log->write("last");
  drain();
  std::istringstream lines(read);
  std::int64_t whole = 0;
  for (std::string one; std::getline(lines, one); ++whole) {
    EXPECT_EQ(one, lines.peek() == EOF ? "last" : line);
  }
  EXPECT_EQ(whole, 41 - log->lost());
  // The reader goes, and another one comes.
  ::close(reader);
  const std::int64_t lost = log->lost();
  log->write("nobody");
  EXPECT_EQ(log->lost(), lost + 1);
  reader = ::open(file("pipe").c_str(), O_RDONLY | O_NONBLOCK);
  read.clear();
  log->write("somebody");
  drain();
  EXPECT_EQ(read, "somebody\n");
  ::close(reader);
}

TEST_F(AccessLogTest, SaysWhyItCannotBeOpened) {
  const auto log = AccessLog::open(file("none/log"), {});
  ASSERT_FALSE(log.has_value());
  EXPECT_EQ(log.error().code, ErrorCode::kIo);
  EXPECT_THAT(log.error().message, HasSubstr("none/log: No such file or directory"));
}

}  // namespace
}  // namespace tg
