// What: a whole file mapped read-only, or (for a program that must not see a file shrink) nothing.
// Who owns: move-only; bytes() lives as long as the object. Thread: reading from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace tg {

class MappedFile {
 public:
  // kNotFound / kIo with the path as place. An empty file gives an empty span; a directory is kIo.
  static Result<MappedFile> open(const std::string& path);

  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  // Tells the kernel that all of it will be read again and again: large pages where the file system
  // has them, and what is not in memory yet is read ahead.
  void expect_use() const;

  // Brings [offset, offset + length) into memory and into this process's page tables now, which
  // costs less in one go than page by page at the first use. Only for speed: nothing can fail.
  void populate(std::size_t offset, std::size_t length) const;

  // Tells the kernel that [offset, offset+length) was used and need not stay in memory: what keeps
  // the peak of loading near the size of the packed weights.
  void drop(std::size_t offset, std::size_t length) const;

 private:
  std::string path_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace tg
