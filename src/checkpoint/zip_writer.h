// What: the bytes around the records of a zip archive as torch.save writes it: stored, the data of
//   every record at a multiple of 64 bytes (so that a mapped file can be used in place), ZIP64
//   where a size or an offset does not fit 32 bits. Sizes are known before anything is written, so
//   these are pure functions; the counterpart is zip_directory.h.
//   Format: PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12, 4.3.14 - 4.3.16 and 4.5.3.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tg {

struct ZipRecord {
  std::string name;
  std::uint64_t size = 0;           // bytes of data
  std::uint64_t header_offset = 0;  // in the file
  std::uint64_t data_offset = 0;    // in the file; a multiple of 64
  std::uint32_t crc32 = 0;
};

// Fills header_offset and data_offset of records that follow each other from the file's start.
void place_zip_records(std::span<ZipRecord> records);

// The bytes of [record.header_offset, record.data_offset).
std::string zip_local_header(const ZipRecord& record);

// What follows the last record's data: the directory and the end records. `records` is not empty.
std::string zip_directory_bytes(std::span<const ZipRecord> records);

}  // namespace tg
