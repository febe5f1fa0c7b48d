// The header parser of GGUF on files made here: what it reads, and every way to refuse one.
#include "checkpoint/gguf_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "checkpoint/gguf_builder.h"

namespace tg {
namespace {

using test::Bytes;
using test::GgufBuilder;
using testing::HasSubstr;

GgufBuilder with_everything() {
  GgufBuilder b;
  b.key("u8", Bytes().type(GgufType::kUint8).number(std::uint8_t{200}));
  b.key("i8", Bytes().type(GgufType::kInt8).number(std::int8_t{-5}));
  b.key("u16", Bytes().type(GgufType::kUint16).number(std::uint16_t{60000}));
  b.key("i16", Bytes().type(GgufType::kInt16).number(std::int16_t{-600}));
  b.key("i32", Bytes().type(GgufType::kInt32).number(std::int32_t{-70000}));
  b.key("u64", Bytes().type(GgufType::kUint64).number(std::uint64_t{1} << 40));
  b.key("i64", Bytes().type(GgufType::kInt64).number(-(std::int64_t{1} << 40)));
  b.key("big", Bytes().type(GgufType::kUint64).number(std::numeric_limits<std::uint64_t>::max()));
  b.key("f64", Bytes().type(GgufType::kFloat64).number(0.1));
  b.integer("u32", 4000000000U).real("f32", 0.25F).boolean("yes", true).boolean("no", false);
  b.key("maybe", Bytes().type(GgufType::kBool).number(std::uint8_t{2}));
  b.text("text", "llama \xF0\x9F\xA6\x99").text("empty", "");
  b.integers("ids", {3, -1, 7}).texts("words", {"a", "", "ccc"}).texts("none", {});
  // [[1, 2], ["x"]]: arrays in an array are stepped over.
  b.key("nested", Bytes()
                      .type(GgufType::kArray)
                      .type(GgufType::kArray)
                      .number(std::uint64_t{2})
                      .type(GgufType::kUint8)
                      .number(std::uint64_t{2})
                      .number(std::uint16_t{0x0201})
                      .type(GgufType::kString)
                      .number(std::uint64_t{1})
                      .text("x"));
  b.tensor("vector", {3}, 0, test::as_bytes({1.0F, 2.0F, 3.0F}));
  b.tensor("matrix", {32, 2}, 8, std::vector<std::byte>(2 * 34));
  b.tensor("exotic", {256}, 22, std::vector<std::byte>(82));
  b.tensor("last", {2}, 1, std::vector<std::byte>(4));
  return b;
}

Error refused(const std::vector<std::byte>& bytes) {
  const auto file = GgufFile::parse(bytes);
  EXPECT_FALSE(file.has_value());
  if (file) return {};
  EXPECT_EQ(file.error().message.find('\n'), std::string::npos) << file.error().message;
  return file.error();
}

std::string message(const GgufBuilder& b) { return refused(b.build()).message; }

TEST(GgufFile, ReadsMetadataOfEveryType) {
  const auto bytes = with_everything().build();
  const auto file = GgufFile::parse(bytes);
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->version(), 3U);
  EXPECT_EQ(file->metadata_count(), 20U);
  EXPECT_EQ(file->find("u8")->integer(), 200);
  EXPECT_EQ(file->find("i8")->integer(), -5);
  EXPECT_EQ(file->find("u16")->integer(), 60000);
  EXPECT_EQ(file->find("i16")->integer(), -600);
  EXPECT_EQ(file->find("u32")->integer(), 4000000000);
  EXPECT_EQ(file->find("i32")->integer(), -70000);
  EXPECT_EQ(file->find("u64")->integer(), std::int64_t{1} << 40);
  EXPECT_EQ(file->find("i64")->integer(), -(std::int64_t{1} << 40));
  EXPECT_EQ(file->find("big")->integer(), std::nullopt);
  EXPECT_EQ(file->find("f32")->number(), 0.25);
  EXPECT_EQ(file->find("f64")->number(), 0.1);
  EXPECT_EQ(file->find("i8")->number(), -5.0);
  EXPECT_EQ(file->find("f32")->integer(), std::nullopt);
  EXPECT_EQ(file->find("yes")->boolean(), true);
  EXPECT_EQ(file->find("no")->boolean(), false);
  EXPECT_EQ(file->find("maybe")->boolean(), std::nullopt);
  EXPECT_EQ(file->find("text")->text(), "llama \xF0\x9F\xA6\x99");
  EXPECT_EQ(file->find("empty")->text(), "");
  EXPECT_EQ(file->find("ids")->integers(), (std::vector<std::int64_t>{3, -1, 7}));
  EXPECT_EQ(file->find("words")->texts(), (std::vector<std::string_view>{"a", "", "ccc"}));
  EXPECT_EQ(file->find("none")->texts(), std::vector<std::string_view>{});
  EXPECT_EQ(file->find("words")->integers(), std::nullopt);
  EXPECT_EQ(file->find("ids")->texts(), std::nullopt);
  EXPECT_EQ(file->find("text")->texts(), std::nullopt);
  EXPECT_EQ(file->find("nested")->count(), 2U);
  EXPECT_EQ(file->find("nested")->integers(), std::nullopt);
  EXPECT_EQ(file->find("absent"), nullptr);
}

TEST(GgufFile, TypedReadersSayWhatIsStored) {
  const auto bytes = with_everything().build();
  const auto file = GgufFile::parse(bytes);
  ASSERT_TRUE(file);
  EXPECT_EQ(*file->integer("u8"), 200);
  EXPECT_EQ(*file->integer("absent"), std::nullopt);
  EXPECT_EQ(file->integer("text").error().message, "key 'text' is not an integer but string");
  EXPECT_EQ(file->text("ids").error().message, "key 'ids' is not a string but array of 3");
  EXPECT_EQ(file->number("yes").error().message, "key 'yes' is not a number but bool");
  EXPECT_EQ(file->boolean("u32").error().message, "key 'u32' is not true or false but uint32");
}

TEST(GgufFile, ReadsTheTensorDirectory) {
  for (const std::uint32_t version : {2U, 3U}) {
    GgufBuilder b = with_everything();
    b.version = version;
    const auto bytes = b.build();
    const auto file = GgufFile::parse(bytes);
    ASSERT_TRUE(file) << file.error().text();
    ASSERT_EQ(file->tensors().size(), 4U);
    const GgufTensor* vector = file->find_tensor("vector");
    ASSERT_NE(vector, nullptr);
    EXPECT_EQ(vector->dtype, DType::kF32);
    EXPECT_EQ(vector->bytes, 12U);
    EXPECT_EQ(vector->offset % 32, 0U);
    float second = 0;
    std::memcpy(&second, &bytes[vector->offset + 4], 4);
    EXPECT_EQ(second, 2.0F);
    const GgufTensor* matrix = file->find_tensor("matrix");
    ASSERT_NE(matrix, nullptr);
    EXPECT_EQ(matrix->dimensions, (std::vector<std::int64_t>{32, 2}));
    EXPECT_EQ(matrix->bytes, 68U);
    EXPECT_EQ(matrix->offset, vector->offset + 32);
    // A type that we cannot read is no damage: the file's tokenizer may be all that is wanted.
    EXPECT_EQ(file->find_tensor("exotic")->dtype, std::nullopt);
    EXPECT_EQ(file->find_tensor("exotic")->type_name(), "IQ2_S");
    EXPECT_EQ(file->find_tensor("absent"), nullptr);
  }
}

TEST(GgufFile, FollowsTheFilesAlignment) {
  GgufBuilder b = with_everything();
  b.alignment = 256;
  b.integer("general.alignment", 256);
  const auto bytes = b.build();
  const auto file = GgufFile::parse(bytes);
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->find_tensor("matrix")->offset % 256, 0U);
  EXPECT_EQ(file->find_tensor("last")->offset + 4, bytes.size());
  for (const std::uint32_t bad : {0U, 3U, 1U << 30}) {
    b.integer("general.alignment", bad);
    EXPECT_THAT(message(b), HasSubstr("general.alignment is " + std::to_string(bad)));
  }
  EXPECT_THAT(message(b.text("general.alignment", "32")), HasSubstr("general.alignment is string"));
}

