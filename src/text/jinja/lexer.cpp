#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "text/jinja/unicode.h"
#include "text/utf8.h"

namespace tg::jinja {
namespace {

using Kind = Token::Kind;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_name_char(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

bool is_digit_of(char c, int base) {
  if (base == 16) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  }
  return c >= '0' && c < '0' + base;
}

// \r\n and \r become \n, and one newline at the end goes.
std::string normalized(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string text) : text_(std::move(text)) {}

  Result<std::vector<Token>> run() {
    while (at_ < text_.size()) {
      const std::size_t tag = next_tag();
      if (tag == std::string::npos) {
        add_data(text_.substr(at_));
        break;
      }
      const char kind = text_[tag + 1];
      char sign = 0;
      if (tag + 2 < text_.size() && (text_[tag + 2] == '-' || text_[tag + 2] == '+')) {
        sign = text_[tag + 2];
      }
      add_data(text_before(tag, sign, kind != '{'));
      at_ = tag + 2 + (sign != 0 ? 1 : 0);
      if (kind == '#') {
        TG_RETURN_IF_ERROR(skip_comment());
      } else if (kind == '%') {
        TG_ASSIGN(const bool raw, raw_block());
        if (!raw) TG_RETURN_IF_ERROR(read_tag(Kind::kBlockBegin, Kind::kBlockEnd));
      } else {
        TG_RETURN_IF_ERROR(read_tag(Kind::kVariableBegin, Kind::kVariableEnd));
      }
    }
    add(Kind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  // Tokens come in the order of the text, so lines are counted up to the start of each.
  int line_of(std::size_t position) {
    line_ +=
        static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(counted_),
                                    text_.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
    counted_ = position;
    return line_;
  }

  void add(Kind kind, std::string text) {
    tokens_.push_back({kind, line_of(std::max(counted_, at_)), std::move(text)});
  }
  void add_data(std::string text) {
    if (!text.empty()) add(Kind::kData, std::move(text));
  }

  std::size_t next_tag() const {
    for (std::size_t i = text_.find('{', at_); i != std::string::npos; i = text_.find('{', i + 1)) {
      if (i + 1 < text_.size() &&
          (text_[i + 1] == '{' || text_[i + 1] == '%' || text_[i + 1] == '#')) {
        return i;
      }
    }
    return std::string::npos;
  }

  // The text from at_ to a tag, without what the tag's sign or lstrip_blocks takes from its end.
  std::string text_before(std::size_t tag, char sign, bool is_block) const {
    std::string_view data = std::string_view(text_).substr(at_, tag - at_);
    if (sign == '-') return std::string(strip_spaces(data, false, true));
    if (sign == 0 && is_block) {
      const std::size_t newline = data.rfind('\n');
      const std::size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
      const bool at_line_start = line_start > 0 || at_ == 0 || text_[at_ - 1] == '\n';
      if (at_line_start && strip_spaces(data.substr(line_start), true, false).empty()) {
        data = data.substr(0, line_start);
      }
    }
    return std::string(data);
  }

  // If the tag ends at `position` ("%}", "-%}" or "+%}" with `close` = "%}"), its length with the
  // whitespace it takes along, else 0.
  std::size_t end_of_tag(std::size_t position, std::string_view close) const {
    const std::string_view rest = std::string_view(text_).substr(position);
    if (rest.starts_with(close)) {
      const bool trims = close != "}}" && rest.size() > 2 && rest[2] == '\n';
      return trims ? 3 : 2;
    }
    if (rest.size() < 3 || rest.substr(1, 2) != close) return 0;
    if (rest[0] == '-')
      return 3 + rest.size() - 3 - strip_spaces(rest.substr(3), true, false).size();
    return rest[0] == '+' && close != "}}" ? 3 : 0;
  }

  Status skip_comment() {
    for (std::size_t i = at_; i < text_.size(); ++i) {
      if (text_[i] != '#' && text_[i] != '-' && text_[i] != '+') continue;
      if (const std::size_t length = end_of_tag(i, "#}"); length > 0) {
        at_ = i + length;
        return {};
      }
    }
    return error_at(line_of(at_), ErrorCode::kBadInput, "the comment is not closed");
  }

  std::size_t skip_blanks(std::size_t position) const {
    const std::string_view rest = std::string_view(text_).substr(position);
    return position + rest.size() - strip_spaces(rest, true, false).size();
  }

  // True if {% is followed by "raw %}"; then everything up to {% endraw %} is data.
  Result<bool> raw_block() {
    std::size_t i = skip_blanks(at_);
    if (text_.compare(i, 3, "raw") != 0) return false;
    i = skip_blanks(i + 3);
    if (text_.compare(i, 3, "-%}") == 0) {
      i = skip_blanks(i + 3);
    } else if (text_.compare(i, 2, "%}") == 0) {
      i += 2;  // no newline is trimmed here
    } else {
      return false;
    }
    const std::size_t opened = at_;
    at_ = i;
    for (std::size_t tag = text_.find("{%", at_); tag != std::string::npos;
         tag = text_.find("{%", tag + 1)) {
      std::size_t name = tag + 2;
      char sign = 0;
      if (name < text_.size() && (text_[name] == '-' || text_[name] == '+')) sign = text_[name++];
      name = skip_blanks(name);
      if (text_.compare(name, 6, "endraw") != 0) continue;
      name = skip_blanks(name + 6);
      if (const std::size_t length = end_of_tag(name, "%}"); length > 0) {
        add_data(text_before(tag, sign, true));
        at_ = name + length;
        return true;
      }
    }
    return error_at(line_of(opened), ErrorCode::kBadInput, "the raw block is not closed");
  }

  // The tokens of one {{ }} or {% %}, from behind its opening.
  Status read_tag(Kind begin, Kind end) {
    const std::string_view close = begin == Kind::kBlockBegin ? "%}" : "}}";
    const int opened = line_of(at_);
    add(begin, {});
    std::string open_brackets;
    while (true) {
      at_ = skip_blanks(at_);
      if (at_ >= text_.size()) {
        return error_at(opened, ErrorCode::kBadInput, "the tag is not closed by '{}'", close);
      }
      if (open_brackets.empty()) {
        if (const std::size_t length = end_of_tag(at_, close); length > 0) {
          add(end, {});
          at_ += length;
          return {};
        }
      }
      const char c = text_[at_];
      if (is_digit(c)) {
        add_number();
      } else if (is_name_char(c)) {
        std::size_t i = at_;
        while (i < text_.size() && is_name_char(text_[i])) ++i;
        add_and_move(Kind::kName, text_.substr(at_, i - at_), i - at_);
      } else if (c == '\'' || c == '"') {
        TG_RETURN_IF_ERROR(add_string());
      } else {
        TG_RETURN_IF_ERROR(add_operator(open_brackets));
      }
    }
  }

  void add_and_move(Kind kind, std::string text, std::size_t length) {
    add(kind, std::move(text));
    at_ += length;
  }

  // End of a run of digits that single "_" may divide.
  std::size_t digits_end(std::size_t i, int base) const {
    while (i < text_.size() &&
           (is_digit_of(text_[i], base) ||
            (text_[i] == '_' && i + 1 < text_.size() && is_digit_of(text_[i + 1], base)))) {
      ++i;
    }
    return i;
  }

  void add_number() {
    const std::size_t start = at_;
    std::size_t end = 0;
    Kind kind = Kind::kInteger;
    const char second = start + 1 < text_.size() ? static_cast<char>(text_[start + 1] | 0x20) : ' ';
    const int base = text_[start] != '0' ? 10
                     : second == 'x'     ? 16
                     : second == 'o'     ? 8
                     : second == 'b'     ? 2
                                         : 10;
    if (base != 10 && digits_end(start + 2, base) > start + 2) {
      end = digits_end(start + 2, base);
    } else {
      end = digits_end(start, 10);
      // "x.0.5" is two subscripts, not the float 0.5.
      const bool after_dot = start > 0 && text_[start - 1] == '.';
      if (!after_dot) {
        if (end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1])) {
          kind = Kind::kFloat;
          end = digits_end(end + 1, 10);
        }
        if (end < text_.size() && (text_[end] | 0x20) == 'e') {
          std::size_t exponent = end + 1;
          if (exponent < text_.size() && (text_[exponent] == '+' || text_[exponent] == '-')) {
            ++exponent;
          }
          if (digits_end(exponent, 10) > exponent) {
            kind = Kind::kFloat;
            end = digits_end(exponent, 10);
          }
        }
      }
    }
    std::string digits = text_.substr(start, end - start);
    std::erase(digits, '_');
    add_and_move(kind, std::move(digits), end - start);
  }

