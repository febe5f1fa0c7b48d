#include "checkpoint/zip_directory.h"

#include <gtest/gtest.h>

#include "test_files.h"

namespace tg {
namespace {

using test::as_bytes;
using test::le;
using test::Record;

const std::vector<Record> kRecords = {{"a/one", "hello"}, {"a/two", std::string(1000, 'x')}};

std::string refused_directory(const std::string& file, ErrorCode code) {
  const auto zip = ZipDirectory::parse(as_bytes(file));
  if (zip) return "it was read";
  EXPECT_EQ(zip.error().code, code) << zip.error().text();
  return zip.error().text();
}

void expect_directory_refused(const std::string& file, ErrorCode code, std::string_view part) {
  const std::string message = refused_directory(file, code);
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

// The archive with one field of the second record's central header changed.
std::string patched(std::size_t offset, const std::string& bytes) {
  return test::zip_bytes(kRecords, {{.record = 1, .offset = offset, .bytes = bytes}});
}

TEST(ZipDirectory, FindsRecords) {
  const std::string file = test::zip_bytes(kRecords);
  const auto zip = ZipDirectory::parse(as_bytes(file));
  ASSERT_TRUE(zip) << zip.error().text();
  ASSERT_EQ(zip->entries().size(), 2U);
  const ZipEntry* one = zip->find("a/one");
  ASSERT_NE(one, nullptr);
  EXPECT_EQ(file.substr(one->offset, one->size), "hello");
  EXPECT_EQ(zip->find("a/three"), nullptr);
  for (const ZipEntry& entry : zip->entries()) EXPECT_TRUE(check_crc32(as_bytes(file), entry));
}

TEST(ZipDirectory, AllowsACommentAndAnEmptyArchive) {
  std::string file = test::zip_bytes(kRecords);
  file.replace(file.size() - 2, 2, le(300, 2));
  file += std::string(300, 'c');
  EXPECT_TRUE(ZipDirectory::parse(as_bytes(file)));
  const std::string empty = test::zip_bytes({});
  const auto zip = ZipDirectory::parse(as_bytes(empty));
  ASSERT_TRUE(zip);
  EXPECT_TRUE(zip->entries().empty());
}

TEST(ZipDirectory, ChecksTheCrc) {
  std::string file = test::zip_bytes(kRecords);
  file[file.find("hello")] = 'J';
  const auto zip = ZipDirectory::parse(as_bytes(file));
  ASSERT_TRUE(zip);
  const Status status = check_crc32(as_bytes(file), *zip->find("a/one"));
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().text().find("a/one"), std::string::npos);
  EXPECT_TRUE(check_crc32(as_bytes(file), *zip->find("a/two")));
}

TEST(ZipDirectory, RefusesCompressedEncryptedAndSplit) {
  expect_directory_refused(patched(10, le(8, 2)), ErrorCode::kUnsupported,
                           "\"a/two\" is compressed (method 8)");
  expect_directory_refused(patched(8, le(1, 2)), ErrorCode::kUnsupported, "encrypted");
  std::string split = test::zip_bytes(kRecords);
  split.replace(split.size() - 18, 2, le(1, 2));
  expect_directory_refused(split, ErrorCode::kUnsupported, "split");
}

TEST(ZipDirectory, RefusesNumbersThatLeaveTheFile) {
  expect_directory_refused(patched(42, le(0x7fffffff, 4)), ErrorCode::kBadInput, "2147483647");
  expect_directory_refused(patched(42, le(1, 4)), ErrorCode::kBadInput, "no header at byte 1");
  expect_directory_refused(patched(42, le(0, 4)), ErrorCode::kBadInput, "another name");
  expect_directory_refused(patched(20, le(2000, 4) + le(2000, 4)), ErrorCode::kBadInput,
                           "2000 bytes at byte");
  expect_directory_refused(patched(20, le(5, 4)), ErrorCode::kBadInput, "two sizes, 5 and 1000");
  expect_directory_refused(patched(28, le(60000, 2)), ErrorCode::kBadInput,
                           "past the end of the directory");
  expect_directory_refused(patched(0, "XXXX"), ErrorCode::kBadInput, "record 2 of 2");
  expect_directory_refused(patched(24, le(0xffffffff, 4)), ErrorCode::kBadInput,
                           "ZIP64 extra field is missing");
  std::string file = test::zip_bytes(kRecords);
  const std::size_t end = file.size() - 22;
  std::string wrong = file;
  wrong.replace(end + 10, 2, le(60000, 2));
  expect_directory_refused(wrong, ErrorCode::kBadInput, "60000 records do not fit");
  wrong = file;
  wrong.replace(end + 12, 4, le(0x7ffffff0, 4));
  expect_directory_refused(wrong, ErrorCode::kBadInput, "does not fit before the end record");
  wrong = file;
  wrong.replace(end + 16, 4, le(0xffffffff, 4));
  expect_directory_refused(wrong, ErrorCode::kBadInput, "ZIP64 end record is missing");
  // A ZIP64 locator that points nowhere.
  wrong = file;
  wrong.insert(end, le(0x07064b50, 4) + le(0, 4) + le(~0ULL - 3, 8) + le(1, 4));
  expect_directory_refused(wrong, ErrorCode::kBadInput, "ZIP64 end record should be at byte");
}

TEST(ZipDirectory, RefusesTwoRecordsOfOneName) {
  expect_directory_refused(test::zip_bytes({{"a", "1"}, {"a", "2"}}), ErrorCode::kBadInput,
                           "appears twice");
}

TEST(ZipDirectory, SaysWhatTheFileLooksLike) {
  const std::string whole = test::zip_bytes(kRecords);
  expect_directory_refused(whole.substr(0, whole.size() / 2), ErrorCode::kBadInput, "cut off");
  expect_directory_refused("  <HTML><body>", ErrorCode::kBadInput, "web page");
  expect_directory_refused("{\"error\":\"denied\"}", ErrorCode::kBadInput, "JSON");
  expect_directory_refused(std::string(5000, '\0'), ErrorCode::kBadInput, "zero bytes");
  expect_directory_refused("\x80\x02}.", ErrorCode::kBadInput, "bare pickle");
  expect_directory_refused("abc\n\x01", ErrorCode::kBadInput, "\"abc\\x0a\\x01\"");
}

TEST(ZipDirectory, RefusesEveryCutOffArchive) {
  const std::string whole = test::zip_bytes({{"a", "1"}, {"b", "22"}});
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(ZipDirectory::parse(as_bytes(whole.substr(0, n)))) << n;
  }
}

}  // namespace
}  // namespace tg
