// What: a file of byte ranges ("sections") that were expensive to make, mapped and used in place by
//   whoever has the same key. Layout, in the byte order of x86:
//     0     8 bytes  "TGCACHE1"
//     8     u32      CRC-32 of all of the header behind this field
//     12    u32      0
//     16    u64 x 4  bytes of the header, of the whole file, of the key, number of sections
//     48    per section u64 offset, u64 bytes, u32 CRC-32 of its bytes, u32 0
//           the key
//   and then the sections, each at a multiple of 4096.
//   Opening looks at the header only; verify() at every byte.
// Who owns: move-only; a section lives as long as the object. Thread: reading from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "base/thread_team.h"

namespace tg {

// Told about bytes done so far, of all; one at a time.
using CacheProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

class CacheFile {
 public:
  // kNotFound: no file. kBadInput: damaged, cut off, of something else or of another key, and
  // which.
  static Result<CacheFile> open(const std::string& path, std::string_view key);

  const MappedFile& file() const { return file_; }
  std::size_t sections() const { return sections_.size(); }
  std::span<const std::byte> section(std::size_t index) const {
    return file_.bytes().subspan(sections_[index].offset, sections_[index].bytes);
  }

  // Reads all of it and compares the checksums. kBadInput names the first section that is damaged.
  Status verify(ThreadTeam& team, const CacheProgress& progress = {}) const;

  struct Section {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    std::uint32_t checksum = 0;
    std::uint32_t zero = 0;
  };

 private:
  MappedFile file_;
  std::vector<Section> sections_;
};

// CRC-32, as the file has it of each section.
std::uint32_t checksum(std::span<const std::byte> bytes);

// Writes the file under a temporary name, reads it back, compares, and then gives it its name; so
// it is whole or not there, and several processes may try at once (all but one get kIo). Needs
// memory for the header and a piece of 8 MiB. kOutOfCapacity: the disk is too small, with both
// numbers. Returns the file's size.
Result<std::uint64_t> write_cache_file(const std::string& path, std::string_view key,
                                       std::span<const std::span<const std::byte>> sections,
                                       ThreadTeam& team, const CacheProgress& progress = {});

}  // namespace tg
