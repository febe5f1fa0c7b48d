// What: words for messages about files that are not what they should be: what the first bytes look
//   like (web page, git-lfs pointer, old torch format, ...), and text from a file made safe to
//   print.
// Who owns: plain functions. Thread: any.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tg {

// What a file that was refused looks like, to be put after "not a zip archive: ". Never empty.
std::string looks_like(std::span<const std::byte> file);

// Text from an untrusted file for one line of a message: bytes outside printable ASCII become \xNN,
// and what is longer than 100 characters is cut with "...".
std::string printable(std::string_view text);

// The bytes as text, without a copy.
inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace tg
