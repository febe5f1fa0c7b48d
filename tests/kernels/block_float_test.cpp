// Weights in Tenstorrent's block float: the golden rows come out of packed matrices bit for bit,
// and products have the bits of those values packed as bf16, also where a value is as small or as
// large as can be.
#include "tensor/block_float.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "tile_products.h"

namespace tg {
namespace {

std::vector<float> floats_of(const nlohmann::json& bits) {
  std::vector<float> values;
  for (const auto& hex : bits) {
    values.push_back(std::bit_cast<float>(
        static_cast<std::uint32_t>(std::stoul(hex.get<std::string>(), nullptr, 16))));
  }
  return values;
}

struct Golden {
  std::vector<float> input;  // rows of 16, end to end
  std::vector<float> bfp8;
  std::vector<float> bfp4;
};

Golden golden() {
  Golden all;
  std::ifstream file(TG_SOURCE_DIR "/tests/golden/blockfloat.json");
  const auto append = [](std::vector<float>& to, const nlohmann::json& bits) {
    const std::vector<float> values = floats_of(bits);
    to.insert(to.end(), values.begin(), values.end());
  };
  const auto rows = nlohmann::json::parse(file)["rows"];
  for (const auto& row : rows) {
    append(all.input, row["input_f32_bits"]);
    append(all.bfp8, row["bfp8_b"]["decoded_f32_bits"]);
    append(all.bfp4, row["bfp4_b"]["decoded_f32_bits"]);
  }
  return all;
}

PackedMatrix pack(WeightFormat format, std::int64_t n, const std::vector<float>& values) {
  const auto k = static_cast<std::int64_t>(values.size()) / n;
  auto made = PackedMatrix::allocate(n, k, format, WeightOrder::kRows);
  TG_CHECK(made);
  made->set_rows(0, n, values);
  return std::move(*made);
}

TEST(BlockFloat, PackedValuesAreTheGoldens) {
  const Golden all = golden();
  ASSERT_GE(all.input.size(), 30U * 16);
  const auto k = static_cast<std::int64_t>(all.input.size());
  for (const WeightFormat format : {WeightFormat::kBfp8, WeightFormat::kBfp4}) {
    const bool eight = format == WeightFormat::kBfp8;
    const std::vector<float>& truth = eight ? all.bfp8 : all.bfp4;
    std::vector<float> rounded = all.input;
    round_to_bfp(rounded, eight ? kBfp8Bits : kBfp4Bits);
    EXPECT_TRUE(same_bits(rounded, truth));
    // 37 rows: together and one by one; each is the golden rows end to end, and so many zeros that
    // the last group is not full.
    std::vector<float> rows;
    for (int r = 0; r < 37; ++r) {
      rows.insert(rows.end(), all.input.begin(), all.input.end());
      rows.insert(rows.end(), 7, 0.0F);
    }
    const PackedMatrix w = pack(format, 37, rows);
    std::vector<float> values(static_cast<std::size_t>(k + 7));
    for (std::int64_t r = 0; r < 37; ++r) {
      available_kernels().back()->embedding(w.view(), r, values.data());
      ASSERT_TRUE(same_bits(std::span(values).first(truth.size()), truth))
          << name(format) << " row " << r;
    }
    for (const float v : truth) EXPECT_EQ(to_float(to_bf16(v)), v);
  }
}

// Every exponent, with codes of both signs.
TEST(BlockFloat, UnitsOfEveryExponent) {
  for (std::uint32_t e = 1; e < 256; ++e) {
    const int power = static_cast<int>(e) - 127;
    EXPECT_EQ(bfp_unit(e, kBfp8Bits), static_cast<float>(std::ldexp(1.0, power - 6))) << e;
    EXPECT_EQ(bfp_unit(e, kBfp4Bits), static_cast<float>(std::ldexp(1.0, power - 2))) << e;
  }
  EXPECT_EQ(bfp_unit(0, kBfp8Bits), 0.0F);
}

TEST(BlockFloat, IsRefusedInPairs) {
  const auto in_pairs = PackedMatrix::allocate(32, 64, WeightFormat::kBfp4);
  ASSERT_FALSE(in_pairs);
  EXPECT_EQ(in_pairs.error().message, "a weight matrix in bfp4 has to be in rows");
}

class BlockFloatProduct : public EachTable {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(BlockFloatProduct);
INSTANTIATE_TEST_SUITE_P(, BlockFloatProduct, ::testing::ValuesIn(tables_with_tiles()), table_name);

TEST_P(BlockFloatProduct, OfAnyExponentHasTheBitsOfItsValuesInBf16) {
  constexpr std::int64_t kN = 75;
  constexpr std::int64_t kK = 16 * 64;
  Numbers numbers(31);
  std::vector<float> values = numbers.floats(kN * kK);
  // Blocks from 2^-127 to 2^+60, so that no sum overflows.
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::ldexp(values[i], static_cast<int>(i / 16 * 5 % 188) - 126);
  }
  for (const WeightFormat format : {WeightFormat::kBfp8, WeightFormat::kBfp4}) {
    const PackedMatrix w = pack(format, kN, values);
    std::vector<float> rounded = values;
    round_to_bfp(rounded, format == WeightFormat::kBfp8 ? kBfp8Bits : kBfp4Bits);
    const PackedMatrix wide = pack(WeightFormat::kBf16, kN, rounded);
    for (const std::int64_t m : {1, 5, 16, 23, 70}) {
      const Row x(ComputeDType::kBf16, Numbers(12).floats(m * kK));
      const Tiles tiles(kernels(), x, 0, m, kK);
      ASSERT_TRUE(same_bits(product(kernels(), w, tiles), product(kernels(), wide, tiles)))
          << name(format) << ", " << m << " rows";
    }
  }
}

}  // namespace
}  // namespace tg
