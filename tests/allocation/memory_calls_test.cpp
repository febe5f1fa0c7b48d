// The counting itself, and that it sees what it should.
#include "allocation/memory_calls.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "base/thread_team.h"
#include "tensor/aligned_buffer.h"

namespace {

std::atomic<bool> counting = false;
std::atomic<std::int64_t> calls = 0;

void count() {
  if (counting.load(std::memory_order_relaxed)) calls.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

// The linker sends calls of NAME here and those of __real_NAME to the library (--wrap).
extern "C" {
void* __real_malloc(std::size_t bytes);
void* __real_calloc(std::size_t count, std::size_t bytes);
void* __real_realloc(void* old, std::size_t bytes);
void* __real_aligned_alloc(std::size_t alignment, std::size_t bytes);
int __real_posix_memalign(void** out, std::size_t alignment, std::size_t bytes);
void* __real_mmap(void* at, std::size_t bytes, int protection, int flags, int file, long offset);

void* __wrap_malloc(std::size_t bytes) {
  count();
  return __real_malloc(bytes);
}
void* __wrap_calloc(std::size_t number, std::size_t bytes) {
  count();
  return __real_calloc(number, bytes);
}
void* __wrap_realloc(void* old, std::size_t bytes) {
  count();
  return __real_realloc(old, bytes);
}
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t bytes) {
  count();
  return __real_aligned_alloc(alignment, bytes);
}
int __wrap_posix_memalign(void** out, std::size_t alignment, std::size_t bytes) {
  count();
  return __real_posix_memalign(out, alignment, bytes);
}
void* __wrap_mmap(void* at, std::size_t bytes, int protection, int flags, int file, long offset) {
  count();
  return __real_mmap(at, bytes, protection, flags, file, offset);
}
}

// The standard library's own operator new calls malloc where the linker does not see it.
// (Not inlined: the compiler would see free() of what it takes for another operator new.)
void* operator new(std::size_t bytes) {
  if (void* p = std::malloc(bytes == 0 ? 1 : bytes)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  const auto unit = static_cast<std::size_t>(alignment);
  if (void* p = std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace tg {

std::int64_t test::memory_calls(const std::function<void()>& code) {
  calls = 0;
  counting = true;
  code();
  counting = false;
  return calls;
}

namespace {

TEST(MemoryCalls, AreCounted) {
  EXPECT_EQ(test::memory_calls([] {}), 0);
  std::unique_ptr<int> one;
  EXPECT_EQ(test::memory_calls([&] { one = std::make_unique<int>(1); }), 1);
  std::vector<int> several;
  EXPECT_EQ(test::memory_calls([&] { several.resize(1000); }), 1);
  EXPECT_EQ(test::memory_calls([&] { several.resize(10); }), 0);
  void* plain = nullptr;
  EXPECT_EQ(test::memory_calls([&] { plain = std::malloc(several.size()); }), 1);
  std::free(plain);
  EXPECT_EQ(test::memory_calls([] { EXPECT_TRUE(AlignedBuffer::allocate(100)); }), 1);
  // From other threads too.
  ThreadTeam team(2);
  std::array<std::vector<int>, 2> of_members;
  EXPECT_EQ(test::memory_calls([&] {
              team.run([&](int member) { of_members[static_cast<std::size_t>(member)].resize(9); });
            }),
            2);
}

}  // namespace
}  // namespace tg
