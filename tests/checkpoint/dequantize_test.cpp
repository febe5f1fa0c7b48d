// dequantize() against an implementation that is not ours: tests/golden/dequant.json.
#include "checkpoint/dequantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tg {
namespace {

constexpr DType kAll[] = {DType::kF32,  DType::kF16,  DType::kBf16, DType::kQ8_0,
                          DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                          DType::kQ4K,  DType::kQ5K,  DType::kQ6K};

std::vector<std::byte> from_hex(const std::string& hex) {
  std::vector<std::byte> out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return out;
}

std::vector<float> as_floats(const std::vector<std::byte>& bytes) {
  std::vector<float> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), out.size() * 4);
  return out;
}

struct Golden {
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

Golden golden(DType dtype) {
  std::ifstream file(TG_SOURCE_DIR "/tests/golden/dequant.json");
  const auto json = nlohmann::json::parse(file);
  for (const auto& entry : json.at("cases")) {
    if (entry.at("dtype").get<std::string>() == name(dtype)) {
      return {from_hex(entry.at("blocks")), as_floats(from_hex(entry.at("values")))};
    }
  }
  ADD_FAILURE() << "no golden for " << name(dtype);
  return {};
}

class Dequantize : public testing::TestWithParam<DType> {};

TEST_P(Dequantize, EqualsTheGoldenToTheBit) {
  const Golden want = golden(GetParam());
  ASSERT_GE(want.values.size(), 64U);
  std::vector<float> got(want.values.size());
  dequantize(GetParam(), want.blocks, got);
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(want.values[i]))
        << "value " << i << ": " << got[i] << ", wanted " << want.values[i];
  }
}

// A mapped file gives no alignment, and a block's value may not depend on its neighbours.
TEST_P(Dequantize, OneBlockAtAnOddAddress) {
  const Golden want = golden(GetParam());
  const BlockSize size = block_size(GetParam());
  const auto values = static_cast<std::size_t>(size.values);
  const auto bytes = static_cast<std::size_t>(size.bytes);
  std::vector<std::byte> moved(bytes + 1);
  std::vector<float> got(values);
  for (std::size_t block = 0; block * bytes < want.blocks.size(); ++block) {
    std::memcpy(&moved[1], &want.blocks[block * bytes], bytes);
    dequantize(GetParam(), std::span(moved).subspan(1), got);
    ASSERT_EQ(0, std::memcmp(got.data(), &want.values[block * values], values * 4)) << block;
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, Dequantize, testing::ValuesIn(kAll),
                         [](const auto& case_info) { return std::string(name(case_info.param)); });

}  // namespace
}  // namespace tg