  Status add_operator(std::string& open_brackets) {
    static constexpr std::array<std::string_view, 25> kOperators = {
        "**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "<",
        ">",  "=",  "(",  ")",  "[",  "]",  "{", "}", ".", ":", "|", ","};
    const std::string_view rest = std::string_view(text_).substr(at_);
    for (const std::string_view op : kOperators) {
      if (!rest.starts_with(op)) continue;
      if (op == "(" || op == "[" || op == "{") {
        open_brackets += op == "(" ? ')' : op == "[" ? ']' : '}';
      } else if (op == ")" || op == "]" || op == "}") {
        if (open_brackets.empty() || open_brackets.back() != op[0]) {
          return error_at(line_of(at_), ErrorCode::kBadInput, "unexpected '{}'", op);
        }
        open_brackets.pop_back();
      }
      add_and_move(Kind::kOperator, std::string(op), op.size());
      return {};
    }
    return error_at(line_of(at_), ErrorCode::kBadInput, "unexpected character '{}'",
                    static_cast<unsigned char>(rest[0]) < 0x20 ? '?' : rest[0]);
  }

  // A quoted string with Python's escapes.
  Status add_string() {
    const char quote = text_[at_];
    std::string out;
    std::size_t i = at_ + 1;
    while (i < text_.size() && text_[i] != quote) {
      if (text_[i] != '\\') {
        out += text_[i++];
        continue;
      }
      if (++i >= text_.size()) break;
      TG_RETURN_IF_ERROR(append_escape(i, out));
    }
    if (i >= text_.size()) {
      return error_at(line_of(at_), ErrorCode::kBadInput, "the string is not closed");
    }
    add_and_move(Kind::kString, std::move(out), i + 1 - at_);
    return {};
  }

