// libFuzzer target: any bytes as a whole .pth file (zip directory, pickle, storages).
#include <cstddef>
#include <cstdint>
#include <span>

#include "checkpoint/pth_file.h"
#include "checkpoint/zip_directory.h"
#include "read_everything.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file = std::as_bytes(std::span(data, size));
  const auto zip = tg::ZipDirectory::parse(file);
  if (zip) {
    for (const tg::ZipEntry& entry : zip->entries()) {
      static_cast<void>(tg::check_crc32(file, entry).has_value());
    }
  }
  const auto tensors = tg::parse_pth(file, /*verify=*/false);
  if (tensors) {
    for (const tg::StoredTensor& tensor : *tensors) tg::fuzz::read_ends(file, tensor);
  }
  return 0;
}
