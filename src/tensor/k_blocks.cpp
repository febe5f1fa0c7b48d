#include "tensor/k_blocks.h"

namespace tg {

void q4_k_codes(const std::byte* block, int group, std::uint8_t* codes) {
  // Two groups share 32 bytes, low nibbles and high ones.
  const std::byte* run = block + 16 + 32 * (group / 2);
  const int shift = 4 * (group % 2);
  for (int i = 0; i < 32; ++i) {
    codes[i] = static_cast<std::uint8_t>(std::to_integer<unsigned>(run[i]) >> shift & 15U);
  }
}

void q6_k_codes(const std::byte* block, int group, std::uint8_t* codes) {
  // Four groups share 64 bytes of nibbles and 32 of pairs.
  const int half = group / 4;
  const int r = group % 4;
  const std::byte* low = block + 64 * half + 32 * (r % 2);
  const std::byte* high = block + 128 + 32 * half;
  for (int i = 0; i < 32; ++i) {
    const unsigned nibble = std::to_integer<unsigned>(low[i]) >> (4 * (r / 2)) & 15U;
    const unsigned pair = std::to_integer<unsigned>(high[i]) >> (2 * r) & 3U;
    codes[i] = static_cast<std::uint8_t>(nibble | pair << 4);
  }
}

}  // namespace tg
