#include "checkpoint/zip_directory.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "checkpoint/file_kind.h"

namespace tg {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEndRecord = 0x06054b50;
constexpr std::uint32_t kZip64EndRecord = 0x06064b50;
constexpr std::uint32_t kZip64Locator = 0x07064b50;
constexpr std::size_t kLocalSize = 30;
constexpr std::size_t kCentralSize = 46;
constexpr std::size_t kEndSize = 22;
constexpr std::size_t kZip64EndSize = 56;
constexpr std::size_t kLocatorSize = 20;
constexpr std::size_t kLongestComment = 65535;
// A value that did not fit its field; the true one is in the ZIP64 extra field or end record.
constexpr std::uint64_t kOverflow16 = 0xffff;
constexpr std::uint64_t kOverflow32 = 0xffffffff;

// The unsigned little-endian number of `width` bytes at `offset`; the caller has checked the
// bounds.
std::uint64_t number(std::span<const std::byte> bytes, std::size_t offset, std::size_t width) {
  TG_CHECK(offset <= bytes.size() && width <= bytes.size() - offset);
  std::uint64_t value = 0;
  for (std::size_t i = width; i-- > 0;) {
    value = (value << 8) | std::to_integer<std::uint64_t>(bytes[offset + i]);
  }
  return value;
}

bool has(std::span<const std::byte> bytes, std::uint64_t offset, std::uint64_t length) {
  return offset <= bytes.size() && length <= bytes.size() - offset;
}

// Where the central directory is, and how much it holds.
struct DirectoryPlace {
  std::uint64_t entries = 0;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;
  std::uint64_t end = 0;  // everything of the archive before this is data or directory
};

// The end record is the last thing in the file but for a comment of up to 64 KiB, which holds its
// own length: a signature whose comment does not end with the file is part of something else.
std::optional<std::size_t> find_end_record(std::span<const std::byte> file) {
  if (file.size() < kEndSize) return std::nullopt;
  const std::size_t last = file.size() - kEndSize;
  const std::size_t first = last > kLongestComment ? last - kLongestComment : 0;
  for (std::size_t at = last + 1; at-- > first;) {
    if (number(file, at, 4) == kEndRecord &&
        at + kEndSize + number(file, at + 20, 2) == file.size()) {
      return at;
    }
  }
  return std::nullopt;
}

Result<DirectoryPlace> locate_directory(std::span<const std::byte> file) {
  const std::optional<std::size_t> end = find_end_record(file);
  if (!end) {
    return error(ErrorCode::kBadInput, "not a complete zip archive: {}", looks_like(file));
  }
  DirectoryPlace place{.entries = number(file, *end + 10, 2),
                       .size = number(file, *end + 12, 4),
                       .offset = number(file, *end + 16, 4),
                       .end = *end};
  const bool zip64 = *end >= kLocatorSize && number(file, *end - kLocatorSize, 4) == kZip64Locator;
  if (zip64) {
    const std::size_t locator = *end - kLocatorSize;
    const std::uint64_t at = number(file, locator + 8, 8);
    if (!has(file, at, kZip64EndSize) || at + kZip64EndSize > locator ||
        number(file, at, 4) != kZip64EndRecord) {
      return error(ErrorCode::kBadInput,
                   "zip archive damaged: its ZIP64 end record should be at byte {} and is not", at);
    }
    place = {.entries = number(file, at + 32, 8),
             .size = number(file, at + 40, 8),
             .offset = number(file, at + 48, 8),
             .end = at};
    if (number(file, at + 16, 4) != 0 || number(file, at + 20, 4) != 0) {
      return error(ErrorCode::kUnsupported, "zip archive split over several files");
    }
  } else if (number(file, *end + 4, 2) != 0 || number(file, *end + 6, 2) != 0) {
    return error(ErrorCode::kUnsupported, "zip archive split over several files");
  } else if (place.entries == kOverflow16 || place.size == kOverflow32 ||
             place.offset == kOverflow32) {
    return error(ErrorCode::kBadInput, "zip archive damaged: the ZIP64 end record is missing");
  }
  if (place.offset > place.end || place.size > place.end - place.offset) {
    return error(ErrorCode::kBadInput,
                 "zip archive damaged: a directory of {} bytes at byte {} does not fit before the "
                 "end record at byte {}",
                 place.size, place.offset, place.end);
  }
  if (place.entries > place.size / kCentralSize) {
    return error(ErrorCode::kBadInput,
                 "zip archive damaged: {} records do not fit a directory of {} bytes",
                 place.entries, place.size);
  }
  return place;
}

// The three numbers of a central header that may be replaced by a ZIP64 extra field.
struct Sizes {
  std::uint64_t stored = 0;
  std::uint64_t original = 0;
  std::uint64_t header_offset = 0;
};

// The extra field is a list of (id, length, bytes); id 1 holds, in this order, those of original
// size, stored size and header offset that overflowed.
Status read_zip64_extra(std::span<const std::byte> extra, std::string_view name, Sizes& sizes) {
  std::array<std::uint64_t*, 3> wanted = {&sizes.original, &sizes.stored, &sizes.header_offset};
  const bool any = std::any_of(wanted.begin(), wanted.end(),
                               [](const std::uint64_t* v) { return *v == kOverflow32; });
  if (!any) return {};
  for (std::size_t at = 0; has(extra, at, 4);) {
    const std::uint64_t id = number(extra, at, 2);
    const std::size_t length = static_cast<std::size_t>(number(extra, at + 2, 2));
    if (!has(extra, at + 4, length)) break;
    if (id == 1) {
      const auto field = extra.subspan(at + 4, length);
      std::size_t used = 0;
      for (std::uint64_t* value : wanted) {
        if (*value != kOverflow32) continue;
        if (!has(field, used, 8)) {
          return error(ErrorCode::kBadInput,
                       "record \"{}\": ZIP64 extra field of {} bytes is too short", printable(name),
                       length);
        }
        *value = number(field, used, 8);
        used += 8;
      }
      return {};
    }
    at += 4 + length;
  }
  return error(ErrorCode::kBadInput, "record \"{}\": ZIP64 extra field is missing",
               printable(name));
}

// Follows a record's header offset to its data and checks that both lie before the directory.
Result<std::size_t> locate_data(std::span<const std::byte> file, const DirectoryPlace& place,
                                std::string_view name, const Sizes& sizes) {
  const auto data_area = file.first(static_cast<std::size_t>(place.offset));
  const std::uint64_t header = sizes.header_offset;
  if (!has(data_area, header, kLocalSize)) {
    return error(ErrorCode::kBadInput,
                 "record \"{}\": header at byte {} lies outside the data area of {} bytes",
                 printable(name), header, data_area.size());
  }
  const auto at = static_cast<std::size_t>(header);
  if (number(file, at, 4) != kLocalHeader) {
    return error(ErrorCode::kBadInput, "record \"{}\": no header at byte {}", printable(name), at);
  }
  const std::size_t name_length = static_cast<std::size_t>(number(file, at + 26, 2));
  const std::size_t extra_length = static_cast<std::size_t>(number(file, at + 28, 2));
  const std::size_t data = at + kLocalSize + name_length + extra_length;
  if (!has(data_area, data, sizes.original)) {
    return error(ErrorCode::kBadInput,
                 "record \"{}\": {} bytes at byte {} do not fit the data area of {} bytes",
                 printable(name), sizes.original, data, data_area.size());
  }
  if (as_text(file.subspan(at + kLocalSize, name_length)) != name) {
    return error(ErrorCode::kBadInput, "record \"{}\": the header at byte {} has another name",
                 printable(name), at);
  }
  return data;
}

}  // namespace

