// Cache files: what is written comes back in place, and whatever is wrong with a file is found; and
// what tells one checkpoint from another.
#include "checkpoint/cache_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "checkpoint/checkpoint_identity.h"
#include "checkpoint/output_file.h"
#include "checkpoint/test_files.h"

namespace tg {
namespace {

using test::read_file;
using test::TempDirectory;

class CacheFiles : public testing::Test {
 protected:
  // Two sections: one longer than a page that does not fill its last, and a short one.
  Status write(const std::string& key = "the key") {
    const std::vector<std::span<const std::byte>> sections = {test::as_bytes(first_),
                                                              test::as_bytes(second_)};
    const auto size = write_cache_file(path_, key, sections, team_);
    if (!size) return tl::unexpected(size.error());
    EXPECT_EQ(*size, std::filesystem::file_size(path_));
    return {};
  }
  std::string why(const std::string& key = "the key") const {
    const auto cache = CacheFile::open(path_, key);
    return cache ? "opened" : cache.error().message;
  }
  void change(std::size_t offset) {
    std::string bytes = read_file(path_);
    bytes[offset] = static_cast<char>(bytes[offset] ^ 1);
    folder_.write("cache", bytes);
  }

  TempDirectory folder_;
  std::string path_ = folder_.path() + "/cache";
  std::string first_ = std::string(10000, 'a') + "the end";
  std::string second_ = "short";
  ThreadTeam team_{2};
};

TEST_F(CacheFiles, SectionsComeBackOnPages) {
  ASSERT_TRUE(write());
  const auto cache = CacheFile::open(path_, "the key");
  ASSERT_TRUE(cache) << cache.error().text();
  ASSERT_EQ(cache->sections(), 2U);
  const auto text = [&](std::size_t i) {
    const auto s = cache->section(i);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(s.data()) % 4096, 0U);
    return std::string(reinterpret_cast<const char*>(s.data()), s.size());
  };
  EXPECT_EQ(text(0), first_);
  EXPECT_EQ(text(1), second_);
  EXPECT_TRUE(cache->verify(team_));
  EXPECT_FALSE(std::filesystem::exists(OutputFile::temporary_name(path_)));
}

TEST_F(CacheFiles, WhatIsWrongIsFound) {
  EXPECT_EQ(CacheFile::open(path_, "the key").error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(write());
  EXPECT_THAT(why("another key"), testing::HasSubstr("made for something else"));
  const std::string whole = read_file(path_);
  folder_.write("cache", whole.substr(0, whole.size() - 1));
  EXPECT_EQ(why(), fmt::format("has {} bytes of {}", whole.size() - 1, whole.size()));
  for (const std::size_t size : {0U, 7U, 47U}) {
    folder_.write("cache", whole.substr(0, size));
    EXPECT_THAT(why(), testing::HasSubstr("not a cache file"));
  }
  folder_.write("cache", "GGUF" + whole.substr(4));
  EXPECT_THAT(why(), testing::HasSubstr("not a cache file"));
  // Every byte of the header, the two checksums' fields among them.
  const std::size_t header = 48 + 2 * 24 + 7;
  for (std::size_t i = 0; i < header; ++i) {
    folder_.write("cache", whole);
    change(i);
    EXPECT_NE(why(), "opened") << "byte " << i;
  }
}

TEST_F(CacheFiles, OnlyVerifyLooksAtTheContent) {
  ASSERT_TRUE(write());
  change(4096 + 5000);
  const auto cache = CacheFile::open(path_, "the key");
  ASSERT_TRUE(cache);
  const Status status = cache->verify(team_);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kBadInput);
  EXPECT_THAT(status.error().message, testing::HasSubstr("section 0 of 2 (10007 bytes at 4096)"));
}

TEST_F(CacheFiles, AnotherWriterAtWorkIsLeftAlone) {
  auto other = OutputFile::create(path_);
  ASSERT_TRUE(other);
  const Status status = write();
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, testing::HasSubstr("another process"));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(CacheFiles, AMappedFileOutlivesItsReplacement) {
  ASSERT_TRUE(write());
  const auto cache = CacheFile::open(path_, "the key");
  ASSERT_TRUE(cache);
  first_ = std::string(9000, 'b');
  ASSERT_TRUE(write("another key"));
  EXPECT_TRUE(cache->verify(team_));
  EXPECT_EQ(cache->section(0).size(), 10007U);
}

std::string identity(const std::string& path) {
  const auto text = checkpoint_identity({&path, 1});
  EXPECT_TRUE(text) << text.error().text();
  return text.value_or("");
}

void set_time(const std::string& path, std::int64_t nanoseconds) {
  const timespec times[2] = {{1000, 0}, {1000, nanoseconds}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

TEST(CheckpointIdentity, FollowsTheFileNotItsPlace) {
  const TempDirectory folder;
  const std::string bytes(300000, 'w');
  const std::string here = folder.write("a/model.gguf", bytes);
  const std::string there = folder.write("b/model.gguf", bytes);
  set_time(here, 17);
  set_time(there, 17);
  const std::string before = identity(here);
  EXPECT_EQ(identity(there), before);
  set_time(there, 18);
  EXPECT_NE(identity(there), before);
  // Written over with its old time: a header, or as little as a block of the middle.
  for (const std::size_t first : {std::size_t{10}, std::size_t{140000}}) {
    std::string other = bytes;
    for (std::size_t i = first; i < std::min(first + 20000, other.size()); ++i) other[i] = 'x';
    folder.write("a/model.gguf", other);
    set_time(here, 17);
    EXPECT_NE(identity(here), before) << first;
  }
  folder.write("a/model.gguf", bytes + "w");
  set_time(here, 17);
  EXPECT_NE(identity(here), before);
  const std::string missing = folder.path() + "/none";
  EXPECT_EQ(checkpoint_identity({&missing, 1}).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace tg
