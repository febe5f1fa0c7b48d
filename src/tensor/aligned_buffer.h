// What: zeroed memory on a cache-line (or huge-page) border, for weights, KV pages and arenas; or a
//   view of memory that is somebody else's, to be read only.
// Who owns: move-only; it owns what it allocated. Thread: no locking.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"

namespace tg {

class AlignedBuffer {
 public:
  // Anonymous memory, zero, 64-byte aligned at least; large ones ask for huge pages and take what
  // they get. kOutOfCapacity with the size when the system refuses.
  static Result<AlignedBuffer> allocate(std::size_t bytes);

  // Reads bytes that stay another's (a mapped file's) and must outlive the buffer.
  static AlignedBuffer over(std::span<const std::byte> bytes);

  AlignedBuffer() = default;
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;

  // To write to: of own memory only.
  std::byte* data() {
    TG_CHECK(mapped_ > 0 || data_ == nullptr);
    return data_;
  }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data());
  }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapped_ = 0;  // 0: not ours
};

}  // namespace tg
