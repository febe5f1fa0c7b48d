// Products with integer weights: against the definition in double precision, bit-equal between all
// tables, and a row alone as in any company.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <utility>

#include "base/thread_team.h"
#include "kernel_inputs.h"
#include "tensor/block_codes.h"

namespace tg {
namespace {

// The memory of QuantizedRows, garbage first.
struct Quantized {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
  std::vector<std::int32_t> corrections;
  QuantizedRows rows;

  Quantized(const KernelTable& kernels, const Row& x, std::int64_t count, std::int64_t k) {
    rows.rows = count;
    rows.groups = (k + kGroup - 1) / kGroup;
    const auto n = static_cast<std::size_t>(rows.groups * count);
    codes.assign(n * kGroup, 77);
    scales.assign(n + 16, -3.0F);
    corrections.assign(n + 16, 12345);
    rows.codes = codes.data();
    rows.scales = scales.data();
    rows.corrections = corrections.data();
    for (std::int64_t r = 0; r < count; ++r) kernels.quantize(x.data(r * k), x.dtype, k, rows, r);
  }
};

PackedMatrix pack(std::int64_t n, std::int64_t k, WeightFormat format,
                  const std::vector<float>& values) {
  auto made = PackedMatrix::allocate(n, k, format);
  TG_CHECK(made);
  made->set_rows(0, n, values);
  return std::move(*made);
}

std::vector<float> product(const KernelTable& kernels, const PackedMatrix& w, const Quantized& x,
                           std::vector<std::int64_t> cuts = {}, bool add = false) {
  MatmulArgs args;
  args.m = x.rows.rows;
  args.w = w.view();
  args.quantized = x.rows;
  return whole_product(args, std::move(cuts), add, kernels.matmul_quantized);
}

Row rows_of(const Row& x, std::int64_t first, std::int64_t count, std::int64_t k) {
  const auto begin = x.f32.begin() + first * k;
  return {x.dtype, std::vector<float>(begin, begin + count * k)};
}

constexpr WeightFormat kIntegers[] = {WeightFormat::kInt8, WeightFormat::kInt4};

class QuantizedProduct : public EachTable {};

TEST_P(QuantizedProduct, AgreesWithDoublePrecision) {
  struct Shape {
    std::int64_t m, n, k;
  };
  for (const WeightFormat format : kIntegers) {
    for (const Shape s :
         {Shape{1, 32, 32}, Shape{1, 96, 64}, Shape{2, 33, 510}, Shape{3, 160, 1100},
          Shape{4, 31, 2050}, Shape{7, 64, 130}, Shape{13, 129, 96}, Shape{16, 40, 1056},
          Shape{33, 64, 2080}, Shape{121, 32, 66}, Shape{500, 70, 34}}) {
      const std::vector<float> values = Numbers(1).floats(s.n * s.k);
      const PackedMatrix w = pack(s.n, s.k, format, values);
      const Row x(ComputeDType::kBf16, Numbers(2).floats(s.m * s.k));
      const Quantized q(kernels(), x, s.m, s.k);
      std::vector<float> weights(static_cast<std::size_t>(s.n * s.k));
      for (std::int64_t j = 0; j < s.n; ++j) {
        kernels().embedding(w.view(), j, weights.data() + j * s.k);
      }
      for (const bool add : {false, true}) {
        const std::vector<float> y = product(kernels(), w, q, {}, add);
        for (std::int64_t i = 0; i < s.m; ++i) {
          for (std::int64_t j = 0; j < s.n; ++j) {
            double truth = 0.0;
            double size = 0.0;
            for (std::int64_t k = 0; k < s.k; ++k) {
              const std::int64_t at = k / kGroup * s.m + i;
              const double input = static_cast<double>(q.scales[static_cast<std::size_t>(at)]) *
                                   q.codes[static_cast<std::size_t>(at * kGroup + k % kGroup)];
              const double term = input * weights[static_cast<std::size_t>(j * s.k + k)];
              truth += term;
              size += std::abs(term);
            }
            ASSERT_NEAR(y[static_cast<std::size_t>(i * s.n + j)], truth + (add ? 0.5 : 0.0),
                        1e-6 * size + 1e-7)
                << name(format) << " " << s.m << " x " << s.n << " x " << s.k << " at " << i << ", "
                << j;
          }
        }
      }
    }
  }
}

// Integer sums are exact and what follows has one order: not only rows, tables agree to the bit.
TEST_P(QuantizedProduct, IsBitEqualToTheReference) {
  const KernelTable& reference = *available_kernels().back();
  ASSERT_EQ(reference.name, "reference");
  for (const WeightFormat format : kIntegers) {
    for (const std::int64_t k : {32, 576, 1100}) {
      constexpr std::int64_t kN = 32 * 5 + 7;
      const PackedMatrix w = pack(kN, k, format, Numbers(11).floats(kN * k, 3.0F));
      for (const ComputeDType dtype : {ComputeDType::kBf16, ComputeDType::kF32}) {
        for (const std::int64_t m : {1, 2, 5, 16, 23, 40}) {
          const Row x(dtype, Numbers(12).floats(m * k));
          const Quantized q(kernels(), x, m, k);
          const Quantized expected(reference, x, m, k);
          ASSERT_EQ(q.codes, expected.codes);
          ASSERT_TRUE(same_bits(q.scales, expected.scales));
          ASSERT_EQ(q.corrections, expected.corrections);
          ASSERT_TRUE(same_bits(product(kernels(), w, q), product(reference, w, expected)))
              << name(format) << ", " << m << " rows, k = " << k;
        }
      }
    }
  }
}

TEST_P(QuantizedProduct, ARowDoesNotShowItsCompany) {
  constexpr std::int64_t kRows = 40;
  constexpr std::int64_t kK = 2302;  // more than one visit of the groups
  constexpr std::int64_t kN = 32 * 9 + 7;
  for (const WeightFormat format : kIntegers) {
    const PackedMatrix w = pack(kN, kK, format, Numbers(13).floats(kN * kK));
    const Row x(ComputeDType::kBf16, Numbers(3).floats(kRows * kK));
    std::vector<std::vector<float>> alone;
    for (std::int64_t r = 0; r < kRows; ++r) {
      alone.push_back(product(kernels(), w, Quantized(kernels(), rows_of(x, r, 1, kK), 1, kK)));
    }
    for (const std::int64_t m : {2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 31, 32, 33, 40}) {
      const std::int64_t first = (kRows - m) / 2;
      const std::vector<float> y = product(
          kernels(), w, Quantized(kernels(), rows_of(x, first, m, kK), m, kK), {m % 9, m % 9 + 1});
      for (std::int64_t r = 0; r < m; ++r) {
        const std::span<const float> row(y.data() + r * kN, static_cast<std::size_t>(kN));
        ASSERT_TRUE(same_bits(row, alone[static_cast<std::size_t>(first + r)]))
            << "row " << r << " of " << m;
      }
    }
  }
}

TEST_P(QuantizedProduct, ARowDoesNotShowALongPrefill) {
  for (const WeightFormat format : kIntegers) {
    const PackedMatrix w = pack(64, 96, format, Numbers(14).floats(64 * 96));
    for (const std::int64_t m : {479, 480, 481, 1000}) {
      const Row x(ComputeDType::kBf16, Numbers(4).floats(m * 96));
      const std::vector<float> y = product(kernels(), w, Quantized(kernels(), x, m, 96));
      for (const std::int64_t r : {std::int64_t{0}, m / 3, m / 2, m - 1}) {
        const Quantized one(kernels(), rows_of(x, r, 1, 96), 1, 96);
        const std::span<const float> row(y.data() + r * 64, 64);
        ASSERT_TRUE(same_bits(row, product(kernels(), w, one))) << "row " << r << " of " << m;
      }
    }
  }
}

// The largest codes everywhere: sums of 16 and 32 bits that would overflow do so here.
TEST_P(QuantizedProduct, LargestCodesDoNotOverflow) {
  std::vector<float> values(32 * 64);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i / 64 % 2 == 0 ? -8.0F : 7.0F;
  for (const WeightFormat format : kIntegers) {
    const PackedMatrix w = pack(32, 64, format, values);
    for (const float input : {1.0F, -1.0F}) {
      const Row x(ComputeDType::kF32, std::vector<float>(64 * 5, input));
      const std::vector<float> y = product(kernels(), w, Quantized(kernels(), x, 5, 64));
      for (std::size_t i = 0; i < y.size(); ++i) {
        const double truth = 64.0 * input * (i % 2 == 0 ? -8.0 : 7.0);
        const double fifteenths = format == WeightFormat::kInt4 && i % 2 == 1 ? 64.0 * 1.01 : 0.1;
        ASSERT_NEAR(y[i], truth, fifteenths);
      }
    }
  }
}

// What has no number says so in its own row, and what is nearly nothing is nothing.
TEST_P(QuantizedProduct, NanInfinityAndTinyValues) {
  const PackedMatrix w = pack(64, 96, WeightFormat::kInt8, Numbers(15).floats(64 * 96));
  std::vector<float> values = Numbers(16).floats(5 * 96);
  const std::vector<float> clean =
      product(kernels(), w, Quantized(kernels(), Row(ComputeDType::kF32, values), 5, 96));
  values[96 + 40] = std::numeric_limits<float>::quiet_NaN();
  values[2 * 96 + 1] = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < 96; ++i) {
    values[3 * 96 + i] = i % 2 == 0 ? 0x1p-130F : -0x1p-101F;
  }
  const std::vector<float> y =
      product(kernels(), w, Quantized(kernels(), Row(ComputeDType::kF32, values), 5, 96));
  EXPECT_TRUE(same_bits(std::span(y).first(64), std::span(clean).first(64)));
  EXPECT_TRUE(same_bits(std::span(y).last(64), std::span(clean).last(64)));
  for (std::size_t j = 0; j < 64; ++j) {
    EXPECT_TRUE(std::isnan(y[64 + j]));
    EXPECT_TRUE(std::isnan(y[128 + j]));
    EXPECT_EQ(y[192 + j], 0.0F);
  }
}

TG_FOR_EACH_TABLE(QuantizedProduct);

// The codes and bytes of the definitions, worked out by hand.
TEST(BlockCodes, OfQ8AndQ4) {
  std::vector<float> values(32, 0.0F);
  values[0] = 127.0F;
  values[1] = -63.5F;  // a half rounds away from zero
  values[2] = 0.49F;
  values[31] = 1.0F;
  std::byte q8[kQ8Bytes];
  quantize_q8(values.data(), q8);
  EXPECT_EQ(half_to_float(static_cast<std::uint16_t>(std::to_integer<int>(q8[0]) |
                                                     std::to_integer<int>(q8[1]) << 8)),
            1.0F);
  EXPECT_EQ(static_cast<std::int8_t>(q8[2]), 127);
  EXPECT_EQ(static_cast<std::int8_t>(q8[3]), -64);
  EXPECT_EQ(static_cast<std::int8_t>(q8[4]), 0);
  EXPECT_EQ(static_cast<std::int8_t>(q8[33]), 1);

  values[0] = -8.0F;  // the largest magnitude is met exactly, as code 0
  values[1] = 7.0F;
  values[2] = 8.0F;  // beyond the largest code
  values[16] = 1.0F;
  values[31] = 0.0F;
  std::byte q4[kQ4Bytes];
  quantize_q4(values.data(), q4);
  EXPECT_EQ(half_to_float(static_cast<std::uint16_t>(std::to_integer<int>(q4[0]) |
                                                     std::to_integer<int>(q4[1]) << 8)),
            1.0F);
  EXPECT_EQ(std::to_integer<int>(q4[2]), 0 | 9 << 4);
  EXPECT_EQ(std::to_integer<int>(q4[3]), 15 | 8 << 4);
  EXPECT_EQ(std::to_integer<int>(q4[4]), 15 | 8 << 4);
  EXPECT_EQ(std::to_integer<int>(q4[17]), 8 | 8 << 4);
}

TEST(HalfFloats, RoundAsTheDefinitionSays) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {  // every one comes back
    const float v = half_to_float(static_cast<std::uint16_t>(h));
    if (std::isnan(v)) continue;
    ASSERT_EQ(float_to_half(v), h) << v;
    if ((h & 0x7fffU) >= 0x7bffU) continue;
    // Halfway to the next: to the even one of the two.
    const float next = half_to_float(static_cast<std::uint16_t>(h + 1));
    const float middle = v + (next - v) / 2.0F;
    ASSERT_EQ(float_to_half(middle), h % 2 == 0 ? h : h + 1) << middle;
    ASSERT_EQ(float_to_half(std::nextafter(middle, v)), h);
    ASSERT_EQ(float_to_half(std::nextafter(middle, next)), h + 1);
  }
  EXPECT_EQ(float_to_half(65519.0F), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0F), 0x7c00);
  EXPECT_EQ(float_to_half(-1e9F), 0xfc00);
  EXPECT_TRUE(std::isnan(half_to_float(float_to_half(std::numeric_limits<float>::quiet_NaN()))));
}

