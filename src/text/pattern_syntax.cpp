#include "text/pattern_syntax.h"

#include <cstddef>
#include <optional>

#include "text/utf8.h"

namespace tg {
namespace {

// An item that repeats at least n times and fails has moved over n characters that no callout saw.
constexpr int kMostRepeats = 256;

// Escaped letters that both engines read alike. Not among them: \w and \b (other sets of
// characters), \h and \v (a digit and a control there, spaces here), \K \G \g \k \Q \E, references.
constexpr std::string_view kEscapedLetters = "adDefnpPrsStxAzZ";

// Groups, looking ahead and behind, atomic groups, and the one option that both read alike. Without
// its colon "(?i)" reaches over a following '|' in one engine only.
constexpr std::string_view kGroups[] = {
    "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// The braces that a regex continues with, when they are a repeat: "{n}", "{n,}", "{n,m}", "{,m}".
struct Repeat {
  std::size_t length;
  int most;            // the largest number in it
  bool without_least;  // "{,m}"
};

std::optional<Repeat> repeat_of(std::string_view rest) {
  Repeat repeat{0, 0, rest.starts_with("{,")};
  int number = 0;
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (is_digit(rest[i])) {
      if (number <= kMostRepeats) number = number * 10 + (rest[i] - '0');
      if (number > repeat.most) repeat.most = number;
    } else if (rest[i] == ',') {
      number = 0;
    } else if (rest[i] == '}' && i > 1) {
      repeat.length = i + 1;
      return repeat;
    } else {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace

Status check_pattern_syntax(std::string_view regex) {
  const auto refuse = [&](std::string_view what, std::size_t offset) {
    return error(ErrorCode::kUnsupported, "the split pattern {} has {} at offset {}",
                 shown_text(regex), what, offset);
  };
  bool in_class = false;
  for (std::size_t i = 0; i < regex.size(); ++i) {
    const std::string_view rest = regex.substr(i);
    if (rest[0] == '\\') {
      if (rest.size() < 2) return refuse("a lone backslash", i);
      if (is_digit(rest[1]) ||
          (is_letter(rest[1]) && kEscapedLetters.find(rest[1]) == std::string_view::npos)) {
        return refuse(shown_text(rest.substr(0, 2)), i);
      }
      ++i;
    } else if (in_class) {
      if (rest.starts_with("&&")) return refuse("an intersection of classes", i);
      if (rest[0] == '[') return refuse("a class inside a class", i);
      in_class = rest[0] != ']';
    } else if (rest[0] == '[') {
      in_class = true;
      if (rest.starts_with("[^")) ++i;
      if (regex.substr(i + 1).starts_with(']')) return refuse("a class that starts with ]", i);
    } else if (rest.starts_with("(*")) {
      return refuse("a verb \"(*\"", i);
    } else if (rest.starts_with("(?")) {
      bool known = false;
      for (const std::string_view group : kGroups) known = known || rest.starts_with(group);
      if (!known) return refuse(fmt::format("the group {}", shown_text(rest.substr(0, 5))), i);
    } else if (rest[0] == '{') {
      const std::optional<Repeat> repeat = repeat_of(rest);
      if (!repeat) continue;  // an ordinary brace
      if (repeat->most > kMostRepeats) {
        return refuse(fmt::format("more than {} repeats", kMostRepeats), i);
      }
      if (repeat->without_least) return refuse("a repeat without a least number", i);
      if (rest.substr(repeat->length).starts_with('+')) {
        return refuse("a + behind a repeat in braces", i);
      }
    }
  }
  return {};
}

}  // namespace tg
