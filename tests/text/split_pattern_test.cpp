// Splitting by pattern: borders, gaps, what is refused, and that no pattern on any text runs long.
#include "text/split_pattern.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "text/pre_tokenizer.h"

namespace tg {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string repeated(std::string_view unit, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += unit;
  return text;
}

std::vector<std::string> split(const PreTokenizer& patterns, std::string_view text) {
  std::vector<std::string_view> pieces;
  SplitWork work = patterns.work_for(text.size());
  patterns.split(text, work, pieces);
  return {pieces.begin(), pieces.end()};
}

std::vector<std::string> split(std::string_view regex, std::string_view text) {
  PreTokenizer patterns;
  const Status added = patterns.add(regex);
  EXPECT_TRUE(added) << added.error().text();
  return split(patterns, text);
}

std::string pattern_refusal(std::string_view regex) {
  PreTokenizer patterns;
  const Status added = patterns.add(regex);
  return added ? "accepted" : added.error().text();
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(SplitPattern, MatchesAndGapsArePieces) {
  EXPECT_THAT(split("[0-9]+", "ab12c3"), ElementsAre("ab", "12", "c", "3"));
  EXPECT_THAT(split("[0-9]+", "none"), ElementsAre("none"));
  EXPECT_THAT(split("[0-9]+", ""), ElementsAre());
  EXPECT_THAT(split("", "abc"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(split("x*", "abxxc"), ElementsAre("a", "b", "xx", "c"));
  // Empty matches step over whole characters.
  EXPECT_THAT(split("", "\xE4\xB8\xAD\xC3\xA9"), ElementsAre("\xE4\xB8\xAD", "\xC3\xA9"));
}

TEST(SplitPattern, PatternsAreAppliedInOrder) {
  PreTokenizer patterns;
  ASSERT_TRUE(patterns.add(kSingleDigitsPattern));
  ASSERT_TRUE(patterns.add(kGpt2Pattern));
  EXPECT_THAT(split(patterns, "I'm 42  years"),
              ElementsAre("I", "'m", " ", "4", "2", " ", " years"));
}

TEST(SplitPattern, ReadsPatternsAsTheirEngineDoes) {
  EXPECT_THAT(split(kLlama3Pattern, "Don't 1234\r\n  x\xC2\xA0y"),
              ElementsAre("Don", "'t", " ", "123", "4", "\r\n", " ", " x", "\xC2\xA0y"));
  // ^ and $ are borders of lines, and a line ends at \n only.
  EXPECT_THAT(split("^a|b$", "aab\nab\r"), ElementsAre("a", "a", "b", "\n", "a", "b\r"));
  EXPECT_THAT(split("a.c", "abc a\nc a\rc"), ElementsAre("abc", " a\nc ", "a\rc"));
}

TEST(SplitPattern, RefusesWhatItCannotTake) {
  EXPECT_THAT(pattern_refusal("(a"), AllOf(HasSubstr("\"(a\""), HasSubstr("at offset 2")));
  EXPECT_THAT(pattern_refusal("[a"), HasSubstr("at offset 2"));
  EXPECT_THAT(pattern_refusal("\\p{Nonsense}"), HasSubstr("\\p{Nonsense}"));
  EXPECT_THAT(pattern_refusal("\xFF"), HasSubstr("UTF-8"));
  EXPECT_THAT(pattern_refusal("a\\"), HasSubstr("backslash"));
  EXPECT_THAT(pattern_refusal(std::string(5000, 'a')), HasSubstr("5000 bytes; at most 4096"));
  EXPECT_THAT(pattern_refusal(repeated("(", 300) + repeated(")", 300)), HasSubstr("nested"));
}

TEST(SplitPattern, RefusesWhatTwoEnginesReadDifferently) {
  for (const char* regex :
       {"\\w+",       "\\bx",     "\\h",     "\\v",     "\\Kx",        "(a)\\1",    "(a)\\g1",
        "\\Qa\\E",    "\\C",      "[a&&b]",  "[a[bc]]", "[[:alpha:]]", "[]a]",      "[^]a]",
        "(?m:a)",     "(?i)a",    "(?<n>a)", "(?R)",    "(?1)",        "(?#a)",     "(?C1)",
        "(*COMMIT)a", "(*UTF8)a", "a{,3}",   "a{2}+",   "a{300}",      "a{1,70000}"}) {
    EXPECT_THAT(pattern_refusal(regex), AllOf(Not("accepted"), HasSubstr("at offset"))) << regex;
    EXPECT_THAT(pattern_refusal(regex), Not(HasSubstr("\n")));
  }
  for (const char* regex : {"a{2,256}", "{", "a{x}", "[{\\]\\[]{2}", "(?:a|(?i:b))(?=c)(?<!d)"}) {
    EXPECT_EQ(pattern_refusal(regex), "accepted") << regex;
  }
}

TEST(SplitPattern, RefusesCatastrophicPatterns) {
  for (const char* regex :
       {"(a+)+b", "(?:a|a)*b", "(?:a*)*b", "(\\p{L}+)+!", "(?:\\s*)+x", "a*a*a*a*a*b",
        "(?:.*.*)*=", "a*ab|a", "(?=.*!)a", "(?:(?:a{1,200}){1,200}){1,200}b"}) {
    const auto start = std::chrono::steady_clock::now();
    const std::string message = pattern_refusal(regex);
    EXPECT_LT(seconds_since(start), 5.0) << regex;
    EXPECT_NE(message, "accepted") << regex;
    EXPECT_THAT(message, Not(HasSubstr("\n")));
  }
}

// A pattern that only shows on some text what it costs: the work is bounded by the text's length,
// nothing is lost, and the outcome is the same each time.
TEST(SplitPattern, WorkIsBoundedOnEveryText) {
  const std::pair<const char*, std::string> rows[] = {
      {"(?:ab)*c|a", repeated("ab", 500'000)},      {"(?:ba|ab)*c", repeated("ab", 500'000)},
      {"(?=(?:ab)*c)a|b", repeated("ab", 500'000)}, {"(?:(?:ab)+)+c", repeated("ab", 500'000)},
      {"(?:ab){1,256}c", repeated("ab", 500'000)},
  };
  for (const auto& [regex, text] : rows) {
    PreTokenizer patterns;
    const Status added = patterns.add(regex);
    ASSERT_TRUE(added) << added.error().text();
    const auto start = std::chrono::steady_clock::now();
    const std::vector<std::string> pieces = split(patterns, text);
    EXPECT_LT(seconds_since(start), 20.0) << regex;
    std::string joined;
    for (const std::string& piece : pieces) joined += piece;
    EXPECT_EQ(joined == text, true) << regex;
    EXPECT_EQ(split(patterns, text) == pieces, true) << regex;
  }
}

// The same for a text that comes in many parts, as a text with many special tokens does.
TEST(SplitPattern, WorkIsSharedByTheParts) {
  PreTokenizer patterns;
  ASSERT_TRUE(patterns.add("(?:ab)*c|a"));
  const std::string part = repeated("ab", 100);
  constexpr std::size_t kParts = 20'000;
  SplitWork work = patterns.work_for(part.size() * kParts);
  std::vector<std::string_view> pieces;
  std::size_t most = 0;
  for (std::size_t i = 0; i < kParts; ++i) {
    patterns.split(part, work, pieces);
    most = std::max(most, pieces.size());
  }
  EXPECT_EQ(most, 200U);         // at first each letter is a piece of its own,
  EXPECT_EQ(pieces.size(), 1U);  // and the last parts are not split any more
  EXPECT_TRUE(work.exhausted());
}

TEST(SplitPattern, LongRunsAreFine) {
  for (const std::string_view pattern : {kLlama3Pattern, kQwen2Pattern, kGpt2Pattern}) {
    for (const char* unit : {"a", " ", "\n", "!", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80"}) {
      const std::string text = repeated(unit, 1'000'000);
      const auto start = std::chrono::steady_clock::now();
      EXPECT_EQ(split(pattern, text).size(), 1U) << unit;
      EXPECT_LT(seconds_since(start), 5.0) << unit;
    }
    // Digits, and a run of spaces that ends in a letter: the classic trap of \s+(?!\S).
    std::string spaces(1'000'000, ' ');
    spaces += "x";
    EXPECT_EQ(split(pattern, spaces).size(), 2U);
    std::vector<std::string> digits = split(pattern, std::string(999'999, '1'));
    EXPECT_EQ(digits.size(), pattern == kLlama3Pattern  ? 333'333U
                             : pattern == kQwen2Pattern ? 999'999U
                                                        : 1U);
  }
  // A group repeated a million times needs more stack than compiled code has; the interpreter
  // takes over.
  const std::string text = repeated("ab", 50'000);
  EXPECT_THAT(split("(?:a|b)+", text), ElementsAre(text));
  EXPECT_THAT(split("(?:ab|cd)+", text), ElementsAre(text));
}

}  // namespace
}  // namespace tg
