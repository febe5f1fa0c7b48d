#include "grammar/regex_parser.h"

#include <algorithm>
#include <optional>

#include "text/utf8.h"

namespace tg {
namespace {

using Kind = RegexTree::Kind;

constexpr std::size_t kMostPatternBytes = 64 * 1024;
constexpr int kMostNestedGroups = 200;         // the parser and its users recurse per group
constexpr std::uint32_t kMostCount = 1000000;  // of {m,n}

const CodePointSet& digit_set() {
  static const CodePointSet set = CodePointSet::of({{'0', '9'}});
  return set;
}
const CodePointSet& word_set() {
  static const CodePointSet set =
      CodePointSet::of({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}});
  return set;
}
const CodePointSet& space_set() {
  static const CodePointSet set = CodePointSet::of({{'\t', '\r'}, {' ', ' '}});
  return set;
}

// What an escape stands for: a set (\d), or one character.
struct EscapedSet {
  CodePointSet set;
  std::optional<char32_t> character;
};

class RegexParser {
 public:
  explicit RegexParser(std::string_view pattern) : text_(code_points(pattern)) {}

  Result<Regex> parse() {
    TG_ASSIGN(Regex tree, alternatives(0));
    if (at_ < text_.size()) return bad("')' without '('");
    return tree;
  }

 private:
  bool more() const { return at_ < text_.size(); }
  bool next_is(char32_t c) const { return more() && text_[at_] == c; }
  bool take(char32_t c) {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }
  bool take_all(std::string_view ascii) {
    if (text_.size() - at_ < ascii.size()) return false;
    for (std::size_t i = 0; i < ascii.size(); ++i) {
      if (text_[at_ + i] != static_cast<char32_t>(ascii[i])) return false;
    }
    at_ += ascii.size();
    return true;
  }
  tl::unexpected<Error> bad(std::string_view what) const {
    return error(ErrorCode::kBadInput, "regular expression, character {}: {}", at_, what);
  }
  tl::unexpected<Error> unsupported(std::string_view what) const {
    return error(ErrorCode::kUnsupported, "regular expression, character {}: {} not supported", at_,
                 what);
  }

  Result<Regex> alternatives(int depth) {
    if (depth > kMostNestedGroups) {
      return error(ErrorCode::kOutOfCapacity, "regular expression: more than {} nested groups",
                   kMostNestedGroups);
    }
    std::vector<Regex> parts;
    do {
      TG_ASSIGN(Regex part, sequence(depth));
      parts.push_back(std::move(part));
    } while (take('|'));
    return regex_either(std::move(parts));
  }

  Result<Regex> sequence(int depth) {
    std::vector<Regex> parts;
    while (more() && !next_is('|') && !next_is(')')) {
      TG_ASSIGN(Regex part, atom(depth));
      TG_ASSIGN(part, repeated(std::move(part)));
      parts.push_back(std::move(part));
    }
    return regex_sequence(std::move(parts));
  }

  Result<Regex> repeated(Regex part) {
    std::uint32_t least = 0;
    std::uint32_t most = RegexTree::kNoLimit;
    if (take('*')) {
    } else if (take('+')) {
      least = 1;
    } else if (take('?')) {
      most = 1;
    } else {
      TG_ASSIGN(const bool counted, count(least, most));
      if (!counted) return part;
    }
    if (part->kind == Kind::kStart || part->kind == Kind::kEnd) {
      return unsupported("a repeated anchor is");
    }
    take('?');  // lazy: the same texts
    if (next_is('+')) return unsupported("possessive repetition is");
    std::uint32_t ignored = 0;
    const std::size_t behind = at_;
    TG_ASSIGN(const bool again, count(ignored, ignored));
    if (again || next_is('*') || next_is('?')) {
      at_ = behind;
      return bad("a repetition of a repetition");
    }
    return regex_repeat(std::move(part), least, most);
  }

  // {m}, {m,}, {,n} or {m,n}; anything else that begins with '{' is ordinary text.
  Result<bool> count(std::uint32_t& least, std::uint32_t& most) {
    const std::size_t begin = at_;
    if (!take('{')) return false;
    const std::optional<std::uint32_t> low = number();
    std::optional<std::uint32_t> high = low;
    const bool comma = take(',');
    if (comma) high = number();
    if (!take('}') || (!low && !high)) {
      at_ = begin;
      return false;
    }
    least = low.value_or(0);
    most = high.value_or(RegexTree::kNoLimit);
    if (least > kMostCount || (high && most > kMostCount)) {
      return error(ErrorCode::kOutOfCapacity, "regular expression, character {}: a count above {}",
                   begin, kMostCount);
    }
    if (least > most) return bad("{m,n} with m above n");
    return true;
  }

