#include "server/json_text.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "text/utf8.h"

namespace tg {
namespace {

void append_escaped_valid(std::string& out, std::string_view text) {
  std::size_t copied = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
    out.append(text, copied, i - copied);
    copied = i + 1;
    switch (byte) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
    }
  }
  out.append(text, copied);
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  if (valid_utf8_prefix(text) == text.size()) {
    append_escaped_valid(out, text);
  } else {
    std::string valid;
    if (append_replacing_invalid(text, valid) < text.size()) valid += kReplacementCharacter;
    append_escaped_valid(out, valid);
  }
  out += '"';
}

void append_json_or_null(std::string& out, std::string_view text) {
  if (text.empty()) {
    out += "null";
  } else {
    append_json_string(out, text);
  }
}

void append_json_number(std::string& out, float value, float not_finite) {
  fmt::format_to(std::back_inserter(out), "{}", std::isfinite(value) ? value : not_finite);
}

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

}  // namespace tg
