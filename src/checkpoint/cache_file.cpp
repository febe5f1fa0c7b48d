#include "checkpoint/cache_file.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

#include "checkpoint/output_file.h"

namespace tg {
namespace {

constexpr std::string_view kMagic = "TGCACHE1";
constexpr std::uint64_t kAlignment = 4096;   // a section begins a page
constexpr std::uint64_t kPiece = 8U << 20U;  // bytes that a thread sums at a time

struct Prefix {
  char magic[8] = {};
  std::uint32_t checksum = 0;
  std::uint32_t zero = 0;
  std::uint64_t header_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t key_bytes = 0;
  std::uint64_t sections = 0;
};
static_assert(sizeof(Prefix) == 48 && sizeof(CacheFile::Section) == 24);
constexpr std::size_t kSummedFrom = offsetof(Prefix, zero);

std::uint64_t aligned(std::uint64_t offset) {
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

// The checksum of each section, by all threads: pieces are summed on their own and put together.
std::vector<std::uint32_t> checksums(std::span<const std::span<const std::byte>> sections,
                                     ThreadTeam& team, const CacheProgress& progress) {
  std::vector<std::span<const std::byte>> pieces;
  std::vector<std::size_t> first_piece;
  std::uint64_t total = 0;
  for (const auto section : sections) {
    first_piece.push_back(pieces.size());
    for (std::size_t at = 0; at < section.size(); at += kPiece) {
      pieces.push_back(section.subspan(at, std::min<std::size_t>(kPiece, section.size() - at)));
    }
    total += section.size();
  }
  first_piece.push_back(pieces.size());
  std::vector<std::uint32_t> sums(pieces.size());
  std::mutex mutex;  // guards done and progress
  std::uint64_t done = 0;
  team.for_pieces(
      static_cast<std::int64_t>(pieces.size()), 1, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
          sums[i] = checksum(pieces[i]);
          const std::lock_guard lock(mutex);
          done += pieces[i].size();
          if (progress) progress(done, total);
        }
      });
  std::vector<std::uint32_t> whole(sections.size());
  for (std::size_t s = 0; s < sections.size(); ++s) {
    for (std::size_t i = first_piece[s]; i < first_piece[s + 1]; ++i) {
      whole[s] = static_cast<std::uint32_t>(
          ::crc32_combine(whole[s], sums[i], static_cast<z_off_t>(pieces[i].size())));
    }
  }
  return whole;
}

std::string header_of(std::string_view key, std::span<const CacheFile::Section> table) {
  Prefix prefix;
  std::copy(kMagic.begin(), kMagic.end(), prefix.magic);
  prefix.header_bytes = sizeof(Prefix) + table.size_bytes() + key.size();
  prefix.file_bytes =
      table.empty() ? prefix.header_bytes : table.back().offset + table.back().bytes;
  prefix.key_bytes = key.size();
  prefix.sections = table.size();
  std::string header(reinterpret_cast<const char*>(&prefix), sizeof(prefix));
  header.append(reinterpret_cast<const char*>(table.data()), table.size_bytes());
  header += key;
  prefix.checksum = checksum(std::as_bytes(std::span(header)).subspan(kSummedFrom));
  std::memcpy(header.data(), &prefix, sizeof(prefix));
  return header;
}

// Writes in whole pieces that begin at a multiple of their size, over the borders of sections: what
// is written at once the system can keep in its largest pages, which is how it is then mapped.
class Pieces {
 public:
  explicit Pieces(OutputFile& file) : file_(file) { waiting_.reserve(kPiece); }

  std::uint64_t size() const { return file_.size() + waiting_.size(); }

  Status append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto some = bytes.first(std::min<std::size_t>(kPiece - waiting_.size(), bytes.size()));
      waiting_.insert(waiting_.end(), some.begin(), some.end());
      bytes = bytes.subspan(some.size());
      if (waiting_.size() == kPiece) TG_RETURN_IF_ERROR(flush());
    }
    return {};
  }

  Status flush() {
    TG_RETURN_IF_ERROR(file_.append(waiting_));
    waiting_.clear();
    return {};
  }

 private:
  OutputFile& file_;
  std::vector<std::byte> waiting_;
};

tl::unexpected<Error> damaged(const std::string& path, std::string what) {
  return at_place(Error{ErrorCode::kBadInput, std::move(what), {}}, path);
}

}  // namespace

