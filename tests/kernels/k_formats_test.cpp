// GGUF's blocks of 256 packed as they are: the values are the checkpoint reader's, and products
// have the bits of those values packed as bf16.
#include "checkpoint/dequantize.h"
#include "tile_products.h"

namespace tg {
namespace {

struct KFormat {
  WeightFormat packed;
  DType stored;
  std::vector<std::size_t> halves;  // places of f16 in a block
};

const std::vector<KFormat> kFormats = {{WeightFormat::kQ4K, DType::kQ4K, {0, 2}},
                                       {WeightFormat::kQ6K, DType::kQ6K, {208}}};

// Any codes and scales; f16 are finite, of both signs, subnormals among them.
std::vector<std::byte> random_blocks(const KFormat& format, std::int64_t count,
                                     std::uint64_t seed) {
  Numbers numbers(seed);
  const auto bytes = static_cast<std::size_t>(block_size(format.stored).bytes);
  std::vector<std::byte> blocks(static_cast<std::size_t>(count) * bytes);
  for (std::byte& b : blocks) b = static_cast<std::byte>(numbers.below(256));
  for (std::size_t block = 0; block < blocks.size(); block += bytes) {
    for (const std::size_t at : format.halves) blocks[block + at + 1] &= std::byte{0x9b};
  }
  return blocks;
}

PackedMatrix pack(const KFormat& format, std::int64_t n, std::int64_t k,
                  const std::vector<std::byte>& blocks) {
  auto made = PackedMatrix::allocate(n, k, format.packed, WeightOrder::kRows);
  TG_CHECK(made);
  made->set_blocks(0, n, blocks.data(), k / 256 * block_size(format.stored).bytes);
  return std::move(*made);
}

std::vector<float> values_of(const KFormat& format, std::int64_t count,
                             const std::vector<std::byte>& blocks) {
  std::vector<float> values(static_cast<std::size_t>(count));
  dequantize(format.stored, blocks, values);
  return values;
}

TEST(KFormats, PackedValuesAreTheReaders) {
  constexpr std::int64_t kN = 75;
  constexpr std::int64_t kK = 768;
  for (const KFormat& format : kFormats) {
    const std::vector<std::byte> blocks = random_blocks(format, kN * kK / 256, 21);
    const std::vector<float> truth = values_of(format, kN * kK, blocks);
    PackedMatrix w = pack(format, kN, kK, blocks);
    for (const KernelTable* table : available_kernels()) {
      std::vector<float> values(static_cast<std::size_t>(kN * kK));
      for (std::int64_t r = 0; r < kN; ++r) {
        table->embedding(w.view(), r, values.data() + r * kK);
      }
      for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(values[i], truth[i]) << name(format.packed) << " at " << i;
      }
    }
    // Set again in other pieces, which share words with their neighbours: the same bytes.
    const std::vector<std::byte> before(w.view().data, w.view().data + w.bytes());
    const std::int64_t stride = kK / 256 * block_size(format.stored).bytes;
    for (std::int64_t r = kN - 1; r >= 0; --r) {
      w.set_blocks(r, 1, blocks.data() + r * stride, stride);
    }
    EXPECT_TRUE(std::equal(before.begin(), before.end(), w.view().data)) << name(format.packed);
    // A file's size and no more than 3 % above.
    EXPECT_LE(static_cast<double>(w.bytes()), 1.03 * static_cast<double>(96 * stride));
  }
}

TEST(KFormats, AreRefusedWhereTheyDoNotGo) {
  const auto in_pairs = PackedMatrix::allocate(32, 256, WeightFormat::kQ4K);
  ASSERT_FALSE(in_pairs);
  EXPECT_EQ(in_pairs.error().message, "a weight matrix in q4_k has to be in rows");
  const auto with_rest = PackedMatrix::allocate(32, 384, WeightFormat::kQ6K, WeightOrder::kRows);
  ASSERT_FALSE(with_rest);
  EXPECT_EQ(with_rest.error().message,
            "a weight matrix in q6_k has blocks of 256 inputs: 384 inputs leave a rest of 128");
}

class KFormatProduct : public EachTable {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(KFormatProduct);
INSTANTIATE_TEST_SUITE_P(, KFormatProduct, ::testing::ValuesIn(tables_with_tiles()), table_name);

TEST_P(KFormatProduct, HasTheBitsOfItsValuesInBf16) {
  constexpr std::int64_t kN = 32 * 3 + 7;
  for (const KFormat& format : kFormats) {
    for (const std::int64_t k : {256, 768, 2304}) {
      const std::vector<std::byte> blocks = random_blocks(format, kN * k / 256, 22);
      const PackedMatrix w = pack(format, kN, k, blocks);
      auto wide = PackedMatrix::allocate(kN, k, WeightFormat::kBf16, WeightOrder::kRows);
      ASSERT_TRUE(wide);
      wide->set_rows(0, kN, values_of(format, kN * k, blocks));
      for (const std::int64_t m : {1, 5, 16, 23, 70}) {
        const Row x(ComputeDType::kBf16, Numbers(12).floats(m * k));
        const Tiles tiles(kernels(), x, 0, m, k);
        ASSERT_TRUE(same_bits(product(kernels(), w, tiles), product(kernels(), *wide, tiles)))
            << name(format.packed) << ", " << m << " rows, k = " << k;
      }
    }
  }
}

TEST_P(KFormatProduct, ARowDoesNotShowItsCompany) {
  constexpr std::int64_t kRows = 70;
  constexpr std::int64_t kK = 768;
  constexpr std::int64_t kN = 32 * 5 + 7;
  for (const KFormat& format : kFormats) {
    const PackedMatrix w = pack(format, kN, kK, random_blocks(format, kN * kK / 256, 23));
    const Row x(ComputeDType::kBf16, Numbers(3).floats(kRows * kK));
    std::vector<std::vector<float>> alone;
    alone.reserve(kRows);
    for (std::int64_t r = 0; r < kRows; ++r) {
      alone.push_back(product(kernels(), w, Tiles(kernels(), x, r, 1, kK)));
    }
    for (const std::int64_t m : {2, 16, 17, 32, 33, 70}) {
      const std::vector<float> y =
          product(kernels(), w, Tiles(kernels(), x, kRows - m, m, kK), {m % 4, m % 4 + 1});
      for (std::int64_t r = 0; r < m; ++r) {
        const std::span<const float> row(y.data() + r * kN, static_cast<std::size_t>(kN));
        ASSERT_TRUE(same_bits(row, alone[static_cast<std::size_t>(kRows - m + r)]))
            << name(format.packed) << " row " << r << " of " << m;
      }
    }
  }
}

}  // namespace
}  // namespace tg
