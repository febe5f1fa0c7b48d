#include "checkpoint/safetensors_file.h"

#include <gtest/gtest.h>

#include "test_files.h"

namespace tg {
namespace {

using test::as_bytes;
using test::safetensors_raw;

void expect_file_refused(const std::string& file, std::string_view part) {
  const auto entries = parse_safetensors(as_bytes(file));
  ASSERT_FALSE(entries) << "it was read; wanted: " << part;
  EXPECT_NE(entries.error().text().find(part), std::string::npos) << entries.error().text();
}

TEST(SafetensorsFile, PlacesTensorsInOrder) {
  const std::string file = safetensors_raw(
      R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},
          "a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},
          "c":{"dtype":"I64","shape":[1,1],"data_offsets":[10,18]}})",
      std::string(18, 'x'));
  const auto entries = parse_safetensors(as_bytes(file));
  ASSERT_TRUE(entries) << entries.error().text();
  ASSERT_EQ(entries->size(), 3U);
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[1].name, "b");
  EXPECT_EQ((*entries)[1].offset, file.size() - 16);
  EXPECT_EQ((*entries)[1].bytes, 8U);
  const auto b = as_float_tensor((*entries)[1]);
  ASSERT_TRUE(b);
  EXPECT_EQ(b->dtype, DType::kF32);
  const auto c = as_float_tensor((*entries)[2]);
  ASSERT_FALSE(c);
  EXPECT_EQ(c.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(c.error().text().find("\"c\" has dtype I64"), std::string::npos);
}

TEST(SafetensorsFile, AllowsAFileWithoutTensors) {
  const auto entries = parse_safetensors(as_bytes(safetensors_raw("{}", "")));
  ASSERT_TRUE(entries);
  EXPECT_TRUE(entries->empty());
}

TEST(SafetensorsFile, RefusesRepeatedNames) {
  const std::string one = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  expect_file_refused(safetensors_raw("{" + one + "," + one + "}", "1234"), "\"a\" appears twice");
}

TEST(SafetensorsFile, RefusesWrongKinds) {
  expect_file_refused(safetensors_raw(R"({"a":[1]})", ""), "not a JSON object");
  expect_file_refused(safetensors_raw(R"({"__metadata__":3})", ""), "__metadata__");
  expect_file_refused(
      safetensors_raw(R"({"a":{"dtype":3,"shape":[],"data_offsets":[0,4]}})", "1234"),
      "no \"dtype\"");
  expect_file_refused(
      safetensors_raw(R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,4]}})", "1234"),
      "no list \"shape\"");
  expect_file_refused(
      safetensors_raw(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "1234"),
      "something else than sizes");
  expect_file_refused(
      safetensors_raw(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551616]}})", "1234"),
      "something else than sizes");
  expect_file_refused(
      safetensors_raw(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", "12"),
      "needs 2 bytes");
  expect_file_refused(safetensors_raw("{}", "x"), "end at byte 10 of a file of 11");
}

TEST(SafetensorsFile, DeepHeadersAreRefusedWithoutRecursion) {
  expect_file_refused(safetensors_raw("{\"a\":" + std::string(1000000, '['), ""),
                      "not a JSON object");
  const std::string nested = std::string(1000000, '[') + std::string(1000000, ']');
  expect_file_refused(safetensors_raw("{\"a\":" + nested + "}", ""), "not a JSON object");
}

TEST(SafetensorsFile, SaysWhatTheFileLooksLike) {
  expect_file_refused("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-lfs");
  expect_file_refused("<!doctype html><title>x</title>", "web page");
  expect_file_refused(test::zip_bytes({}).substr(0, 5), "it starts with");
}

TEST(SafetensorsFile, RefusesEveryCutOffFile) {
  const std::string whole = test::safetensors_bytes({{"a", {2}, {1, 2}}, {"b", {1, 1}, {3}}});
  ASSERT_TRUE(parse_safetensors(as_bytes(whole)));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(parse_safetensors(as_bytes(whole.substr(0, n)))) << n;
  }
}

}  // namespace
}  // namespace tg
