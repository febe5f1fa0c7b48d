// What: the list of records in a zip archive of the kind torch.save writes: stored, not compressed,
//   so a record is a stretch of the mapped file. Sizes come from the central directory at the end
//   (the headers in front of the data hold zeros), ZIP64 included.
//   Format: PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12, 4.3.14 - 4.3.16 and 4.5.3.
// Who owns: plain values; the file's bytes stay the caller's. Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tg {

struct ZipEntry {
  std::string name;
  std::size_t offset = 0;  // of the data in the file; [offset, offset + size) lies inside the file
  std::size_t size = 0;    // bytes
  std::uint32_t crc32 = 0;
};

class ZipDirectory {
 public:
  // Reads the directory of the whole archive `file`. kBadInput when the bytes are no zip archive
  // (the message says what they look like) or are inconsistent; kUnsupported for compressed,
  // encrypted or split archives. Every number is checked against the file before it is used.
  static Result<ZipDirectory> parse(std::span<const std::byte> file);

  // In the archive's order.
  std::span<const ZipEntry> entries() const { return entries_; }
  // nullptr when absent.
  const ZipEntry* find(std::string_view name) const;

 private:
  std::vector<ZipEntry> entries_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

// Compares the record's bytes with its CRC-32; kBadInput names the record and both values.
Status check_crc32(std::span<const std::byte> file, const ZipEntry& entry);

}  // namespace tg