  // text_[i] follows a backslash; i moves behind the escape.
  Status append_escape(std::size_t& i, std::string& out) {
    const char c = text_[i++];
    static constexpr std::string_view kLetters = "abfnrtv\\'\"";
    static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    if (const std::size_t k = kLetters.find(c); k != std::string_view::npos) {
      out += kMeanings[k];
      return {};
    }
    if (c == '\n') return {};
    const std::size_t hex_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    std::size_t end = i;
    std::uint32_t code = 0;
    if (hex_digits > 0) {
      while (end < text_.size() && end - i < hex_digits && is_digit_of(text_[end], 16)) ++end;
      if (end - i < hex_digits) {
        return error_at(line_of(at_), ErrorCode::kBadInput, "the escape \\{} needs {} hex digits",
                        c, hex_digits);
      }
      code = static_cast<std::uint32_t>(std::stoul(text_.substr(i, hex_digits), nullptr, 16));
    } else if (is_digit_of(c, 8)) {
      --i;
      while (end < text_.size() && end - i < 3 && is_digit_of(text_[end], 8)) ++end;
      code = static_cast<std::uint32_t>(std::stoul(text_.substr(i, end - i), nullptr, 8));
    } else if (c == 'N') {
      return error_at(line_of(at_), ErrorCode::kUnsupported, "the escape \\N");
    } else {
      out += '\\';  // an unknown escape stays as it is
      out += c;
      return {};
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
      return error_at(line_of(at_), ErrorCode::kBadInput, "the escape \\{} is no character", c);
    }
    append_utf8(out, code);
    i = end;
    return {};
  }

  std::string text_;
  std::size_t at_ = 0;
  std::size_t counted_ = 0;  // newlines before this position are in line_
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize(std::string_view source) {
  if (valid_utf8_prefix(source) != source.size()) {
    return error_at(1, ErrorCode::kBadInput, "the template is not UTF-8");
  }
  return Lexer(normalized(source)).run();
}

}  // namespace tg::jinja
