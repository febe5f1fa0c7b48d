// libFuzzer target: any bytes as a whole .safetensors file.
#include <cstddef>
#include <cstdint>
#include <span>

#include "checkpoint/safetensors_file.h"
#include "read_everything.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file = std::as_bytes(std::span(data, size));
  const auto entries = tg::parse_safetensors(file);
  if (entries) {
    for (const tg::SafetensorsEntry& entry : *entries) {
      const auto tensor = tg::as_float_tensor(entry);
      if (tensor) tg::fuzz::read_ends(file, *tensor);
    }
  }
  return 0;
}