// Blocks as a file has them, with any scale and code.
class PackedBlocks : public ::testing::TestWithParam<WeightOrder> {};

TEST_P(PackedBlocks, AreTheBlocksValues) {
  constexpr std::int64_t kN = 70;
  constexpr std::int64_t kK = 96;
  const KernelTable& reference = *available_kernels().back();
  for (const WeightFormat format : kIntegers) {
    const std::int64_t bytes = format == WeightFormat::kInt8 ? kQ8Bytes : kQ4Bytes;
    Numbers numbers(17);
    std::vector<std::byte> blocks(static_cast<std::size_t>(kN * 3 * bytes));
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      blocks[i] = static_cast<std::byte>(numbers.below(256));
      if (static_cast<std::int64_t>(i) % bytes == 1) blocks[i] &= std::byte{0xbb};  // finite
    }
    auto w = PackedMatrix::allocate(kN, kK, format, GetParam());
    ASSERT_TRUE(w);
    w->set_blocks(0, 33, blocks.data(), 3 * bytes);
    w->set_blocks(33, kN - 33, blocks.data() + 33 * 3 * bytes, 3 * bytes);
    std::vector<float> row(kK);
    for (std::int64_t r = 0; r < kN; ++r) {
      reference.embedding(w->view(), r, row.data());
      for (std::int64_t i = 0; i < kK; ++i) {
        const std::byte* block = blocks.data() + (r * 3 + i / 32) * bytes;
        const float scale = half_to_float(static_cast<std::uint16_t>(
            std::to_integer<int>(block[0]) | std::to_integer<int>(block[1]) << 8));
        const auto byte = [&](std::int64_t at) { return std::to_integer<int>(block[2 + at]); };
        const std::int64_t j = i % 32;
        const int code = format == WeightFormat::kInt8 ? static_cast<std::int8_t>(block[2 + j])
                         : j < 16                      ? (byte(j) & 15) - 8
                                                       : (byte(j - 16) >> 4) - 8;
        ASSERT_EQ(row[static_cast<std::size_t>(i)], scale * static_cast<float>(code))
            << name(format) << " row " << r << " input " << i;
      }
    }
    // Set again in other pieces, which share words with their neighbours: the same bytes.
    std::vector<std::byte> before(w->view().data, w->view().data + w->bytes());
    for (std::int64_t r = kN - 1; r >= 0; --r) {
      w->set_blocks(r, 1, blocks.data() + r * 3 * bytes, 3 * bytes);
    }
    EXPECT_TRUE(std::equal(before.begin(), before.end(), w->view().data)) << name(format);
  }
}

INSTANTIATE_TEST_SUITE_P(, PackedBlocks, ::testing::Values(WeightOrder::kPairs, WeightOrder::kRows),
                         [](const ::testing::TestParamInfo<WeightOrder>& order) {
                           return order.param == WeightOrder::kPairs ? "pairs" : "rows";
                         });

}  // namespace
}  // namespace tg
