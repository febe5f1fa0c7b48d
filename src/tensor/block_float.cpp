#include "tensor/block_float.h"

namespace tg {

void round_to_bfp(std::span<float> row, int magnitude_bits) {
  for_bfp_blocks(row.size(), [&](std::size_t first, std::size_t count) {
    const std::span<float> block = row.subspan(first, count);
    const std::uint32_t shared = shared_exponent(block);
    for (float& x : block) x = from_bfp(to_bfp(x, shared, magnitude_bits), shared, magnitude_bits);
  });
}

}  // namespace tg
