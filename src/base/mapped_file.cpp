#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace tg {

Result<MappedFile> MappedFile::open(const std::string& path) {
  // Not blocking: a pipe without a writer would hold the open itself.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int e = errno;
    return at_place(
        Error{e == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
              e == ENOENT ? "no such file" : fmt::format("cannot open: {}", std::strerror(e)),
              {}},
        path);
  }
  struct stat st{};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd);
    return at_place(Error{ErrorCode::kIo, "not a regular file", {}}, path);
  }
  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<std::size_t>(st.st_size);
  if (file.size_ > 0) {
    void* p = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      const int e = errno;
      ::close(fd);
      file.size_ = 0;
      return at_place(Error{ErrorCode::kIo,
                            fmt::format("cannot map {} bytes: {}", st.st_size, std::strerror(e)),
                            {}},
                      path);
    }
    file.data_ = static_cast<std::byte*>(p);
  }
  ::close(fd);
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::expect_use() const {
  if (data_ == nullptr) return;
  ::madvise(data_, size_, MADV_HUGEPAGE);
  ::madvise(data_, size_, MADV_WILLNEED);
}

void MappedFile::populate(std::size_t offset, std::size_t length) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (data_ == nullptr || offset >= size_) return;
  const std::size_t begin = offset / page * page;
  const std::size_t end = offset + length < size_ ? offset + length : size_;
#ifdef MADV_POPULATE_READ
  ::madvise(data_ + begin, end - begin, MADV_POPULATE_READ);
#endif
}

void MappedFile::drop(std::size_t offset, std::size_t length) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (data_ == nullptr || offset >= size_) return;
  const std::size_t begin = (offset + page - 1) / page * page;  // whole pages inside the range only
  const std::size_t end = (offset + length < size_ ? offset + length : size_) / page * page;
  if (begin < end) ::madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

}  // namespace tg