Result<ZipDirectory> ZipDirectory::parse(std::span<const std::byte> file) {
  TG_ASSIGN(const DirectoryPlace place, locate_directory(file));
  const auto directory =
      file.subspan(static_cast<std::size_t>(place.offset), static_cast<std::size_t>(place.size));
  ZipDirectory result;
  result.entries_.reserve(static_cast<std::size_t>(place.entries));
  std::size_t at = 0;
  for (std::uint64_t i = 0; i < place.entries; ++i) {
    if (!has(directory, at, kCentralSize) || number(directory, at, 4) != kCentralHeader) {
      return error(ErrorCode::kBadInput,
                   "zip archive damaged: record {} of {} is not at byte {} of the directory", i + 1,
                   place.entries, at);
    }
    const std::uint64_t flags = number(directory, at + 8, 2);
    const std::uint64_t method = number(directory, at + 10, 2);
    Sizes sizes{.stored = number(directory, at + 20, 4),
                .original = number(directory, at + 24, 4),
                .header_offset = number(directory, at + 42, 4)};
    const std::size_t name_length = static_cast<std::size_t>(number(directory, at + 28, 2));
    const std::size_t extra_length = static_cast<std::size_t>(number(directory, at + 30, 2));
    const std::size_t comment_length = static_cast<std::size_t>(number(directory, at + 32, 2));
    if (!has(directory, at + kCentralSize, name_length + extra_length + comment_length)) {
      return error(ErrorCode::kBadInput,
                   "zip archive damaged: record {} of {} runs past the end of the directory", i + 1,
                   place.entries);
    }
    ZipEntry entry;
    entry.name = as_text(directory.subspan(at + kCentralSize, name_length));
    entry.crc32 = static_cast<std::uint32_t>(number(directory, at + 16, 4));
    TG_RETURN_IF_ERROR(read_zip64_extra(
        directory.subspan(at + kCentralSize + name_length, extra_length), entry.name, sizes));
    if ((flags & 1U) != 0) {
      return error(ErrorCode::kUnsupported, "record \"{}\" is encrypted", printable(entry.name));
    }
    if (method != 0) {
      return error(ErrorCode::kUnsupported,
                   "record \"{}\" is compressed (method {}); only stored records can be mapped",
                   printable(entry.name), method);
    }
    if (sizes.stored != sizes.original) {
      return error(ErrorCode::kBadInput, "record \"{}\" is stored but has two sizes, {} and {}",
                   printable(entry.name), sizes.stored, sizes.original);
    }
    TG_ASSIGN(entry.offset, locate_data(file, place, entry.name, sizes));
    entry.size = static_cast<std::size_t>(sizes.original);
    if (!result.by_name_.emplace(entry.name, result.entries_.size()).second) {
      return error(ErrorCode::kBadInput, "record \"{}\" appears twice", printable(entry.name));
    }
    result.entries_.push_back(std::move(entry));
    at += kCentralSize + name_length + extra_length + comment_length;
  }
  return result;
}

const ZipEntry* ZipDirectory::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

Status check_crc32(std::span<const std::byte> file, const ZipEntry& entry) {
  TG_CHECK(has(file, entry.offset, entry.size));
  const auto* data = reinterpret_cast<const Bytef*>(file.data() + entry.offset);
  const auto actual = static_cast<std::uint32_t>(::crc32_z(0, data, entry.size));
  if (actual != entry.crc32) {
    return error(ErrorCode::kBadInput,
                 "record \"{}\" of {} bytes is damaged: its CRC-32 is {:08x}, the archive says "
                 "{:08x}",
                 printable(entry.name), entry.size, actual, entry.crc32);
  }
  return {};
}

}  // namespace tg
