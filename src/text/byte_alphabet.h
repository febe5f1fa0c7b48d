// What: the printable alphabet in which byte-level BPE files spell bytes: GPT-2's choice, used by
//   tokenizer.json and GGUF. The 188 bytes that print alone in Latin-1 stand for themselves; the
//   other 68 are, in ascending order, U+0100 to U+0143 (space is U+0120, newline U+010A).
// Who owns: pure functions. Thread: any.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tg {

// The bytes that `spelled` stands for; nullopt when it has a character outside of the alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view spelled);

// The other way round; any bytes can be spelled.
std::string spelling_of_bytes(std::string_view bytes);

}  // namespace tg
