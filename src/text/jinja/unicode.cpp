#include "text/jinja/unicode.h"

#include <algorithm>
#include <cstdint>

namespace tg::jinja {
namespace {

// Cased letters whose pairs follow a rule. `step` 1: upper and lower halves `delta` apart; step 2:
// upper and lower alternate, the upper one first.
struct CaseRun {
  char32_t first_upper;
  char32_t last_upper;
  std::int32_t delta;
  char32_t step;
};
constexpr CaseRun kCaseRuns[] = {
    {0x00C0, 0x00D6, 32, 1},    // Latin-1
    {0x00D8, 0x00DE, 32, 1},    //
    {0x0100, 0x012E, 1, 2},     // Latin Extended-A
    {0x0132, 0x0136, 1, 2},     //
    {0x0139, 0x0147, 1, 2},     //
    {0x014A, 0x0176, 1, 2},     //
    {0x0178, 0x0178, -121, 1},  // y with diaeresis; its lower form is in Latin-1
    {0x0179, 0x017D, 1, 2},     //
    {0x01CD, 0x01DB, 1, 2},     // Latin Extended-B, as far as it alternates (Pinyin, Romanian)
    {0x01DE, 0x01EE, 1, 2},     //
    {0x01F8, 0x021E, 1, 2},     //
    {0x0222, 0x0232, 1, 2},     //
    {0x0386, 0x0386, 38, 1},    // Greek
    {0x0388, 0x038A, 37, 1},    //
    {0x038C, 0x038C, 64, 1},    //
    {0x038E, 0x038F, 63, 1},    //
    {0x0391, 0x03A1, 32, 1},    //
    {0x03A3, 0x03AB, 32, 1},    //
    {0x0400, 0x040F, 80, 1},    // Cyrillic
    {0x0410, 0x042F, 32, 1},    //
    {0x0460, 0x0480, 1, 2},     //
    {0x048A, 0x04BE, 1, 2},     //
    {0x04C0, 0x04C0, 15, 1},    //
    {0x04C1, 0x04CD, 1, 2},     //
    {0x04D0, 0x052E, 1, 2},     //
    {0x0531, 0x0556, 48, 1},    // Armenian
    {0x1E00, 0x1E94, 1, 2},     // Latin Extended Additional (Vietnamese)
    {0x1EA0, 0x1EFE, 1, 2},     //
    {0xFF21, 0xFF3A, 32, 1},    // full-width ASCII
};

char32_t shifted(char32_t code, std::int32_t delta) {
  return static_cast<char32_t>(static_cast<std::int32_t>(code) + delta);
}

// The other case of a letter, or the letter itself.
char32_t lower_code(char32_t code) {
  if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + 32 : code;
  for (const CaseRun& run : kCaseRuns) {
    if (code >= run.first_upper && code <= run.last_upper) {
      return (code - run.first_upper) % run.step == 0 ? shifted(code, run.delta) : code;
    }
  }
  return code;
}

char32_t upper_code(char32_t code) {
  if (code < 0x80) return code >= 'a' && code <= 'z' ? code - 32 : code;
  if (code == 0x131) return 'I';    // dotless i
  if (code == 0x17F) return 'S';    // long s
  if (code == 0x3C2) return 0x3A3;  // final sigma
  if (code == 0xB5) return 0x39C;   // micro sign
  for (const CaseRun& run : kCaseRuns) {
    const char32_t upper = shifted(code, -run.delta);
    if (upper >= run.first_upper && upper <= run.last_upper &&
        (upper - run.first_upper) % run.step == 0) {
      return upper;
    }
  }
  return code;
}

bool is_line_break(char32_t code) {
  return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
         code == 0x2028 || code == 0x2029;
}

bool contains_code(std::string_view chars, std::string_view one) {
  for (std::size_t at = 0; at < chars.size();) {
    const std::size_t start = at;
    next_code_point(chars, at);
    if (chars.substr(start, at - start) == one) return true;
  }
  return false;
}

// Start of the code point that ends at byte `end` > 0.
std::size_t previous_start(std::string_view text, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U) --at;
  return at;
}

template <typename Drop>
std::string_view strip_if(std::string_view text, bool left, bool right, const Drop& drop) {
  while (left && !text.empty()) {
    std::size_t length = 0;
    next_code_point(text, length);
    if (!drop(text.substr(0, length))) break;
    text.remove_prefix(length);
  }
  while (right && !text.empty()) {
    const std::size_t start = previous_start(text, text.size());
    if (!drop(text.substr(start))) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

}  // namespace

char32_t next_code_point(std::string_view text, std::size_t& position) {
  const auto lead = static_cast<unsigned char>(text[position++]);
  if (lead < 0x80) return lead;
  std::uint32_t code = lead < 0xE0 ? lead & 0x1FU : lead < 0xF0 ? lead & 0x0FU : lead & 0x07U;
  while (position < text.size() && (static_cast<unsigned char>(text[position]) & 0xC0U) == 0x80U) {
    code = (code << 6) | (static_cast<unsigned char>(text[position++]) & 0x3FU);
  }
  return code;
}

void append_utf8(std::string& out, char32_t code) {
  const auto byte = [&out](std::uint32_t value) { out.push_back(static_cast<char>(value)); };
  if (code < 0x80) {
    byte(code);
  } else if (code < 0x800) {
    byte(0xC0U | (code >> 6));
    byte(0x80U | (code & 0x3FU));
  } else if (code < 0x10000) {
    byte(0xE0U | (code >> 12));
    byte(0x80U | ((code >> 6) & 0x3FU));
    byte(0x80U | (code & 0x3FU));
  } else {
    byte(0xF0U | (code >> 18));
    byte(0x80U | ((code >> 12) & 0x3FU));
    byte(0x80U | ((code >> 6) & 0x3FU));
    byte(0x80U | (code & 0x3FU));
  }
}

std::size_t code_point_count(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

std::size_t byte_offset(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  for (; index > 0 && at < text.size(); --index) next_code_point(text, at);
  return at;
}

std::vector<std::string_view> code_points(std::string_view text) {
  std::vector<std::string_view> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    next_code_point(text, at);
    out.push_back(text.substr(start, at - start));
  }
  return out;
}

bool is_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 ||
         code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_printable(char32_t code) {
  if (code < 0x7F) return code >= 0x20;
  const bool hidden =
      code <= 0xA0 || code == 0xAD || (code >= 0x600 && code <= 0x605) || code == 0x61C ||
      code == 0x1680 || code == 0x180E || (code >= 0x2000 && code <= 0x200F) ||
      (code >= 0x2028 && code <= 0x202F) || (code >= 0x205F && code <= 0x206F) || code == 0x3000 ||
      code == 0x6DD || code == 0x70F || (code >= 0x890 && code <= 0x891) || code == 0x8E2 ||
      code == 0x110BD || code == 0x110CD || (code >= 0x13430 && code <= 0x1343F) ||
      (code >= 0x1BCA0 && code <= 0x1BCA3) || (code >= 0x1D173 && code <= 0x1D17A) ||
      (code >= 0xE000 && code <= 0xF8FF) || code == 0xFEFF || (code >= 0xFFF0 && code <= 0xFFFB) ||
      (code & 0xFFFEU) == 0xFFFE || (code >= 0xE0000 && (code < 0xE0100 || code > 0xE01EF));
  return !hidden;
}

bool is_lower(char32_t code) { return upper_code(code) != code || code == 0xDF; }

bool is_upper(char32_t code) { return lower_code(code) != code || code == 0x130; }

bool is_cased(char32_t code) { return is_lower(code) || is_upper(code); }

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t code = next_code_point(text, at);
    // The one code point whose lower-case form is two: dotted capital I.
    if (code == 0x130) {
      out += "i\xCC\x87";
    } else {
      append_utf8(out, lower_code(code));
    }
  }
  return out;
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t code = next_code_point(text, at);
    if (code == 0xDF) {
      out += "SS";  // sharp s
    } else {
      append_utf8(out, upper_code(code));
    }
  }
  return out;
}

std::string_view strip_spaces(std::string_view text, bool left, bool right) {
  return strip_if(text, left, right, [](std::string_view one) {
    std::size_t at = 0;
    return is_space(next_code_point(one, at));
  });
}

std::string_view strip_chars(std::string_view text, std::string_view chars, bool left, bool right) {
  return strip_if(text, left, right,
                  [chars](std::string_view one) { return contains_code(chars, one); });
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at;
    const char32_t code = next_code_point(text, at);
    if (!is_line_break(code)) continue;
    if (code == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(start, (keep_ends ? at : end) - start));
    start = at;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

}  // namespace tg::jinja
