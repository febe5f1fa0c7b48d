#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tensor/aligned_buffer.h"
#include "tensor/dtype.h"

namespace tg {
namespace {

TEST(AlignedBuffer, IsZeroAndAligned) {
  for (const std::size_t bytes :
       {std::size_t{1}, std::size_t{4095}, std::size_t{4097}, std::size_t{3} << 20}) {
    auto buffer = AlignedBuffer::allocate(bytes);
    ASSERT_TRUE(buffer);
    EXPECT_EQ(buffer->size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % 64, 0U);
    EXPECT_TRUE(std::all_of(buffer->data(), buffer->data() + bytes,
                            [](std::byte b) { return b == std::byte{0}; }));
    std::fill(buffer->data(), buffer->data() + bytes, std::byte{0xff});
  }
}

// Of this process, in bytes.
std::int64_t anonymous_memory() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("RssAnon:")) return std::atoll(line.c_str() + 8) * 1024;
  }
  return -1;
}

// Matrices end anywhere in a large page; what is behind their ends is not to be held.
TEST(AlignedBuffer, ALastLargePageIsNotHeldForALittle) {
  constexpr std::size_t kSize = (std::size_t{2} << 20) + (std::size_t{64} << 10);
  constexpr std::int64_t kCount = 64;
  const std::int64_t before = anonymous_memory();
  ASSERT_GT(before, 0);
  std::vector<AlignedBuffer> buffers;
  for (std::int64_t i = 0; i < kCount; ++i) {
    auto buffer = AlignedBuffer::allocate(kSize);
    ASSERT_TRUE(buffer);
    std::fill(buffer->data(), buffer->data() + kSize, std::byte{1});
    buffers.push_back(std::move(*buffer));
  }
  const auto held = static_cast<std::int64_t>(kCount * kSize);
  EXPECT_GE(anonymous_memory() - before, held);
  EXPECT_LE(anonymous_memory() - before, held * 11 / 10);
}

TEST(AlignedBuffer, NothingIsAnEmptyBuffer) {
  auto buffer = AlignedBuffer::allocate(0);
  ASSERT_TRUE(buffer);
  EXPECT_EQ(buffer->size(), 0U);
  EXPECT_EQ(buffer->data(), nullptr);
}

TEST(AlignedBuffer, MovesKeepTheMemory) {
  auto made = AlignedBuffer::allocate(100);
  ASSERT_TRUE(made);
  std::byte* memory = made->data();
  memory[7] = std::byte{42};
  AlignedBuffer first = std::move(*made);
  EXPECT_EQ(first.data(), memory);
  EXPECT_EQ(made->data(), nullptr);
  AlignedBuffer second;
  second = std::move(first);
  EXPECT_EQ(second.data(), memory);
  EXPECT_EQ(second.data()[7], std::byte{42});
  EXPECT_EQ(second.size(), 100U);
}

TEST(AlignedBuffer, MoreThanTheAddressSpaceIsAnError) {
  const auto buffer = AlignedBuffer::allocate(std::size_t{1} << 60);
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ErrorCode::kOutOfCapacity);
  EXPECT_NE(buffer.error().message.find("1152921504606846976"), std::string::npos);
}

// Bytes per block as the GGUF format defines them: scales and minima in f16, packed values.
TEST(DType, BlockSizes) {
  EXPECT_EQ(block_size(DType::kBf16).bytes, 2);
  EXPECT_EQ(block_size(DType::kQ8_0).bytes, 2 + 32);
  EXPECT_EQ(block_size(DType::kQ4_0).bytes, 2 + 32 / 2);
  EXPECT_EQ(block_size(DType::kQ4_1).bytes, 2 + 2 + 32 / 2);
  EXPECT_EQ(block_size(DType::kQ5_0).bytes, 2 + 32 / 8 + 32 / 2);
  EXPECT_EQ(block_size(DType::kQ5_1).bytes, 2 + 2 + 32 / 8 + 32 / 2);
  EXPECT_EQ(block_size(DType::kQ4K).bytes, 2 + 2 + 12 + 256 / 2);
  EXPECT_EQ(block_size(DType::kQ5K).bytes, 2 + 2 + 12 + 256 / 8 + 256 / 2);
  EXPECT_EQ(block_size(DType::kQ6K).bytes, 256 / 2 + 256 / 4 + 16 + 2);
  for (const DType t : {DType::kQ4K, DType::kQ5K, DType::kQ6K})
    EXPECT_EQ(block_size(t).values, 256);
  for (const DType t : {DType::kQ8_0, DType::kQ4_0, DType::kQ5_1})
    EXPECT_EQ(block_size(t).values, 32);
}

}  // namespace
}  // namespace tg
