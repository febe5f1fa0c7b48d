#include "kernels/packed_matrix.h"

#include <gtest/gtest.h>

#include "kernel_inputs.h"

namespace tg {
namespace {

TEST(PackedMatrix, LayoutIsPanelsOfPairs) {
  for (const std::int64_t n : {1, 31, 32, 33, 100}) {
    for (const std::int64_t k : {1, 2, 7, 64}) {
      auto matrix = PackedMatrix::allocate(n, k);
      ASSERT_TRUE(matrix);
      const std::vector<float> values = Numbers(1).floats(n * k);
      matrix->set_rows(0, n, values);
      const PackedView view = matrix->view();
      EXPECT_EQ(view.panels(), (n + 31) / 32);
      EXPECT_EQ(static_cast<std::int64_t>(matrix->bytes()), view.panels() * view.panel_bytes());
      for (std::int64_t row = 0; row < view.panels() * 32; ++row) {
        for (std::int64_t i = 0; i < view.k_pairs() * 2; ++i) {
          const Bf16 stored = view.panel(row / 32)[i / 2 * 64 + row % 32 * 2 + i % 2];
          const Bf16 expected =
              row < n && i < k ? to_bf16(values[static_cast<std::size_t>(row * k + i)]) : Bf16{};
          ASSERT_EQ(stored.bits, expected.bits) << n << " x " << k << " at " << row << ", " << i;
        }
      }
    }
  }
}

TEST(PackedMatrix, RowsMayComeInPieces) {
  constexpr std::int64_t kN = 75;
  constexpr std::int64_t kK = 18;
  const std::vector<float> values = Numbers(2).floats(kN * kK);
  auto whole = PackedMatrix::allocate(kN, kK);
  auto pieces = PackedMatrix::allocate(kN, kK);
  ASSERT_TRUE(whole && pieces);
  whole->set_rows(0, kN, values);
  const std::vector<std::int64_t> cuts = {0, 1, 30, 33, 33, 64, 75};
  for (std::size_t i = cuts.size() - 1; i > 0; --i) {  // in any order
    const std::int64_t rows = cuts[i] - cuts[i - 1];
    pieces->set_rows(cuts[i - 1], rows,
                     std::span(values).subspan(static_cast<std::size_t>(cuts[i - 1] * kK),
                                               static_cast<std::size_t>(rows * kK)));
  }
  EXPECT_EQ(std::memcmp(whole->view().data, pieces->view().data, whole->bytes()), 0);
}

// A device's part of a wider matrix: columns [first, first + k) of rows that are `stride` apart.
TEST(PackedMatrix, RowsMayBePartsOfWiderOnes) {
  constexpr std::int64_t kN = 37;
  constexpr std::int64_t kStride = 50;
  const std::vector<float> wide = Numbers(3).floats(kN * kStride);
  for (const std::int64_t k : {1, 7, 16, 33, 50}) {
    for (const std::int64_t first : {std::int64_t{0}, (kStride - k) / 2, kStride - k}) {
      std::vector<float> part;
      for (std::int64_t row = 0; row < kN; ++row) {
        const auto begin = wide.begin() + row * kStride + first;
        part.insert(part.end(), begin, begin + k);
      }
      auto expected = PackedMatrix::allocate(kN, k);
      auto strided = PackedMatrix::allocate(kN, k);
      ASSERT_TRUE(expected && strided);
      expected->set_rows(0, kN, part);
      // In two pieces that meet inside of a panel.
      strided->set_rows(20, kN - 20, wide.data() + 20 * kStride + first, kStride);
      strided->set_rows(0, 20, wide.data() + first, kStride);
      EXPECT_EQ(std::memcmp(expected->view().data, strided->view().data, expected->bytes()), 0)
          << "columns from " << first << ", " << k << " of them";
    }
  }
}

TEST(PackedMatrix, ImpossibleSizesAreErrors) {
  EXPECT_EQ(PackedMatrix::allocate(0, 4).error().code, ErrorCode::kBadArgument);
  EXPECT_EQ(PackedMatrix::allocate(4, -1).error().code, ErrorCode::kBadArgument);
  const auto huge = PackedMatrix::allocate(std::int64_t{1} << 40, std::int64_t{1} << 40);
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code, ErrorCode::kOutOfCapacity);
}

TEST(ChooseKernels, ByNameOrTheFastest) {
  const auto available = available_kernels();
  ASSERT_FALSE(available.empty());
  EXPECT_EQ(available.back()->name, "reference");
  for (const KernelTable* table : available) {
    const auto chosen = choose_kernels(table->name);
    ASSERT_TRUE(chosen);
    EXPECT_EQ(*chosen, table);
  }
  EXPECT_EQ(*choose_kernels("auto"), available.front());
  EXPECT_EQ(*choose_kernels(""), available.front());
  const auto unknown = choose_kernels("mmx");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kBadArgument);
  for (const KernelTable* table : available) {
    EXPECT_NE(unknown.error().message.find(table->name), std::string::npos);
  }
}

}  // namespace
}  // namespace tg
