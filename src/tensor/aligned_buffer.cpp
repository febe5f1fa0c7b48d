#include "tensor/aligned_buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace tg {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// What to back by large pages: a last one that is less than half full would cost more memory than
// it saves time. (A model has hundreds of matrices.)
std::size_t in_huge_pages(std::size_t bytes) {
  const std::size_t whole = bytes / kHugePage * kHugePage;
  return bytes - whole >= kHugePage / 2 ? whole + kHugePage : whole;
}

}  // namespace

Result<AlignedBuffer> AlignedBuffer::allocate(std::size_t bytes) {
  AlignedBuffer buffer;
  if (bytes == 0) return buffer;
  const std::size_t unit = bytes >= kHugePage ? kHugePage : 4096;
  buffer.mapped_ = (bytes + unit - 1) / unit * unit;
  void* p =
      ::mmap(nullptr, buffer.mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    const int e = errno;
    buffer.mapped_ = 0;
    return error(ErrorCode::kOutOfCapacity, "the system refuses {} bytes of memory: {}", bytes,
                 std::strerror(e));
  }
  // Advice only: without transparent huge pages this does nothing and everything still works.
  if (unit == kHugePage) {
    const std::size_t huge = in_huge_pages(bytes);
    ::madvise(p, huge, MADV_HUGEPAGE);
    if (huge < buffer.mapped_) {
      ::madvise(static_cast<std::byte*>(p) + huge, buffer.mapped_ - huge, MADV_NOHUGEPAGE);
    }
  }
  buffer.data_ = static_cast<std::byte*>(p);
  buffer.size_ = bytes;
  return buffer;
}

AlignedBuffer AlignedBuffer::over(std::span<const std::byte> bytes) {
  AlignedBuffer buffer;
  buffer.data_ = const_cast<std::byte*>(bytes.data());  // data() gives it out as const only
  buffer.size_ = bytes.size();
  return buffer;
}

AlignedBuffer::~AlignedBuffer() {
  if (mapped_ > 0) ::munmap(data_, mapped_);
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace tg
