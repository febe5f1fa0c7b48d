// What: a large file that appears complete under its name or not at all: written under a hidden
//   temporary name in the same directory, made durable, then renamed.
// Who owns: move-only; what was not committed is removed with the object. A second process that
//   writes the same file at the same time is refused. Thread: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace tg {

class OutputFile {
 public:
  // Starts an empty file that will be `path`; what a killed process left under the temporary name
  // is written over. kIo with the system's reason.
  static Result<OutputFile> create(const std::string& path);
  // DIRECTORY/.NAME.part of DIRECTORY/NAME.
  static std::string temporary_name(const std::string& path);

  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;

  // At the end. kIo (disk full, file too large, ...) says how many bytes the file had by then.
  Status append(std::span<const std::byte> bytes);
  Status append(std::string_view text) { return append(std::as_bytes(std::span(text))); }
  // Over bytes that were written before.
  Status overwrite(std::uint64_t offset, std::string_view text);
  std::uint64_t size() const { return size_; }

  // Bytes and name are on the disk when this returns. Replaces what had the name before.
  Status commit();

 private:
  OutputFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  Status write_at(std::uint64_t offset, std::span<const std::byte> bytes);

  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

// kOutOfCapacity with both numbers when the file system of `place` (a file or directory, there or
// to come) has less free than `bytes` in `files` files need. What the files `replaced` take now
// counts as free: what a killed process left is written over.
Status check_free_space(const std::string& place, std::uint64_t bytes,
                        std::span<const std::string> replaced, std::size_t files = 1);

}  // namespace tg
