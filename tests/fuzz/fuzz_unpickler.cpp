// libFuzzer target: any bytes as the pickle of a .pth file.
#include <cstddef>
#include <cstdint>
#include <span>

#include "checkpoint/unpickler.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto result = tg::unpickle_tensors(std::as_bytes(std::span(data, size)));
  if (result) {
    for (const tg::PickledTensor& t : *result) {
      // What the header promises about the numbers.
      TG_CHECK(t.shape.size() == t.strides.size() && t.shape.size() <= 8);
      TG_CHECK(t.offset >= 0 && t.storage_bytes >= 0);
      for (const std::int64_t n : t.shape) TG_CHECK(n >= 0);
    }
  }
  return 0;
}
