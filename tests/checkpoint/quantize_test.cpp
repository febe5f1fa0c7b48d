// quantize(): codes and scales against values worked out by hand, and what dequantize() makes of
// them.
#include "checkpoint/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/bf16.h"
#include "checkpoint/dequantize.h"

namespace tg {
namespace {

std::vector<std::uint8_t> quantized(DType dtype, const std::vector<float>& values) {
  const BlockSize size = block_size(dtype);
  std::vector<std::byte> blocks(values.size() / static_cast<std::size_t>(size.values) *
                                static_cast<std::size_t>(size.bytes));
  quantize(dtype, values, blocks);
  std::vector<std::uint8_t> out;
  out.reserve(blocks.size());
  for (const std::byte b : blocks) out.push_back(std::to_integer<std::uint8_t>(b));
  return out;
}

std::uint16_t scale_bits(const std::vector<std::uint8_t>& block) {
  return static_cast<std::uint16_t>(block[0] | (block[1] << 8));
}

// 32 values that are 0 but for the given first ones.
std::vector<float> group(std::initializer_list<float> first) {
  std::vector<float> values(first);
  values.resize(32);
  return values;
}

TEST(Quantize, Q8CodesByHand) {
  // Largest magnitude 254: d = 2, exactly; halves go away from zero.
  const auto block =
      quantized(DType::kQ8_0, group({254, -254, 1, -1, 2, 3, -3, 0.99F, -0.99F, 100}));
  EXPECT_EQ(scale_bits(block), 0x4000);  // 2.0
  const std::array<int, 10> codes = {127, -127, 1, -1, 1, 2, -2, 0, 0, 50};
  for (std::size_t i = 0; i < codes.size(); ++i) {
    EXPECT_EQ(static_cast<std::int8_t>(block[2 + i]), codes[i]) << i;
  }
  for (std::size_t i = codes.size(); i < 32; ++i) EXPECT_EQ(block[2 + i], 0) << i;
}

TEST(Quantize, Q4CodesByHand) {
  // The value of largest magnitude is -16: d = 2. Codes are x / 2 + 8.5, cut.
  const auto block = quantized(
      DType::kQ4_0, group({-16, 14, 15, 0.99F, 1, -1, -1.01F, 2, 0, 0, 0, 0, 0, 0, 0, 0, 16, -14}));
  EXPECT_EQ(scale_bits(block), 0x4000);
  const std::array<int, 9> low = {0, 15, 15, 8, 9, 8, 7, 9, 8};  // 15: 16 is not there
  for (std::size_t i = 0; i < low.size(); ++i) EXPECT_EQ(block[2 + i] & 15, low[i]) << i;
  EXPECT_EQ(block[2] >> 4, 15);  // 16 / 2 + 8.5 = 16.5, cut to 15
  EXPECT_EQ(block[3] >> 4, 1);
  EXPECT_EQ(block[4] >> 4, 8);
}

TEST(Quantize, TheFirstOfEqualMagnitudesGivesTheSign) {
  EXPECT_EQ(scale_bits(quantized(DType::kQ4_0, group({8, -8}))), 0xbc00);  // -1
  EXPECT_EQ(scale_bits(quantized(DType::kQ4_0, group({-8, 8}))), 0x3c00);  // 1
}

TEST(Quantize, ScalesAreRoundedToNearestEvenHalves) {
  const auto scale = [](float largest) {
    return scale_bits(quantized(DType::kQ4_0, group({-8.0F * largest})));
  };
  EXPECT_EQ(scale(1.0F), 0x3c00);
  EXPECT_EQ(scale(1.0F + 0x1p-11F), 0x3c00);      // a tie, down to even
  EXPECT_EQ(scale(1.0F + 3 * 0x1p-11F), 0x3c02);  // a tie, up to even
  EXPECT_EQ(scale(1.0F + 0x1.8p-11F), 0x3c01);    // above the tie
  EXPECT_EQ(scale(2.0F - 0x1p-12F), 0x4000);      // into the next power of two
  EXPECT_EQ(scale(0x1p-14F), 0x0400);             // the smallest normal number
  EXPECT_EQ(scale(0x1p-24F), 0x0001);             // the smallest of all
  EXPECT_EQ(scale(0x1p-25F), 0x0000);             // a tie, down to even
  EXPECT_EQ(scale(0x1.8p-24F), 0x0002);           // a tie, up to even
  EXPECT_EQ(scale(0x1p-14F - 0x1p-25F), 0x0400);  // from below into the normal numbers
  EXPECT_EQ(scale(65504.0F), 0x7bff);             // the largest
  EXPECT_EQ(scale(65519.0F), 0x7bff);
}

TEST(Quantize, ZerosAndTinyGroups) {
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_0}) {
    const auto zeros = quantized(dtype, group({}));
    // 0 / -8 is minus zero, there and here.
    EXPECT_EQ(scale_bits(zeros), dtype == DType::kQ8_0 ? 0x0000 : 0x8000) << name(dtype);
    EXPECT_EQ(zeros[2], dtype == DType::kQ8_0 ? 0x00 : 0x88) << name(dtype);
    const auto tiny = quantized(dtype, group({1e-44F, -1e-44F}));  // 1 / d would be infinite
    EXPECT_EQ(scale_bits(tiny) & 0x7fff, 0) << name(dtype);
    EXPECT_EQ(std::vector(tiny.begin() + 2, tiny.end()),
              std::vector(zeros.begin() + 2, zeros.end()))
        << name(dtype);
  }
}

