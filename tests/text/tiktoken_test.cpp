// tokenizer.model: spelling of the file, and files that are not what they should be.
#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "tokenizer_forms.h"

namespace tg {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// Base64 of up to 3 bytes; enough for a file that this test writes.
std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned bits = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      bits = (bits << 8) | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      text += i + k > bytes.size() ? '=' : kDigits[(bits >> (18 - 6 * k)) & 63];
    }
  }
  return text;
}

// The 256 bytes, then the given tokens.
std::string rank_file(const std::vector<std::string>& tokens = {}) {
  std::string file;
  int rank = 0;
  for (int byte = 0; byte < 256; ++byte) {
    file += fmt::format("{} {}\n", base64(std::string(1, static_cast<char>(byte))), rank++);
  }
  for (const std::string& token : tokens) file += fmt::format("{} {}\n", base64(token), rank++);
  return file;
}

std::string tiktoken_refusal(std::string_view bytes) {
  const auto tokenizer = parse_tiktoken(bytes);
  return tokenizer ? "accepted" : tokenizer.error().text();
}

TEST(Tiktoken, ReadsRanksInAnyOrderAndSpelling) {
  std::string file = rank_file({"ab", "abc", "bc"});
  const auto check = [](const std::string& text) {
    const TokenizerPointer tokenizer = must(parse_tiktoken(text));
    ASSERT_NE(tokenizer, nullptr);
    EXPECT_EQ(tokenizer->vocab_size(), 259 + 256);
    // "ab" has the lower rank, so "bc" never gets its b.
    EXPECT_THAT(tokenizer->encode("xabcd", SpecialTokens::kAsText), ElementsAre('x', 257, 'd'));
    EXPECT_EQ(tokenizer->token_bytes(257), "abc");
    EXPECT_EQ(tokenizer->bos_id(), 259);
  };
  check(file);
  check("\n" + file + "\r\n");
  const std::size_t second_half = file.find("\n", file.size() / 2) + 1;
  check(file.substr(second_half) + file.substr(0, second_half));
  file.pop_back();  // no newline at the end
  check(file);
}

TEST(Tiktoken, KnowsBothNamesOfSpecialTokens) {
  const TokenizerPointer tokenizer = must(parse_tiktoken(rank_file()));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->find_special("<|step_id|>"), 256 + 5);
  EXPECT_EQ(tokenizer->find_special("<|reserved_special_token_2|>"), 256 + 5);
  EXPECT_EQ(tokenizer->find_special("<|image|>"), 256 + 11);
  EXPECT_EQ(tokenizer->find_special("<|reserved_special_token_247|>"), 256 + 255);
  EXPECT_EQ(tokenizer->find_special("<|reserved_special_token_248|>"), std::nullopt);
  EXPECT_THAT(tokenizer->encode("<|step_id|><|reserved_special_token_24|>", SpecialTokens::kParse),
              ElementsAre(256 + 5, 256 + 32));
}

TEST(Tiktoken, RefusesBrokenFiles) {
  const std::string good = rank_file({"ab"});
  EXPECT_EQ(tiktoken_refusal(good), "accepted");
  EXPECT_THAT(tiktoken_refusal(""), HasSubstr("empty"));
  EXPECT_THAT(tiktoken_refusal("\n\n"), HasSubstr("empty"));
  // Cut off in the middle of a line: within the base64, behind it, within the rank.
  EXPECT_THAT(tiktoken_refusal(good.substr(0, good.size() - 6)), HasSubstr("line 257 is not"));
  EXPECT_THAT(tiktoken_refusal(good.substr(0, good.size() - 5)), HasSubstr("line 257 is not"));
  EXPECT_THAT(tiktoken_refusal(good.substr(0, good.size() - 4)), HasSubstr("line 257 is not"));
  EXPECT_THAT(tiktoken_refusal(good.substr(0, good.size() - 2)),
              HasSubstr("which an earlier line has"));
  for (const char* line :
       {"YWI= -1", "YWI= 1x", "YWI= 99999999999999999999", "YWI=256", "YWI 256", "Y=== 256",
        "YWJ= 256", "=WI= 256", " 256", "YW I= 256", "YWI=  256", "\xFF\xFE 256", "YWI= 256 7"}) {
    EXPECT_THAT(tiktoken_refusal(rank_file() + line + "\n"),
                AllOf(HasSubstr("line 257 is not \"base64 rank\""), Not(HasSubstr("\n"))))
        << line;
  }
  EXPECT_THAT(tiktoken_refusal(rank_file() + "YWI= 257\n"), HasSubstr("rank 257, but 257 ranks"));
  EXPECT_THAT(tiktoken_refusal(rank_file() + "YWI= 4294967296\n"), HasSubstr("rank 4294967296"));
  EXPECT_THAT(tiktoken_refusal(rank_file() + "YWI= 7\n"),
              HasSubstr("rank 7, which an earlier line has"));
  EXPECT_THAT(tiktoken_refusal(rank_file({"ab", "ab"})),
              HasSubstr("ranks 256 and 257 are the same token \"ab\""));
  EXPECT_THAT(tiktoken_refusal("YWI= 0\n"), HasSubstr("single byte"));
  EXPECT_THAT(tiktoken_refusal(rank_file({std::string(1025, 'a')})),
              HasSubstr("1025 bytes; at most 1024"));
  EXPECT_THAT(tiktoken_refusal(std::string("\n\x0E\n\x05<unk>\x15\0\0", 13)),
              HasSubstr("SentencePiece"));
  EXPECT_THAT(tiktoken_refusal("version https://git-lfs.example/spec/v1\n"),
              HasSubstr("line 1 is not"));
}

TEST(Tiktoken, NamesTheFile) {
  std::string folder = std::string(TG_BINARY_DIR) + "/tiktoken-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/tokenizer.model";
  const auto absent = load_tiktoken(path);
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(absent.error().text(), HasSubstr(path));
  std::ofstream(path) << "x";
  const auto broken = load_tiktoken(path);
  ASSERT_FALSE(broken);
  EXPECT_THAT(broken.error().text(), AllOf(StartsWith(path + ": line 1"), Not(HasSubstr("\n"))));
  ::unlink(path.c_str());
  ::rmdir(folder.c_str());
}

TEST(Tiktoken, ManyLongTokensLoadInTime) {
  std::vector<std::string> tokens;
  std::string token = "a";
  while (token.size() < 1024) tokens.push_back(token += 'a');
  const auto start = std::chrono::steady_clock::now();
  EXPECT_NE(must(parse_tiktoken(rank_file(tokens))), nullptr);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took.count(), 5.0);
}

}  // namespace
}  // namespace tg
