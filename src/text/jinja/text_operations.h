// What: what both str methods and filters do to texts, as Python does it.
// Who owns: pure functions. Thread: any.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja/value.h"

namespace tg::jinja {

// Where part is in text at or after `from`, npos if nowhere; in linear time even for texts such as
// "aaa...a" and "aa...ab" (std::string::find is quadratic for them).
std::size_t find_part(std::string_view text, std::string_view part, std::size_t from);
// Where part is in text for the last time. Its quadratic worst case is paid for.
Result<std::size_t> find_last_part(std::string_view text, std::string_view part, Meter& meter);

// str.replace(): at most `count` times, all with count < 0. An empty `old` matches between
// characters.
Result<std::string> replace_text(std::string_view text, std::string_view old,
                                 std::string_view replacement, std::int64_t count, Meter& meter);

// str.capitalize(): the first character upper case, the others lower case.
std::string capitalize_text(std::string_view text);

// separator.join(texts).
Result<std::string> join_text(const List& items, std::string_view separator, Meter& meter);

// int(text, base) and float(text), which allow blanks around and "_" between digits. Empty: no
// number (or for int one beyond 64 bits).
std::optional<std::int64_t> parse_integer(std::string_view text, int base);
std::optional<double> parse_float(std::string_view text);

// The time as strftime writes it in English. kUnsupported for a directive outside of
// aAbBcdDeFHIjmMnpRStTuUwWxXyY%.
Result<std::string> format_time(std::string_view format, const std::tm& time, Meter& meter);

}  // namespace tg::jinja