TEST(Quantize, PlainTypes) {
  EXPECT_EQ(quantized(DType::kBf16, {1.0F, 1.00390625F, -2.5F}),
            (std::vector<std::uint8_t>{0x80, 0x3f, 0x80, 0x3f, 0x20, 0xc0}));
  EXPECT_EQ(quantized(DType::kF32, {1.0F}), (std::vector<std::uint8_t>{0, 0, 0x80, 0x3f}));
}

// Numbers of no pattern, in groups of very different size.
std::vector<float> odd_values(std::size_t count) {
  std::vector<float> values(count);
  std::uint32_t state = 1;
  for (std::size_t i = 0; i < count; ++i) {
    state = state * 1664525U + 1013904223U;
    values[i] = (static_cast<float>(state >> 8) * 0x1p-23F - 1.0F) *
                std::ldexp(1.0F, static_cast<int>(i / 32 % 16) - 10);
  }
  return values;
}

TEST(Quantize, WhatComesBackIsHalfAStepAwayAtMost) {
  const std::vector<float> values = odd_values(32 * 64);
  for (const auto& [dtype, steps] : {std::pair(DType::kQ8_0, 127), std::pair(DType::kQ4_0, 8)}) {
    std::vector<std::byte> blocks(values.size() / 32 *
                                  static_cast<std::size_t>(block_size(dtype).bytes));
    quantize(dtype, values, blocks);
    std::vector<float> back(values.size());
    dequantize(dtype, blocks, back);
    double error = 0.0;
    for (std::size_t g = 0; g < values.size(); g += 32) {
      float largest = 0.0F;
      for (std::size_t i = g; i < g + 32; ++i) largest = std::max(largest, std::fabs(values[i]));
      const float d = largest / static_cast<float>(steps);
      for (std::size_t i = g; i < g + 32; ++i) {
        // Q4_0 has no code for +8 steps: there it is one whole step. And d is rounded to 11 bits,
        // or to 2^-24.
        const float allowed = (dtype == DType::kQ4_0 ? 1.0F : 0.5F) * d + largest * 0x1p-11F +
                              static_cast<float>(steps) * 0x1p-25F;
        ASSERT_LE(std::fabs(back[i] - values[i]), allowed) << name(dtype) << " " << i;
        error += static_cast<double>(std::fabs(back[i] - values[i]) / d);
      }
    }
    // A quarter of a step on average, as rounding errors have it.
    EXPECT_NEAR(error / static_cast<double>(values.size()), 0.25, 0.05) << name(dtype);
  }
}

// Every value comes back to within half a step of its group (a whole one where Q6_K has no code:
// the opposite of its largest), and of what rounding the scales adds.
TEST(Quantize, KBlocksComeBackNearly) {
  std::uint32_t state = 1;
  std::vector<float> values(256 * 64);
  for (std::size_t i = 0; i < values.size(); ++i) {
    state = state * 1664525 + 1013904223;  // Knuth's constants
    const float unit = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
    // Some groups are all positive, some all negative, and their sizes differ.
    values[i] =
        unit * (1.0F + static_cast<float>(i / 32 % 5)) + static_cast<float>(i / 32 % 3) - 1.0F;
  }
  for (const DType dtype : {DType::kQ4K, DType::kQ6K}) {
    const bool four = dtype == DType::kQ4K;
    const std::size_t size = four ? 32 : 16;
    std::vector<std::byte> blocks(64 * static_cast<std::size_t>(block_size(dtype).bytes));
    quantize(dtype, values, blocks);
    std::vector<float> back(values.size());
    dequantize(dtype, blocks, back);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto first = values.begin() + static_cast<std::ptrdiff_t>(i / size * size);
      const auto [least, largest] =
          std::minmax_element(first, first + static_cast<std::ptrdiff_t>(size));
      const float magnitude = std::max(std::abs(*least), std::abs(*largest));
      const float step =
          four ? (std::max(0.0F, *largest) - std::min(0.0F, *least)) / 15.0F : magnitude / 31.0F;
      // A scale is off by half of 1/63 (1/127) of the block's largest, which is 6 here.
      const float scales = four ? 15.0F * 0.4F / 126.0F + 6.0F / 126.0F : 32.0F * 0.2F / 254.0F;
      ASSERT_NEAR(back[i], values[i], (four ? 0.51F : 1.02F) * step + 1.1F * scales)
          << name(dtype) << " " << i;
    }
    const std::vector<float> zeros(256, 0.0F);
    quantize(dtype, zeros,
             std::span(blocks).first(static_cast<std::size_t>(block_size(dtype).bytes)));
    dequantize(dtype, std::span(blocks).first(static_cast<std::size_t>(block_size(dtype).bytes)),
               std::span(back).first(256));
    for (std::size_t i = 0; i < 256; ++i) ASSERT_EQ(back[i], 0.0F);
  }
}

}  // namespace
}  // namespace tg
