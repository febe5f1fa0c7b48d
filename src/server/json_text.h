// What: JSON written by hand: texts and numbers appended to a string. An answer of a stream is one
//   line a token, and a document in memory for each would cost more than the line.
// Who owns: the caller's string. Thread: any.
#pragma once

#include <string>
#include <string_view>

namespace tg {

// In quotes. Bytes that are no UTF-8 come out as U+FFFD, so that the line always is JSON.
void append_json_string(std::string& out, std::string_view text);

// The same, but null in place of an empty text.
void append_json_or_null(std::string& out, std::string_view text);

// The shortest digits that give the number back; what is not finite comes out as `not_finite`.
void append_json_number(std::string& out, float value, float not_finite);

std::string json_string(std::string_view text);

}  // namespace tg
