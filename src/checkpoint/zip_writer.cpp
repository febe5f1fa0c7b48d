#include "checkpoint/zip_writer.h"

#include <algorithm>

#include "base/result.h"

namespace tg {
namespace {

constexpr std::uint64_t kMost16 = 0xffff;
constexpr std::uint64_t kMost32 = 0xffffffff;
constexpr std::uint64_t kZipAlignment = 64;  // torch's
constexpr std::uint64_t kLocalHeaderSize = 30;
constexpr std::uint64_t kExtraHeader = 4;        // id and length of an extra field
constexpr std::uint64_t kZip64Extra = 1;         // its id
constexpr std::uint64_t kPaddingExtra = 0x4246;  // "FB", the id that torch pads with
constexpr std::uint64_t kUtf8Names = 0x0800;     // flag
constexpr std::uint64_t kPlainVersion = 20;      // of the format that a reader must know
constexpr std::uint64_t kZip64Version = 45;
constexpr std::uint64_t kDate = 0x0021;  // 1980-01-01: equal tensors give equal files

void put(std::string& out, std::uint64_t value, int width) {
  for (int i = 0; i < width; ++i) out += static_cast<char>((value >> (8 * i)) & 0xff);
}

bool is_large(std::uint64_t value) { return value >= kMost32; }

std::uint64_t in_32(std::uint64_t value) { return std::min(value, kMost32); }

// Both sizes; a local header has no place for one alone.
std::uint64_t local_zip64_bytes(const ZipRecord& record) {
  return is_large(record.size) ? kExtraHeader + 16 : 0;
}

// What local and central headers have in common.
void put_middle(std::string& out, const ZipRecord& record, bool zip64, std::uint64_t extra_bytes) {
  put(out, zip64 ? kZip64Version : kPlainVersion, 2);
  put(out, kUtf8Names, 2);
  put(out, 0, 2);  // stored
  put(out, 0, 2);  // time
  put(out, kDate, 2);
  put(out, record.crc32, 4);
  put(out, in_32(record.size), 4);
  put(out, in_32(record.size), 4);
  put(out, record.name.size(), 2);
  put(out, extra_bytes, 2);
}

void put_central_header(std::string& out, const ZipRecord& record) {
  std::string large;  // the values that did not fit, in the order of the format
  if (is_large(record.size)) {
    put(large, record.size, 8);
    put(large, record.size, 8);
  }
  if (is_large(record.header_offset)) put(large, record.header_offset, 8);
  const bool zip64 = !large.empty();
  put(out, 0x02014b50, 4);
  put(out, zip64 ? kZip64Version : kPlainVersion, 2);  // of the writer
  put_middle(out, record, zip64, zip64 ? kExtraHeader + large.size() : 0);
  put(out, 0, 2);  // comment
  put(out, 0, 2);  // disk
  put(out, 0, 2);  // internal attributes
  put(out, 0, 4);  // external attributes
  put(out, in_32(record.header_offset), 4);
  out += record.name;
  if (!zip64) return;
  put(out, kZip64Extra, 2);
  put(out, large.size(), 2);
  out += large;
}

}  // namespace

void place_zip_records(std::span<ZipRecord> records) {
  std::uint64_t at = 0;
  for (ZipRecord& record : records) {
    record.header_offset = at;
    const std::uint64_t least =
        at + kLocalHeaderSize + record.name.size() + local_zip64_bytes(record) + kExtraHeader;
    record.data_offset = (least + kZipAlignment - 1) / kZipAlignment * kZipAlignment;
    at = record.data_offset + record.size;
  }
}

std::string zip_local_header(const ZipRecord& record) {
  const std::uint64_t before = record.header_offset + kLocalHeaderSize + record.name.size();
  TG_CHECK(record.data_offset >= before + local_zip64_bytes(record) + kExtraHeader);
  const std::uint64_t extra_bytes = record.data_offset - before;
  std::string out;
  put(out, 0x04034b50, 4);
  put_middle(out, record, is_large(record.size), extra_bytes);
  out += record.name;
  if (is_large(record.size)) {
    put(out, kZip64Extra, 2);
    put(out, 16, 2);
    put(out, record.size, 8);
    put(out, record.size, 8);
  }
  const std::uint64_t padding = extra_bytes - local_zip64_bytes(record) - kExtraHeader;
  put(out, kPaddingExtra, 2);
  put(out, padding, 2);
  out.append(padding, 'Z');
  return out;
}

std::string zip_directory_bytes(std::span<const ZipRecord> records) {
  TG_CHECK(!records.empty());
  const std::uint64_t start = records.back().data_offset + records.back().size;
  std::string out;
  for (const ZipRecord& record : records) put_central_header(out, record);
  const std::uint64_t size = out.size();
  const std::uint64_t count = records.size();
  if (is_large(start) || is_large(size) || count >= kMost16) {
    put(out, 0x06064b50, 4);
    put(out, 44, 8);  // bytes of this record that follow
    put(out, kZip64Version, 2);
    put(out, kZip64Version, 2);
    put(out, 0, 4);  // disk
    put(out, 0, 4);  // disk of the directory
    put(out, count, 8);
    put(out, count, 8);
    put(out, size, 8);
    put(out, start, 8);
    put(out, 0x07064b50, 4);  // the locator: where that record is
    put(out, 0, 4);
    put(out, start + size, 8);
    put(out, 1, 4);  // disks
  }
  put(out, 0x06054b50, 4);
  put(out, 0, 2);  // disk
  put(out, 0, 2);  // disk of the directory
  put(out, std::min(count, kMost16), 2);
  put(out, std::min(count, kMost16), 2);
  put(out, in_32(size), 4);
  put(out, in_32(start), 4);
  put(out, 0, 2);  // comment
  return out;
}

}  // namespace tg
