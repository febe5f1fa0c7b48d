#include "checkpoint/checkpoint_identity.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <vector>

namespace tg {
namespace {

// Headers of safetensors and GGUF begin the file, the directory of a zip ends it. The blocks
// between are for a file that was written over with its old time restored: a fine-tune changes all
// of its tensors. 32 reads of a cold disk take milliseconds.
constexpr std::int64_t kEnds = 64 * 1024;
constexpr std::int64_t kBlock = 4096;
constexpr std::int64_t kBlocks = 32;

class OpenFile {
 public:
  explicit OpenFile(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~OpenFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  Result<std::string> identity() {
    struct stat st{};
    if (fd_ < 0 || ::fstat(fd_, &st) != 0) return failure();
    const std::int64_t size = st.st_size;
    TG_RETURN_IF_ERROR(add(0, std::min(kEnds, size)));
    TG_RETURN_IF_ERROR(add(std::max<std::int64_t>(0, size - kEnds), std::min(kEnds, size)));
    for (std::int64_t i = 1; i <= kBlocks && size > 2 * kEnds; ++i) {
      const std::int64_t at = size / (kBlocks + 1) * i / kBlock * kBlock;
      TG_RETURN_IF_ERROR(add(at, std::min(kBlock, size - at)));
    }
    return fmt::format("file {} of {} bytes, changed {}.{:09}, samples {:08x}\n",
                       std::filesystem::path(path_).filename().string(), size, st.st_mtim.tv_sec,
                       st.st_mtim.tv_nsec, sum_);
  }

 private:
  tl::unexpected<Error> failure() const {
    const int e = errno;
    return at_place(Error{e == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                          fmt::format("cannot be read: {}", std::strerror(e)),
                          {}},
                    path_);
  }

  Status add(std::int64_t offset, std::int64_t count) {
    bytes_.resize(static_cast<std::size_t>(count));
    for (std::int64_t done = 0; done < count;) {
      const ssize_t n =
          ::pread(fd_, bytes_.data() + done, static_cast<std::size_t>(count - done), offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failure();
      if (n == 0) {
        return at_place(Error{ErrorCode::kIo, "became shorter while it was read", {}}, path_);
      }
      done += n;
    }
    sum_ = static_cast<std::uint32_t>(::crc32(sum_, bytes_.data(), static_cast<uInt>(count)));
    return {};
  }

  const std::string& path_;
  int fd_;
  std::uint32_t sum_ = 0;
  std::vector<Bytef> bytes_;
};

}  // namespace

Result<std::string> checkpoint_identity(std::span<const std::string> files) {
  std::string text;
  for (const std::string& path : files) {
    TG_ASSIGN(const std::string line, OpenFile(path).identity());
    text += line;
  }
  return text;
}

}  // namespace tg
