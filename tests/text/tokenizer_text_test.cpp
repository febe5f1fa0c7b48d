// Text that is not text, special tokens that overlap, and streams: properties over random input.
#include <gmock/gmock.h>

#include <atomic>
#include <random>
#include <thread>

#include "text/special_finder.h"
#include "text/stream_decoder.h"
#include "text/utf8.h"
#include "tokenizer_forms.h"

namespace tg {
namespace {

using testing::ElementsAre;

TokenizerPointer tiny() {
  static const TokenizerPointer tokenizer =
      must(load_tiktoken(kGolden + "tiny/meta_mp8/tokenizer.model"));
  return tokenizer;
}

std::string bytes_of(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::string bytes;
  for (const TokenId id : ids) bytes += tokenizer.token_bytes(id);
  return bytes;
}

// Characters, broken characters and special tokens in a row.
std::string random_text(std::mt19937& random) {
  static const std::string kParts[] = {"a",
                                       "Hello",
                                       " ",
                                       "\n\n",
                                       "1234",
                                       "\xC3\xA9",
                                       "\xE4\xB8\xAD",
                                       "\xF0\x9F\x98\x80",
                                       "\xC3",
                                       "\xE4\xB8",
                                       "\xF0\x9F\x98",
                                       "\x80",
                                       "\xFF",
                                       "\xED\xA0\x80",
                                       "\xC0\x80",
                                       "\xF4\x90",
                                       "<|eot_id|>",
                                       "<|eot_id",
                                       std::string(1, '\0')};
  std::string text;
  for (auto n = random() % 12; n > 0; --n) text += kParts[random() % std::size(kParts)];
  return text;
}

TEST(TokenizerText, NoByteIsLost) {
  ASSERT_NE(tiny(), nullptr);
  std::mt19937 random(3);
  for (int i = 0; i < 5000; ++i) {
    const std::string text = random_text(random);
    for (const SpecialTokens mode : {SpecialTokens::kAsText, SpecialTokens::kParse}) {
      const std::vector<TokenId> ids = tiny()->encode(text, mode);
      ASSERT_EQ(bytes_of(*tiny(), ids), text);
      std::string replaced;
      if (append_replacing_invalid(text, replaced) < text.size()) replaced += kReplacementCharacter;
      ASSERT_EQ(tiny()->decode(ids, false), replaced);
    }
    for (const TokenId id : tiny()->encode(text, SpecialTokens::kAsText)) {
      ASSERT_FALSE(tiny()->is_special(id));
    }
  }
}

TEST(TokenizerText, ThreadsShareOneTokenizer) {
  ASSERT_NE(tiny(), nullptr);
  std::string text = read_file(kGolden + "public_domain.txt");
  const std::vector<TokenId> wanted = tiny()->encode(text, SpecialTokens::kParse);
  std::vector<std::thread> threads;
  std::atomic<int> equal = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        equal += tiny()->encode(text, SpecialTokens::kParse) == wanted ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, 80);
}

TEST(TokenizerText, StreamsJoinToTheDecodedText) {
  ASSERT_NE(tiny(), nullptr);
  std::mt19937 random(5);
  for (int i = 0; i < 5000; ++i) {
    std::vector<TokenId> ids(random() % 20);
    // Mostly single bytes from 0x80 up, where characters begin and break; some ids do not exist.
    for (TokenId& id : ids) {
      id = static_cast<TokenId>(random() % 4 == 0 ? random() % 1100 : 120 + random() % 136);
    }
    for (const bool skip : {false, true}) {
      StreamDecoder stream(*tiny(), skip);
      std::string text;
      for (const TokenId id : ids) {
        const std::string delta = stream.push(id);
        ASSERT_EQ(valid_utf8_prefix(delta), delta.size());
        text += delta;
      }
      ASSERT_EQ(text + stream.flush(), tiny()->decode(ids, skip));
      ASSERT_EQ(stream.flush(), "");
    }
  }
}

TEST(TokenizerText, StreamKeepsHalfACharacterAcrossASkippedToken) {
  ASSERT_NE(tiny(), nullptr);
  const std::vector<TokenId> halves = tiny()->encode("\xCC\x81", SpecialTokens::kAsText);
  ASSERT_EQ(halves.size(), 2U);
  StreamDecoder stream(*tiny(), true);
  EXPECT_EQ(stream.push(halves[0]), "");
  EXPECT_EQ(stream.push(*tiny()->bos_id()), "");
  EXPECT_EQ(stream.push(halves[1]), "\xCC\x81");
  StreamDecoder shown(*tiny(), false);
  EXPECT_EQ(shown.push(halves[0]), "");
  EXPECT_EQ(shown.push(*tiny()->bos_id()), "\xEF\xBF\xBD<|begin_of_text|>");
}

TEST(Utf8, StepsAgreeWithTheTableOfValidSequences) {
  // Every two-byte start, against the definition by code point: a three- or four-byte character
  // with this start exists exactly when the step is not invalid.
  for (unsigned lead = 0x80; lead < 256; ++lead) {
    for (unsigned second = 0; second < 256; ++second) {
      const std::string text = {static_cast<char>(lead), static_cast<char>(second)};
      const bool continuation = second >= 0x80 && second < 0xC0;
      bool begins = false;
      if (lead >= 0xC0 && lead < 0xE0) {
        begins = continuation && ((lead & 0x1F) << 6 | (second & 0x3F)) >= 0x80;
      } else if (lead >= 0xE0 && lead < 0xF0) {
        const unsigned least = (lead & 0x0F) << 12 | (second & 0x3F) << 6;
        begins = continuation && least + 0x3F >= 0x800 && !(least >= 0xD800 && least < 0xE000);
      } else if (lead >= 0xF0 && lead < 0xF8) {
        const unsigned least = (lead & 0x07) << 18 | (second & 0x3F) << 12;
        begins = continuation && least + 0xFFF >= 0x10000 && least < 0x110000;
      }
      const Utf8Step step = utf8_step(text);
      EXPECT_EQ(step.kind != Utf8Step::Kind::kInvalid, begins) << lead << " " << second;
      EXPECT_EQ(step.length, begins ? 2U : 1U) << lead << " " << second;
    }
  }
  EXPECT_EQ(utf8_step("\xF0\x9F\x98x").length, 3U);
  EXPECT_EQ(valid_utf8_prefix("12345678\xC3\xA9"
                              "1234567890\xFF"),
            20U);
  EXPECT_EQ(shown_text("a\nb\xFF\x7F"), "\"a?b\xEF\xBF\xBD?\"");
  EXPECT_EQ(shown_text(std::string(100, 'x')), "\"" + std::string(60, 'x') + "...\"");
}

TEST(SpecialFinder, LeftmostThenLongest) {
  const SpecialFinder finder({{"<a>", 1}, {"<a>b", 2}, {"a>bc", 3}, {"\xFF", 4}, {"<", 5}});
  const auto ids = [&](std::string_view text) {
    std::vector<TokenId> found;
    for (auto at = finder.find(text, 0); at; at = finder.find(text, at->begin + at->length)) {
      found.push_back(at->id);
    }
    return found;
  };
  EXPECT_THAT(ids("x<a>bc"), ElementsAre(2));
  EXPECT_THAT(ids("<a><a>b\xFF<"), ElementsAre(1, 2, 4, 5));
  EXPECT_THAT(ids("a>bc<a"), ElementsAre(3, 5));
  EXPECT_THAT(ids(""), ElementsAre());
  EXPECT_THAT(SpecialFinder().find("<a>", 0), testing::Eq(std::nullopt));
  EXPECT_EQ(finder.id_of("<a>"), 1);
  EXPECT_EQ(finder.id_of("<a"), std::nullopt);
  EXPECT_EQ(finder.id_of(""), std::nullopt);
}

}  // namespace
}  // namespace tg
