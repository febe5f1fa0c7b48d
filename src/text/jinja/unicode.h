// What: UTF-8 strings seen the way Python sees str: by code point, with Python's ideas of space,
//   case and printability.
// Limits: cases are known for ASCII, Latin-1, Latin Extended-A and Additional, Greek, Cyrillic,
//   Armenian and full-width letters (letters beyond stay as they are), without the context rule of
//   the Greek final sigma; is_printable() calls unassigned code points printable. Chat templates
//   change the case of role names and keys; full tables would be 400 lines for text nobody has
//   sent.
// Who owns: pure functions. Thread: any. All inputs are valid UTF-8 (see text/utf8.h).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tg::jinja {

// The code point that starts at byte `position`, which moves to the next one. position < size.
char32_t next_code_point(std::string_view text, std::size_t& position);

void append_utf8(std::string& out, char32_t code);

// Length in code points.
std::size_t code_point_count(std::string_view text);

// Byte offset of code point `index`; text.size() when there are not that many.
std::size_t byte_offset(std::string_view text, std::size_t index);

// The text cut into its code points.
std::vector<std::string_view> code_points(std::string_view text);

bool is_space(char32_t code);
bool is_printable(char32_t code);
// A letter that has another case.
bool is_cased(char32_t code);
bool is_lower(char32_t code);
bool is_upper(char32_t code);

std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);

// str.strip() without an argument: left and / or right.
std::string_view strip_spaces(std::string_view text, bool left, bool right);
// str.strip(chars): any code point of `chars` is cut off.
std::string_view strip_chars(std::string_view text, std::string_view chars, bool left, bool right);

// str.splitlines(): cuts at every line boundary of Python, not only \n.
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

}  // namespace tg::jinja
