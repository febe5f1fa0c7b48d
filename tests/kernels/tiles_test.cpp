// Products on tiles (WeightOrder::kRows): against double precision, integer formats bit-equal to
// their values in bf16, and a row alone as in any company. Runs for every table that has tiles; a
// CPU with none has nothing to test.
#include <gtest/gtest.h>

#include "tile_products.h"

namespace tg {
namespace {

constexpr WeightFormat kTileFormats[] = {WeightFormat::kBf16, WeightFormat::kInt8,
                                         WeightFormat::kInt4, WeightFormat::kBfp8,
                                         WeightFormat::kBfp4};

PackedMatrix pack_tiles(std::int64_t n, std::int64_t k, WeightFormat format,
                        const std::vector<float>& values) {
  auto made = PackedMatrix::allocate(n, k, format, WeightOrder::kRows);
  TG_CHECK(made);
  made->set_rows(0, n, values);
  return std::move(*made);
}

class TileProduct : public EachTable {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TileProduct);
INSTANTIATE_TEST_SUITE_P(, TileProduct, ::testing::ValuesIn(tables_with_tiles()), table_name);

TEST_P(TileProduct, AgreesWithDoublePrecision) {
  struct Shape {
    std::int64_t m, n, k;
  };
  for (const WeightFormat format : kTileFormats) {
    for (const Shape s :
         {Shape{1, 32, 2}, Shape{1, 96, 64}, Shape{2, 33, 510}, Shape{3, 160, 514},
          Shape{5, 31, 2050}, Shape{15, 64, 130}, Shape{16, 40, 64}, Shape{17, 129, 96},
          Shape{33, 70, 322}, Shape{50, 290, 520}, Shape{64, 40, 34}, Shape{600, 70, 66}}) {
      const std::vector<float> values = Numbers(1).floats(s.n * s.k);
      const PackedMatrix w = pack_tiles(s.n, s.k, format, values);
      const Row x(ComputeDType::kBf16, Numbers(2).floats(s.m * s.k));
      std::vector<float> weights(static_cast<std::size_t>(s.n * s.k));
      for (std::int64_t j = 0; j < s.n; ++j) {
        kernels().embedding(w.view(), j, weights.data() + j * s.k);
      }
      for (float& v : weights) v = to_float(to_bf16(v));
      for (const bool add : {false, true}) {
        const std::vector<float> y =
            product(kernels(), w, Tiles(kernels(), x, 0, s.m, s.k), {}, add);
        for (std::int64_t i = 0; i < s.m; ++i) {
          for (std::int64_t j = 0; j < s.n; ++j) {
            double truth = 0.0;
            double size = 0.0;
            for (std::int64_t k = 0; k < s.k; ++k) {
              const double term =
                  static_cast<double>(x.f32[static_cast<std::size_t>(i * s.k + k)]) *
                  weights[static_cast<std::size_t>(j * s.k + k)];
              truth += term;
              size += std::abs(term);
            }
            ASSERT_NEAR(y[static_cast<std::size_t>(i * s.n + j)], truth + (add ? 0.5 : 0.0),
                        2e-6 * size + 1e-7)
                << name(format) << " " << s.m << " x " << s.n << " x " << s.k << " at " << i << ", "
                << j;
          }
        }
      }
    }
  }
}

// An integer format is a way to store bf16 weights: same values, same bits.
TEST_P(TileProduct, IntegersAreTheirValuesInBf16) {
  constexpr std::int64_t kN = 32 * 3 + 7;
  for (const WeightFormat format :
       {WeightFormat::kInt8, WeightFormat::kInt4, WeightFormat::kBfp8, WeightFormat::kBfp4}) {
    for (const std::int64_t k : {32, 576, 1100}) {
      const PackedMatrix w = pack_tiles(kN, k, format, Numbers(11).floats(kN * k, 3.0F));
      std::vector<float> values(static_cast<std::size_t>(kN * k));
      for (std::int64_t j = 0; j < kN; ++j) {
        kernels().embedding(w.view(), j, values.data() + j * k);
      }
      const PackedMatrix wide = pack_tiles(kN, k, WeightFormat::kBf16, values);
      for (const std::int64_t m : {1, 5, 16, 23, 70}) {
        const Row x(ComputeDType::kBf16, Numbers(12).floats(m * k));
        const Tiles tiles(kernels(), x, 0, m, k);
        ASSERT_TRUE(same_bits(product(kernels(), w, tiles), product(kernels(), wide, tiles)))
            << name(format) << ", " << m << " rows, k = " << k;
      }
    }
  }
}

TEST_P(TileProduct, ARowDoesNotShowItsCompany) {
  constexpr std::int64_t kRows = 1100;
  constexpr std::int64_t kK = 606;  // more than one chunk, and a rest
  constexpr std::int64_t kN = 32 * 9 + 7;
  for (const WeightFormat format : kTileFormats) {
    const PackedMatrix w = pack_tiles(kN, kK, format, Numbers(13).floats(kN * kK));
    const Row x(ComputeDType::kBf16, Numbers(3).floats(kRows * kK));
    std::vector<std::vector<float>> alone;
    for (std::int64_t r = 0; r < kRows; ++r) {
      alone.push_back(product(kernels(), w, Tiles(kernels(), x, r, 1, kK)));
    }
    for (const std::int64_t m : {2, 3, 15, 16, 17, 31, 32, 33, 47, 49, 97, 512, 513, 1100}) {
      const std::int64_t first = (kRows - m) / 2;
      const std::vector<float> y =
          product(kernels(), w, Tiles(kernels(), x, first, m, kK), {m % 9, m % 9 + 1});
      for (std::int64_t r = 0; r < m; ++r) {
        const std::span<const float> row(y.data() + r * kN, static_cast<std::size_t>(kN));
        ASSERT_TRUE(same_bits(row, alone[static_cast<std::size_t>(first + r)]))
            << name(format) << " row " << r << " of " << m;
      }
    }
  }
}

// Blocks of Q4_0 with every code, under scales of either sign, of both zeros and of the smallest:
// the values are those of the definition. (Codes are kept as places in a table that sign and
// exponent are added to, which would make something of a zero.)
TEST_P(TileProduct, EveryCodeOfInt4UnderEveryKindOfScale) {
  const std::vector<std::uint16_t> scales = {0x3c00, 0xbc00, 0x0000, 0x8000, 0x0001,
                                             0x8001, 0x7bff, 0xfbff, 0x2e66, 0x9555};
  const auto n = static_cast<std::int64_t>(scales.size());
  std::vector<std::byte> blocks(scales.size() * kQ4Bytes);
  for (std::size_t r = 0; r < scales.size(); ++r) {
    std::memcpy(&blocks[r * kQ4Bytes], &scales[r], 2);
    for (std::size_t i = 0; i < 16; ++i) {
      blocks[r * kQ4Bytes + 2 + i] = static_cast<std::byte>(i | (15 - i) << 4);
    }
  }
  auto w = PackedMatrix::allocate(n, kGroup, WeightFormat::kInt4, WeightOrder::kRows);
  TG_CHECK(w);
  w->set_blocks(0, n, blocks.data(), kQ4Bytes);
  // An input of 1 at one place at a time gives the weights back.
  for (std::int64_t i = 0; i < kGroup; ++i) {
    std::vector<float> values(kGroup);
    values[static_cast<std::size_t>(i)] = 1.0F;
    const Row x(ComputeDType::kBf16, values);
    const std::vector<float> y = product(kernels(), *w, Tiles(kernels(), x, 0, 1, kGroup));
    const auto q = static_cast<float>(i < 16 ? i - 8 : 15 - (i - 16) - 8);
    for (std::size_t r = 0; r < scales.size(); ++r) {
      const float value = q * half_to_float(scales[r]);
      EXPECT_EQ(y[r], to_float(to_bf16(value))) << "scale " << r << ", k " << i;
      std::vector<float> row(kGroup);
      kernels().embedding(w->view(), static_cast<std::int64_t>(r), row.data());
      EXPECT_EQ(row[static_cast<std::size_t>(i)], value) << "scale " << r << ", k " << i;
    }
  }
}

TEST_P(TileProduct, AScaleThatIsNoNumberIsNotLost) {
  for (const std::uint16_t scale :
       {std::uint16_t{0x7c00}, std::uint16_t{0xfc00}, std::uint16_t{0x7e00}}) {
    for (unsigned code = 0; code < 16; ++code) {
      std::vector<std::byte> block(kQ4Bytes, static_cast<std::byte>(code * 17));
      std::memcpy(block.data(), &scale, 2);
      auto w = PackedMatrix::allocate(1, kGroup, WeightFormat::kInt4, WeightOrder::kRows);
      TG_CHECK(w);
      w->set_blocks(0, 1, block.data(), kQ4Bytes);
      const Row x(ComputeDType::kBf16, std::vector<float>(kGroup, 1.0F));
      const std::vector<float> y = product(kernels(), *w, Tiles(kernels(), x, 0, 1, kGroup));
      EXPECT_FALSE(std::isfinite(y[0])) << std::hex << scale << ", code " << code;
    }
  }
}

// A row that has no number in it keeps that to itself, also beside the rows of zeros that fill up a
// block.
TEST_P(TileProduct, NanStaysInItsRow) {
  const PackedMatrix w = pack_tiles(64, 96, WeightFormat::kInt8, Numbers(15).floats(64 * 96));
  std::vector<float> values = Numbers(16).floats(40 * 96);
  const std::vector<float> clean =
      product(kernels(), w, Tiles(kernels(), Row(ComputeDType::kBf16, values), 0, 40, 96));
  values[39 * 96 + 95] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> y =
      product(kernels(), w, Tiles(kernels(), Row(ComputeDType::kBf16, values), 0, 40, 96));
  EXPECT_TRUE(same_bits(std::span(y).first(39 * 64), std::span(clean).first(39 * 64)));
  for (std::size_t j = 0; j < 64; ++j) EXPECT_TRUE(std::isnan(y[39 * 64 + j]));
}

}  // namespace
}  // namespace tg
