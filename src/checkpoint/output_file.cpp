#include "checkpoint/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

namespace tg {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> io_error(const std::string& path, std::string_view what, int reason) {
  return at_place(Error{ErrorCode::kIo, fmt::format("{}: {}", what, std::strerror(reason)), {}},
                  path);
}

// Whether `path` is still the file that `fd` is: another process may have renamed it meanwhile.
bool is_same_file(int fd, const std::string& path) {
  struct stat open_file{};
  struct stat named{};
  return ::fstat(fd, &open_file) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         open_file.st_ino == named.st_ino && open_file.st_dev == named.st_dev;
}

// A rename is durable once its directory is.
Status sync_directory(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  const std::string directory = parent.empty() ? "." : parent.string();
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return io_error(directory, "cannot be opened", errno);
  const int reason = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  // Some network file systems do not sync directories; there a rename is as durable as it gets.
  if (reason != 0 && reason != EINVAL) return io_error(directory, "cannot be synced", reason);
  return {};
}

}  // namespace

std::string OutputFile::temporary_name(const std::string& path) {
  const fs::path p(path);
  return (p.parent_path() / ("." + p.filename().string() + ".part")).string();
}

Result<OutputFile> OutputFile::create(const std::string& path) {
  const std::string part = temporary_name(path);
  const int fd = ::open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) return io_error(path, "cannot be created", errno);
  // Locked before it is emptied: it may be another process's, at work on it right now. (A file
  // system without locks says so with another reason.)
  const bool locked = ::flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
  if (!locked || !is_same_file(fd, part)) {
    ::close(fd);
    return at_place(Error{ErrorCode::kIo, "another process is writing this file", {}}, path);
  }
  OutputFile file(path, fd);
  if (::ftruncate(fd, 0) != 0) return io_error(path, "cannot be emptied", errno);
  return file;
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::unlink(temporary_name(path_).c_str());
  ::close(fd_);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

Status OutputFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return io_error(path_, fmt::format("cannot be written after {} bytes", offset),
                      n < 0 ? errno : ENOSPC);
    }
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Status OutputFile::append(std::span<const std::byte> bytes) {
  TG_RETURN_IF_ERROR(write_at(size_, bytes));
  size_ += bytes.size();
  return {};
}

Status OutputFile::overwrite(std::uint64_t offset, std::string_view text) {
  TG_CHECK(offset + text.size() <= size_);
  return write_at(offset, std::as_bytes(std::span(text)));
}

Status OutputFile::commit() {
  const std::string part = temporary_name(path_);
  if (::fsync(fd_) != 0) return io_error(path_, "cannot be synced", errno);
  if (std::rename(part.c_str(), path_.c_str()) != 0) {
    return io_error(path_, "cannot get its name", errno);
  }
  // From here on the file is whole and stays, whatever close says: its bytes are on the disk.
  ::close(std::exchange(fd_, -1));
  return sync_directory(path_);
}

Status check_free_space(const std::string& place, std::uint64_t bytes,
                        std::span<const std::string> replaced, std::size_t files) {
  // What is not there yet will be where the closest folder that is there lies.
  std::error_code ignored;
  fs::path there = fs::absolute(place, ignored);
  while (!fs::exists(there, ignored) && there.has_relative_path()) there = there.parent_path();
  struct statvfs disk{};
  if (::statvfs(there.c_str(), &disk) != 0) {
    return io_error(place, "free space cannot be asked for", errno);
  }
  std::uint64_t free_bytes = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  for (const std::string& path : replaced) {
    struct stat part{};
    if (::stat(path.c_str(), &part) == 0) {
      free_bytes += static_cast<std::uint64_t>(part.st_blocks) * 512;
    }
  }
  const std::uint64_t needed = bytes + files * disk.f_frsize;  // last blocks are not full
  if (needed <= free_bytes) return {};
  return at_place(
      Error{ErrorCode::kOutOfCapacity,
            fmt::format("{} files need {} bytes ({:.1f} MiB), the disk has {} free ({:.1f} MiB)",
                        files, needed, static_cast<double>(needed) / 0x1p20, free_bytes,
                        static_cast<double>(free_bytes) / 0x1p20),
            {}},
      place);
}

}  // namespace tg
