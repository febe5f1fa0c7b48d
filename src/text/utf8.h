// What: the UTF-8 rules of the text layer: where a character ends, which bytes can never become
//   one, and text with such bytes replaced. The rules are Unicode's table of well-formed sequences
//   (no overlong forms, no surrogates, nothing above U+10FFFF) and its "maximal subpart" practice:
//   one U+FFFD per longest prefix of a character that is broken off, one per any other wrong byte.
// Who owns: pure functions. Thread: any.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tg {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Step {
  enum class Kind {
    kCharacter,   // `length` bytes are one whole character
    kInvalid,     // `length` bytes are one maximal invalid part, whatever may follow
    kIncomplete,  // the text ends inside a character that may still become valid
  };
  Kind kind;
  std::size_t length;
};

// What the text starts with. `text` must not be empty.
Utf8Step utf8_step(std::string_view text);

// How many bytes at the start of text are whole valid characters.
std::size_t valid_utf8_prefix(std::string_view text);

// Appends text to out with U+FFFD for each maximal invalid part, and stops before an incomplete
// character at the end. Returns how many bytes of text were used (all but at most 3).
std::size_t append_replacing_invalid(std::string_view text, std::string& out);

// The text for an error message: one line, quoted, clipped, nothing unprintable.
std::string shown_text(std::string_view text);

}  // namespace tg
