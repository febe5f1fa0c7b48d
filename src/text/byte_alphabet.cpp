#include "text/byte_alphabet.h"

#include <array>
#include <cstddef>

namespace tg {
namespace {

constexpr std::size_t kAlphabetEnd = 0x144;  // one past the last code point of the alphabet

constexpr bool stands_for_itself(std::size_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char16_t, 256> character{};   // by byte
  std::array<short, kAlphabetEnd> byte{};  // by code point; -1 outside of the alphabet
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (short& byte : alphabet.byte) byte = -1;
  std::size_t next = 0x100;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const std::size_t code = stands_for_itself(byte) ? byte : next++;
    alphabet.character[byte] = static_cast<char16_t>(code);
    alphabet.byte[code] = static_cast<short>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::optional<std::string> bytes_of_spelling(std::string_view spelled) {
  std::string bytes;
  bytes.reserve(spelled.size());
  for (std::size_t i = 0; i < spelled.size(); ++i) {
    std::size_t code = static_cast<unsigned char>(spelled[i]);
    if (code >= 0x80) {
      // The alphabet ends below U+0144, so only two-byte characters with these leads are in it.
      if (code < 0xC2 || code > 0xC5 || i + 1 == spelled.size()) return std::nullopt;
      const std::size_t second = static_cast<unsigned char>(spelled[++i]);
      if (second < 0x80 || second > 0xBF) return std::nullopt;
      code = ((code & 0x1F) << 6) | (second & 0x3F);
    }
    if (code >= kAlphabetEnd || kAlphabet.byte[code] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kAlphabet.byte[code]));
  }
  return bytes;
}

std::string spelling_of_bytes(std::string_view bytes) {
  std::string spelled;
  for (const char c : bytes) {
    const unsigned code = kAlphabet.character[static_cast<unsigned char>(c)];
    if (code < 0x80) {
      spelled.push_back(static_cast<char>(code));
    } else {
      spelled.push_back(static_cast<char>(0xC0 | (code >> 6)));
      spelled.push_back(static_cast<char>(0x80 | (code & 0x3F)));
    }
  }
  return spelled;
}

}  // namespace tg