  std::optional<std::uint32_t> number() {
    if (!more() || !digit_set().has(text_[at_])) return std::nullopt;
    std::uint32_t value = 0;
    while (more() && digit_set().has(text_[at_])) {
      value = std::min<std::uint32_t>(value * 10 + static_cast<std::uint32_t>(text_[at_++] - '0'),
                                      kMostCount + 1);
    }
    return value;
  }

  Result<Regex> anchor(Kind kind) {
    auto tree = std::make_shared<RegexTree>();
    tree->kind = kind;
    tree->offset = at_ - 1;
    return Regex(tree);
  }

  Result<Regex> atom(int depth) {
    const char32_t c = text_[at_++];
    switch (c) {
      case '(':
        return group(depth);
      case '[':
        return bracket();
      case '.':
        return regex_set(CodePointSet::of({{'\n', '\n'}}).complement());
      case '^':
        return anchor(Kind::kStart);
      case '$':
        return anchor(Kind::kEnd);
      case '*':
      case '+':
      case '?':
        --at_;
        return bad("nothing to repeat");
      case '\\':
        break;
      default:
        return regex_set(CodePointSet::of({{c, c}}));
    }
    if (take('A')) return anchor(Kind::kStart);
    if (take('Z') || take('z')) return anchor(Kind::kEnd);
    if (next_is('b') || next_is('B')) return unsupported("a word boundary is");
    if (more() && text_[at_] >= '1' && text_[at_] <= '9') return unsupported("a back-reference is");
    TG_ASSIGN(EscapedSet escaped, escape());
    return regex_set(std::move(escaped.set));
  }

  Result<Regex> group(int depth) {
    if (take('?')) {
      if (next_is('=') || next_is('!') || take_all("<=") || take_all("<!")) {
        return unsupported("look-around is");
      }
      if (take_all("P=")) return unsupported("a back-reference is");
      if (take_all("P<") || take('<')) {
        while (more() && word_set().has(text_[at_])) ++at_;
        if (!take('>')) return bad("a group's name without '>'");
      } else if (!take(':')) {
        return unsupported("a group of the form (?...) other than (?:...) and (?P<name>...) is");
      }
    }
    TG_ASSIGN(Regex inside, alternatives(depth + 1));
    if (!take(')')) return bad("'(' without ')'");
    return inside;
  }

  // Behind the backslash.
  Result<EscapedSet> escape() {
    if (!more()) return bad("a backslash at the end");
    const char32_t c = text_[at_++];
    const auto one = [](char32_t is) { return EscapedSet{CodePointSet::of({{is, is}}), is}; };
    switch (c) {
      case 'd':
        return EscapedSet{digit_set(), std::nullopt};
      case 'D':
        return EscapedSet{digit_set().complement(), std::nullopt};
      case 'w':
        return EscapedSet{word_set(), std::nullopt};
      case 'W':
        return EscapedSet{word_set().complement(), std::nullopt};
      case 's':
        return EscapedSet{space_set(), std::nullopt};
      case 'S':
        return EscapedSet{space_set().complement(), std::nullopt};
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 't':
        return one('\t');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case 'a':
        return one('\a');
      case '0':
        if (more() && digit_set().has(text_[at_])) return unsupported("an octal escape is");
        return one(0);
      case 'x':
        return hexadecimal(2);
      case 'u':
        return hexadecimal(4);
      case 'U':
        return hexadecimal(8);
      default:
        break;
    }
    if (word_set().has(c)) {
      --at_;
      return unsupported(fmt::format("the escape \\{} is", c == '_' ? '_' : static_cast<char>(c)));
    }
    return one(c);
  }

  Result<EscapedSet> hexadecimal(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char32_t c = more() ? text_[at_] : 0;
      const char32_t lower = c | 0x20;
      if (digit_set().has(c)) {
        value = value * 16 + (c - '0');
      } else if (lower >= 'a' && lower <= 'f') {
        value = value * 16 + (lower - 'a' + 10);
      } else {
        return bad(fmt::format("an escape that needs {} hexadecimal digits", digits));
      }
      ++at_;
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      return bad("an escape that is not a Unicode character");
    }
    return EscapedSet{CodePointSet::of({{value, value}}), value};
  }

  Result<EscapedSet> class_member() {
    const char32_t c = text_[at_++];
    if (c != '\\') return EscapedSet{CodePointSet::of({{c, c}}), c};
    if (take('b')) return EscapedSet{CodePointSet::of({{'\b', '\b'}}), char32_t{'\b'}};
    return escape();
  }

