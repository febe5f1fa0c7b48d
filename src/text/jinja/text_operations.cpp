#include "text/jinja/text_operations.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#include "text/jinja/unicode.h"
#include "text/jinja/value_text.h"

namespace tg::jinja {
namespace {

// The text without blanks around it and single "_" between digits; empty if it can be no number.
std::string bare_number(std::string_view text) {
  text = strip_spaces(text, true, true);
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_') {
      const bool between = i > 0 && i + 1 < text.size() && text[i - 1] != '_' && text[i + 1] != '_';
      if (!between) return {};
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::size_t find_part(std::string_view text, std::string_view part, std::size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (part.empty()) return from;
  // Sooner than memmem() would say so, which may not be given the null pointer of an empty view.
  if (part.size() > text.size() - from) return std::string_view::npos;
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

Result<std::size_t> find_last_part(std::string_view text, std::string_view part, Meter& meter) {
  // A short part costs nothing to speak of.
  if (part.size() > 64 && text.size() > 64 &&
      !meter.spend(static_cast<std::int64_t>(text.size() / 64 * (part.size() / 64)))) {
    return meter.exhausted();
  }
  return text.rfind(part);
}

Result<std::string> replace_text(std::string_view text, std::string_view old,
                                 std::string_view replacement, std::int64_t count, Meter& meter) {
  std::string out;
  std::size_t at = 0;
  // True as long as the text made may be made.
  const auto affordable = [&] {
    return meter.spend(1) && out.size() <= meter.limits().output_bytes;
  };
  for (; count != 0 && affordable(); --count) {
    if (old.empty()) {
      out += replacement;
      if (at >= text.size()) break;
      std::size_t next = at;
      next_code_point(text, next);
      out += text.substr(at, next - at);
      at = next;
      continue;
    }
    const std::size_t found = find_part(text, old, at);
    if (found == std::string_view::npos) break;
    out += text.substr(at, found - at);
    out += replacement;
    at = found + old.size();
  }
  if (at < text.size()) out += text.substr(at);
  if (!meter.spend_bytes(out.size())) return meter.exhausted();
  return out;
}

std::string capitalize_text(std::string_view text) {
  std::size_t first = 0;
  if (text.empty()) return {};
  next_code_point(text, first);
  return to_upper(text.substr(0, first)) + to_lower(text.substr(first));
}

Result<std::string> join_text(const List& items, std::string_view separator, Meter& meter) {
  std::string out;
  bool first = true;
  for (const Value& item : items) {
    if (!first) out += separator;
    first = false;
    append_text(item, out, meter);
    if (out.size() > meter.limits().output_bytes) meter.spend_bytes(out.size());
    if (!meter.spend(1)) return meter.exhausted();
  }
  return out;
}

std::optional<std::int64_t> parse_integer(std::string_view text, int base) {
  std::string digits = bare_number(text);
  std::string sign;
  if (!digits.empty() && (digits[0] == '+' || digits[0] == '-')) {
    if (digits[0] == '-') sign = "-";
    digits.erase(0, 1);
  }
  if (digits.size() > 2 && digits[0] == '0') {
    const char kind = static_cast<char>(digits[1] | 0x20);
    const int written = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (written != 0 && (base == written || base == 0)) {
      digits.erase(0, 2);
      base = written;
    }
  }
  if (base == 0) base = 10;
  if (digits.empty() || digits[0] == '-' || base < 2 || base > 36) return std::nullopt;
  digits = sign + digits;
  std::int64_t value = 0;
  const auto done = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (done.ec != std::errc() || done.ptr != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_float(std::string_view text) {
  std::string digits = bare_number(text);
  if (digits.starts_with('+') && !digits.starts_with("+-")) digits.erase(0, 1);
  // from_chars would take "nan(...)".
  if (digits.empty() || digits.find('(') != std::string::npos || digits.starts_with('+')) {
    return std::nullopt;
  }
  double value = 0;
  const auto done = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (done.ptr != digits.data() + digits.size()) return std::nullopt;
  if (done.ec == std::errc()) return value;
  // Too large or too small for a double: strtod gives the infinity or zero that Python gives.
  return std::strtod(digits.c_str(), nullptr);
}

Result<std::string> format_time(std::string_view format, const std::tm& time, Meter& meter) {
  static constexpr std::string_view kKnown = "aAbBcdDeFHIjmMnpRStTuUwWxXyY%";
  std::string out;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    // "%-d" is "%d" without the leading zero (glibc's, which Python passes on).
    std::size_t k = i + 1;
    const bool bare = k < format.size() && format[k] == '-';
    if (bare) ++k;
    if (k >= format.size() || kKnown.find(format[k]) == std::string_view::npos) {
      return error(ErrorCode::kUnsupported, "strftime_now does not know '{}'",
                   format.substr(i, bare ? 2 : 1));
    }
    const char directive[3] = {'%', format[k], 0};
    char text[64] = {};
    const std::size_t length = std::strftime(text, sizeof text, directive, &time);
    std::string_view made(text, length);
    while (bare && made.size() > 1 && made[0] == '0') made.remove_prefix(1);
    out += made;
    if (!meter.spend_bytes(out.size())) return meter.exhausted();
    i = k;
  }
  return out;
}

}  // namespace tg::jinja