std::uint32_t checksum(std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(
      ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

Result<CacheFile> CacheFile::open(const std::string& path, std::string_view key) {
  CacheFile cache;
  TG_ASSIGN(cache.file_, MappedFile::open(path));
  const std::span<const std::byte> bytes = cache.file_.bytes();
  Prefix prefix;
  if (bytes.size() < sizeof(prefix) ||
      std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return damaged(path, "not a cache file of this version");
  }
  std::memcpy(&prefix, bytes.data(), sizeof(prefix));
  if (prefix.file_bytes != bytes.size()) {
    return damaged(path, fmt::format("has {} bytes of {}", bytes.size(), prefix.file_bytes));
  }
  if (prefix.header_bytes > bytes.size() || prefix.header_bytes < sizeof(prefix) ||
      checksum(bytes.subspan(kSummedFrom, prefix.header_bytes - kSummedFrom)) != prefix.checksum) {
    return damaged(path, "its header is damaged");
  }
  // The checksum is no proof that a program wrote it: nothing is read outside of the file.
  const std::uint64_t rest = prefix.header_bytes - sizeof(prefix);
  if (prefix.sections > rest / sizeof(Section) ||
      prefix.key_bytes != rest - prefix.sections * sizeof(Section)) {
    return damaged(path, fmt::format("a header of {} bytes cannot hold {} sections and a key of {}",
                                     prefix.header_bytes, prefix.sections, prefix.key_bytes));
  }
  cache.sections_.resize(prefix.sections);
  if (prefix.sections > 0) {
    std::memcpy(cache.sections_.data(), bytes.data() + sizeof(prefix),
                prefix.sections * sizeof(Section));
  }
  for (const Section& s : cache.sections_) {
    if (s.offset % kAlignment != 0 || s.offset > bytes.size() ||
        s.bytes > bytes.size() - s.offset) {
      return damaged(
          path, fmt::format("a section of {} bytes at {} of {}", s.bytes, s.offset, bytes.size()));
    }
  }
  const std::string_view there(
      reinterpret_cast<const char*>(bytes.data()) + (prefix.header_bytes - prefix.key_bytes),
      prefix.key_bytes);
  if (there != key) return damaged(path, "made for something else, or for a file that was changed");
  return cache;
}

Status CacheFile::verify(ThreadTeam& team, const CacheProgress& progress) const {
  std::vector<std::span<const std::byte>> all;
  all.reserve(sections());
  for (std::size_t i = 0; i < sections(); ++i) all.push_back(section(i));
  const std::vector<std::uint32_t> sums = checksums(all, team, progress);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (sums[i] == sections_[i].checksum) continue;
    return damaged(file_.path(),
                   fmt::format("section {} of {} ({} bytes at {}) has CRC-32 {:08x}, not {:08x}", i,
                               sums.size(), sections_[i].bytes, sections_[i].offset, sums[i],
                               sections_[i].checksum));
  }
  return {};
}

Result<std::uint64_t> write_cache_file(const std::string& path, std::string_view key,
                                       std::span<const std::span<const std::byte>> sections,
                                       ThreadTeam& team, const CacheProgress& progress) {
  std::vector<CacheFile::Section> table(sections.size());
  std::uint64_t at = sizeof(Prefix) + sections.size() * sizeof(CacheFile::Section) + key.size();
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < sections.size(); ++i) {
    table[i] = {aligned(at), sections[i].size(), 0, 0};
    at = table[i].offset + table[i].bytes;
    total += sections[i].size();
  }
  const std::string temporary = OutputFile::temporary_name(path);
  TG_RETURN_IF_ERROR(check_free_space(path, at, {&temporary, 1}));
  TG_ASSIGN(OutputFile file, OutputFile::create(path));

  // Summing, writing and reading back each go over all bytes once.
  const auto part = [&progress, total](std::uint64_t before) {
    return [&progress, total, before](std::uint64_t done, std::uint64_t) {
      if (progress) progress(before * total + done, 3 * total);
    };
  };
  const std::vector<std::uint32_t> sums = checksums(sections, team, part(0));
  for (std::size_t i = 0; i < sums.size(); ++i) table[i].checksum = sums[i];
  Pieces pieces(file);
  const std::string header = header_of(key, table);
  TG_RETURN_IF_ERROR(pieces.append(std::as_bytes(std::span(header))));
  std::uint64_t done = 0;
  for (std::size_t i = 0; i < sections.size(); ++i) {
    const std::string padding(table[i].offset - pieces.size(), '\0');
    TG_RETURN_IF_ERROR(pieces.append(std::as_bytes(std::span(padding))));
    for (std::size_t begin = 0; begin < sections[i].size(); begin += kPiece) {
      const auto some =
          sections[i].subspan(begin, std::min<std::size_t>(kPiece, sections[i].size() - begin));
      TG_RETURN_IF_ERROR(pieces.append(some));
      done += some.size();
      part(1)(done, total);
    }
  }
  TG_RETURN_IF_ERROR(pieces.flush());
  {
    TG_ASSIGN(const CacheFile written, CacheFile::open(temporary, key));
    TG_RETURN_IF_ERROR(written.verify(team, part(2)));
  }
  TG_RETURN_IF_ERROR(file.commit());
  return at;
}

}  // namespace tg