TEST(GgufFile, StringsAreViewsIntoTheFile) {
  const std::vector<std::string> words(200000, "token");
  const auto bytes = GgufBuilder().texts("words", words).build();
  const auto file = GgufFile::parse(bytes);
  ASSERT_TRUE(file);
  const auto texts = file->find("words")->texts();
  ASSERT_EQ(texts->size(), words.size());
  const auto* last = reinterpret_cast<const std::byte*>(texts->back().data());
  EXPECT_EQ(last, &bytes[bytes.size() - 5]);
}

TEST(GgufFile, EveryShorterFileIsCutOff) {
  const auto whole = with_everything().build();
  ASSERT_TRUE(GgufFile::parse(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    // A copy of exactly that size: the address sanitizer sees a read past its end.
    const std::vector<std::byte> part(whole.begin(),
                                      whole.begin() + static_cast<std::ptrdiff_t>(size));
    const Error e = refused(part);
    EXPECT_EQ(e.code, ErrorCode::kBadInput) << size;
    EXPECT_FALSE(e.message.empty()) << size;
  }
}

TEST(GgufFile, SaysWhatElseTheFileIs) {
  const auto of = [](std::string_view text) { return refused(Bytes().raw(text).data); };
  EXPECT_THAT(of("").message, HasSubstr("0 bytes"));
  EXPECT_THAT(of("GG").message, HasSubstr("not a GGUF file"));
  EXPECT_THAT(of("version https://git-lfs.github.com/spec/v1\noid sha256:12\n").message,
              HasSubstr("git-lfs"));
  EXPECT_THAT(of("<!DOCTYPE html><html>").message, HasSubstr("web page"));
  EXPECT_EQ(of("tjgg____________________").code, ErrorCode::kUnsupported);
  EXPECT_THAT(of("tjgg____________________").message, HasSubstr("before GGUF"));
  EXPECT_THAT(of("GGUF").message, HasSubstr("cut off"));
  GgufBuilder b = with_everything();
  for (const std::uint32_t version : {0U, 1U, 4U}) {
    b.version = version;
    EXPECT_EQ(refused(b.build()).code, ErrorCode::kUnsupported);
    EXPECT_THAT(message(b), HasSubstr("version " + std::to_string(version)));
  }
  b.version = 0x03000000;
  EXPECT_EQ(refused(b.build()).code, ErrorCode::kUnsupported);
  EXPECT_THAT(message(b), HasSubstr("big-endian"));
}

TEST(GgufFile, RefusesDamagedMetadata) {
  constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();
  const auto with = [](Bytes value) { return message(GgufBuilder().key("k", std::move(value))); };
  const auto array = [](GgufType element, std::uint64_t count) {
    return Bytes().type(GgufType::kArray).type(element).number(count);
  };
  EXPECT_THAT(message(GgufBuilder().integer("k", 1).again(
                  "k", Bytes().type(GgufType::kUint8).number(std::uint8_t{1}))),
              HasSubstr("'k' appears twice"));
  EXPECT_THAT(with(Bytes().number(std::uint64_t{13})), HasSubstr("value type 13"));
  EXPECT_THAT(with(Bytes().type(GgufType::kString).number(kHuge)), HasSubstr("cut off"));
  EXPECT_THAT(with(Bytes().type(GgufType::kString).number(kHuge - 7)), HasSubstr("cut off"));
  EXPECT_THAT(with(array(GgufType::kUint64, kHuge / 8 + 1)), HasSubstr("cut off"));
  EXPECT_THAT(with(array(GgufType::kUint8, kHuge)), HasSubstr("cut off"));
  EXPECT_THAT(with(array(GgufType::kString, kHuge)), HasSubstr("cut off"));
  EXPECT_THAT(with(array(GgufType::kArray, kHuge)), HasSubstr("cut off"));
  Bytes deep = Bytes().type(GgufType::kArray);
  for (int i = 0; i < 100; ++i) deep.type(GgufType::kArray).number(std::uint64_t{1});
  EXPECT_THAT(with(deep), HasSubstr("deeper than 8"));
  EXPECT_THAT(message(GgufBuilder().integer(std::string(70000, 'k'), 1)),
              HasSubstr("70000 bytes long, the limit is 65535"));
  const auto counts = [&](std::uint64_t tensors, std::uint64_t metadata) {
    return refused(Bytes().raw("GGUF").number(3).number(tensors).number(metadata).data).message;
  };
  EXPECT_THAT(counts(0, kHuge), HasSubstr("18446744073709551615 metadata entries"));
  EXPECT_THAT(counts(kHuge, 0), HasSubstr("18446744073709551615 tensors"));
}

// One tensor entry, field by field.
std::string entry(std::string_view name, std::vector<std::uint64_t> dimensions, std::uint32_t type,
                  std::uint64_t offset) {
  Bytes b;
  b.raw("GGUF").number(3).number(std::uint64_t{1}).number(std::uint64_t{0});
  b.text(name).number(static_cast<std::uint32_t>(dimensions.size()));
  for (const std::uint64_t n : dimensions) b.number(n);
  b.number(type).number(offset);
  b.data.resize(256);
  return refused(b.data).message;
}

TEST(GgufFile, RefusesDamagedTensors) {
  EXPECT_THAT(entry(std::string(65, 'n'), {1}, 0, 0), HasSubstr("65 bytes long, the limit is 64"));
  EXPECT_THAT(entry("t", {}, 0, 0), HasSubstr("'t' has 0 dimensions"));
  EXPECT_THAT(entry("t", {1, 1, 1, 1, 1}, 0, 0), HasSubstr("'t' has 5 dimensions"));
  EXPECT_THAT(entry("t", {4, 0}, 0, 0), HasSubstr("dimension 1 = 0"));
  EXPECT_THAT(entry("t", {std::uint64_t{1} << 32, std::uint64_t{1} << 32}, 0, 0),
              HasSubstr("dimension 1 = 4294967296"));
  EXPECT_THAT(entry("t", {std::uint64_t{1} << 63}, 0, 0), HasSubstr("dimension 0"));
  EXPECT_THAT(entry("t", {33}, 8, 0), HasSubstr("rows of 33 values, not a multiple of 32"));
  EXPECT_THAT(entry("t", {128}, 14, 0), HasSubstr("rows of 128 values, not a multiple of 256"));
  EXPECT_THAT(entry("t", {4}, 0, 4), HasSubstr("offset 4, not a multiple of 32"));
  EXPECT_THAT(entry("t", {4}, 0, 256),
              HasSubstr("takes 16 bytes from byte 64 + 256 but the file has 256"));
  EXPECT_THAT(entry("t", {100}, 0, 0), HasSubstr("takes 400 bytes"));
  EXPECT_THAT(entry("t", {4}, 0, std::numeric_limits<std::uint64_t>::max() - 31),
              HasSubstr("cut off"));
  EXPECT_THAT(entry("line\nbreak", {4}, 0, 4), HasSubstr("line\\x0abreak"));
}

TEST(GgufFile, RefusesATensorTwice) {
  Bytes b;
  b.raw("GGUF").number(3).number(std::uint64_t{2}).number(std::uint64_t{0});
  for (int i = 0; i < 2; ++i) {
    b.text("t").number(1).number(std::uint64_t{1}).number(0).number(std::uint64_t{0});
  }
  b.data.resize(256);
  EXPECT_THAT(refused(b.data).message, HasSubstr("'t' appears twice"));
}

}  // namespace
}  // namespace tg