  Result<Regex> bracket() {
    const bool negated = take('^');
    CodePointSet set;
    bool first = true;
    while (first || !next_is(']')) {  // a ']' in first place is a member
      if (!more()) return bad("'[' without ']'");
      TG_ASSIGN(EscapedSet member, class_member());
      const bool range = next_is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']';
      if (range) {
        ++at_;
        TG_ASSIGN(const EscapedSet end, class_member());
        if (!member.character || !end.character || *member.character > *end.character) {
          return bad("a range in [...] that does not ascend from one character to another");
        }
        member.set = CodePointSet::of({{*member.character, *end.character}});
      }
      pending_.push_back(std::move(member.set));
      first = false;
    }
    ++at_;
    std::vector<CodePointRange> ranges;
    for (const CodePointSet& part : pending_) {
      ranges.insert(ranges.end(), part.ranges().begin(), part.ranges().end());
    }
    pending_.clear();
    set = CodePointSet::of(ranges);
    return regex_set(negated ? set.complement() : std::move(set));
  }

  std::vector<char32_t> text_;
  std::size_t at_ = 0;
  std::vector<CodePointSet> pending_;  // of the class that is being read
};

Regex any_text() { return regex_repeat(regex_set(CodePointSet::all()), 0, RegexTree::kNoLimit); }

bool has_anchor(const Regex& tree) {
  if (tree->kind == Kind::kStart || tree->kind == Kind::kEnd) return true;
  return std::any_of(tree->parts.begin(), tree->parts.end(), has_anchor);
}

// Takes the anchors out. An end of the tree that is `open` gets any text, unless an anchor is
// there: behind ^ the left end is no longer open.
Result<Regex> without_anchors(const Regex& tree, bool at_left, bool at_right, bool open_left,
                              bool open_right) {
  const auto framed = [&](Regex inner) {
    std::vector<Regex> parts;
    if (open_left) parts.push_back(any_text());
    parts.push_back(std::move(inner));
    if (open_right) parts.push_back(any_text());
    return regex_sequence(std::move(parts));
  };
  if (!has_anchor(tree)) return framed(tree);
  if (tree->kind == Kind::kEither) {
    std::vector<Regex> parts;
    for (const Regex& part : tree->parts) {
      TG_ASSIGN(Regex bare, without_anchors(part, at_left, at_right, open_left, open_right));
      parts.push_back(std::move(bare));
    }
    return regex_either(std::move(parts));
  }
  std::size_t first = 0;
  std::vector<Regex> parts = tree->kind == Kind::kSequence ? tree->parts : std::vector<Regex>{tree};
  std::size_t end = parts.size();
  while (at_left && first < end && parts[first]->kind == Kind::kStart) {
    ++first;
    open_left = false;
  }
  while (at_right && first < end && parts[end - 1]->kind == Kind::kEnd) {
    --end;
    open_right = false;
  }
  if (first == end) return framed(regex_empty());
  std::vector<Regex> bare;
  for (std::size_t i = first; i < end; ++i) {
    const bool is_first = i == first;
    const bool is_last = i + 1 == end;
    const Kind kind = parts[i]->kind;
    const bool anchor = kind == Kind::kStart || kind == Kind::kEnd;
    if (anchor || (kind == Kind::kRepeat && has_anchor(parts[i]))) {
      return error(ErrorCode::kUnsupported,
                   "regular expression{}: an anchor that is not at an end of the text is not "
                   "supported",
                   anchor ? fmt::format(", character {}", parts[i]->offset) : std::string());
    }
    TG_ASSIGN(Regex part, without_anchors(parts[i], at_left && is_first, at_right && is_last,
                                          open_left && is_first, open_right && is_last));
    bare.push_back(std::move(part));
  }
  return regex_sequence(std::move(bare));
}

}  // namespace

Result<Regex> parse_regex(std::string_view pattern, RegexUse use) {
  if (pattern.size() > kMostPatternBytes) {
    return error(ErrorCode::kOutOfCapacity, "a regular expression of {} bytes; at most {}",
                 pattern.size(), kMostPatternBytes);
  }
  if (valid_utf8_prefix(pattern) != pattern.size()) {
    return error(ErrorCode::kBadInput, "a regular expression that is not UTF-8 from byte {} on",
                 valid_utf8_prefix(pattern));
  }
  TG_ASSIGN(const Regex tree, RegexParser(pattern).parse());
  const bool open = use == RegexUse::kSearch;
  return without_anchors(tree, true, true, open, open);
}

}  // namespace tg
