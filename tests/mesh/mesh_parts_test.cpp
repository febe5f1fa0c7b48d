// The mesh's plain parts: shapes, ways of hops, payload formats, names.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "mesh/collective_plan.h"
#include "mesh/hop_schedule.h"
#include "mesh/mesh_shape.h"
#include "mesh/payload.h"

namespace tg {
namespace {

TEST(MeshShape, IsReadOrRefused) {
  EXPECT_EQ(*parse_mesh_shape("8x4"), kGalaxy);
  EXPECT_EQ(*parse_mesh_shape("TG"), kGalaxy);
  EXPECT_EQ(*parse_mesh_shape("1x1"), MeshShape{});
  EXPECT_EQ(text(*parse_mesh_shape("3x16")), "3x16");
  for (const char* bad : {"", "8", "x", "8x", "x4", "0x4", "8x0", "-1x4", "8 x4", "8x4x1", "8X4",
                          "tg", "65x64", "4097x1", "99999999999999999999x1", "+8x4"}) {
    EXPECT_FALSE(parse_mesh_shape(bad)) << bad;
  }
  EXPECT_EQ(parse_mesh_shape("8by4").error().text(),
            "'8by4' is no mesh: need ROWSxCOLS with at most 4096 devices, such as 8x4, or TG for "
            "8x4");
}

TEST(RankGrid, SharesTheMeshInRectangles) {
  for (const std::int64_t ranks : {1, 2, 4, 8, 16, 32}) {
    const auto grid = share_mesh(kGalaxy, ranks);
    ASSERT_TRUE(grid) << ranks;
    EXPECT_EQ(grid->ranks(), ranks);
    std::set<std::pair<std::int64_t, std::int64_t>> seen;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      const DeviceBlock b = grid->block(rank);
      EXPECT_EQ(b.devices(), 32 / ranks);
      for (std::int64_t r = b.row_begin; r < b.row_end; ++r) {
        for (std::int64_t c = b.col_begin; c < b.col_end; ++c) {
          EXPECT_TRUE(seen.emplace(r, c).second);
          EXPECT_EQ(grid->rank_of(r, c), rank);
        }
      }
    }
    EXPECT_EQ(seen.size(), 32U);
  }
  EXPECT_EQ(text(share_mesh(kGalaxy, 2)->block(1)), "(4,0)..(7,3)");
  EXPECT_EQ(text(share_mesh(kGalaxy, 32)->block(5)), "(1,1)");
  for (const std::int64_t ranks : {0, -1, 3, 5, 12, 24, 64}) {
    EXPECT_FALSE(share_mesh(kGalaxy, ranks)) << ranks;
  }
  EXPECT_EQ(share_mesh(kGalaxy, 3).error().text(),
            "3 ranks cannot share a mesh of 8x4: ranks must divide the 8 rows, or be the 8 rows "
            "times a divisor of the 4 columns");
}

// What is allowed is what the error says, for any mesh; and rectangles cover every device once.
TEST(RankGrid, EveryMeshAndNumberOfRanks) {
  for (std::int64_t rows = 1; rows <= 6; ++rows) {
    for (std::int64_t cols = 1; cols <= 6; ++cols) {
      for (std::int64_t ranks = 1; ranks <= rows * cols + 1; ++ranks) {
        const auto grid = share_mesh({rows, cols}, ranks);
        const bool whole_rows = rows % ranks == 0;
        const bool parts_of_rows = ranks % rows == 0 && cols % (ranks / rows) == 0;
        ASSERT_EQ(grid.has_value(), whole_rows || parts_of_rows) << rows << cols << ranks;
        if (!grid) continue;
        std::set<std::pair<std::int64_t, std::int64_t>> seen;
        for (std::int64_t rank = 0; rank < ranks; ++rank) {
          const DeviceBlock b = grid->block(rank);
          for (std::int64_t r = b.row_begin; r < b.row_end; ++r) {
            for (std::int64_t c = b.col_begin; c < b.col_end; ++c) {
              EXPECT_TRUE(seen.emplace(r, c).second);
              EXPECT_EQ(grid->rank_of(r, c), rank);
            }
          }
        }
        EXPECT_EQ(static_cast<std::int64_t>(seen.size()), rows * cols);
      }
    }
  }
  EXPECT_EQ(share_mesh({2, 3}, 4).error().text(),
            "4 ranks cannot share a mesh of 2x3: ranks must divide the 2 rows, or be the 2 rows "
            "times a divisor of the 3 columns");
}

using Devices = std::vector<std::int64_t>;

TEST(HopSchedule, FourDevices) {
  const auto ways = [](HopWork work, HopAlgorithm algorithm) {
    std::vector<std::pair<std::int64_t, Devices>> list;
    for (const Stream& s : make_hop_schedule(work, algorithm, 4).streams) {
      list.emplace_back(s.segment, s.devices);
    }
    return list;
  };
  using Ways = std::vector<std::pair<std::int64_t, Devices>>;
  EXPECT_EQ(ways(HopWork::kReduceScatter, HopAlgorithm::kRing),
            (Ways{{0, {1, 2, 3, 0}}, {1, {2, 3, 0, 1}}, {2, {3, 0, 1, 2}}, {3, {0, 1, 2, 3}}}));
  EXPECT_EQ(ways(HopWork::kAllGather, HopAlgorithm::kRing),
            (Ways{{0, {0, 1, 2, 3}}, {1, {1, 2, 3, 0}}, {2, {2, 3, 0, 1}}, {3, {3, 0, 1, 2}}}));
  EXPECT_EQ(ways(HopWork::kReduceScatter, HopAlgorithm::kLine), (Ways{{0, {0}},
                                                                      {0, {3, 2, 1, 0}},
                                                                      {1, {0, 1}},
                                                                      {1, {3, 2, 1}},
                                                                      {2, {0, 1, 2}},
                                                                      {2, {3, 2}},
                                                                      {3, {0, 1, 2, 3}}}));
  EXPECT_EQ(ways(HopWork::kAllGather, HopAlgorithm::kLine), (Ways{{0, {0, 1, 2, 3}},
                                                                  {1, {1, 2, 3}},
                                                                  {1, {1, 0}},
                                                                  {2, {2, 3}},
                                                                  {2, {2, 1, 0}},
                                                                  {3, {3}},
                                                                  {3, {3, 2, 1, 0}}}));
}

TEST(HopSchedule, EverySummandOnceAndOnlyNeighbours) {
  for (std::int64_t n = 1; n <= 9; ++n) {
    for (const HopAlgorithm algorithm : {HopAlgorithm::kRing, HopAlgorithm::kLine}) {
      for (const HopWork work : {HopWork::kReduceScatter, HopWork::kAllGather}) {
        std::map<std::int64_t, std::multiset<std::int64_t>> seen;
        for (const Stream& s : make_hop_schedule(work, algorithm, n).streams) {
          const bool reduce = work == HopWork::kReduceScatter;
          EXPECT_EQ(reduce ? s.devices.back() : s.devices.front(), s.segment);
          for (std::size_t i = 0; i < s.devices.size(); ++i) {
            const bool at_the_joint = s.joins && i + 1 == s.devices.size();
            if (!at_the_joint) seen[s.segment].insert(s.devices[i]);
            if (i == 0) continue;
            const std::int64_t step = s.devices[i] - s.devices[i - 1];
            const bool wraps = algorithm == HopAlgorithm::kRing && step == 1 - n;
            EXPECT_TRUE(std::abs(step) == 1 || wraps) << n;
          }
        }
        for (std::int64_t segment = 0; segment < n; ++segment) {
          for (std::int64_t d = 0; d < n; ++d) {
            // A line's gather sets out twice from an owner in the middle.
            const bool twice = work == HopWork::kAllGather && algorithm == HopAlgorithm::kLine &&
                               d == segment && segment > 0;
            EXPECT_EQ(seen[segment].count(d), twice ? 2U : 1U) << n << " " << segment << " " << d;
          }
        }
      }
    }
  }
}

// Segments per link are the textbook's.
TEST(HopSchedule, SegmentsPerLink) {
  for (std::int64_t n = 1; n <= 9; ++n) {
    for (const HopAlgorithm algorithm : {HopAlgorithm::kRing, HopAlgorithm::kLine}) {
      for (const HopWork work : {HopWork::kReduceScatter, HopWork::kAllGather}) {
        std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> expected;
        for (std::int64_t i = 0; i < n && n > 1; ++i) {
          if (algorithm == HopAlgorithm::kRing) {
            expected[{i, (i + 1) % n}] = n - 1;
          } else if (i + 1 < n) {
            const std::int64_t right = work == HopWork::kReduceScatter ? n - 1 - i : i + 1;
            expected[{i, i + 1}] = right;
            expected[{i + 1, i}] = n - right;
          }
        }
        std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> links;
        std::set<std::int64_t> joined;
        for (const Stream& s : make_hop_schedule(work, algorithm, n).streams) {
          for (std::size_t i = 1; i < s.devices.size(); ++i) {
            ++links[{s.devices[i - 1], s.devices[i]}];
          }
          if (s.joins) {
            EXPECT_TRUE(joined.insert(s.segment).second);
          }
        }
        EXPECT_EQ(links, expected) << n;
        const bool arms = work == HopWork::kReduceScatter && algorithm == HopAlgorithm::kLine;
        EXPECT_EQ(static_cast<std::int64_t>(joined.size()), arms ? n - 1 : 0) << n;
      }
    }
  }
}

std::vector<float> floats_of(const nlohmann::json& bits) {
  std::vector<float> values;
  for (const auto& hex : bits) {
    values.push_back(std::bit_cast<float>(
        static_cast<std::uint32_t>(std::stoul(hex.get<std::string>(), nullptr, 16))));
  }
  return values;
}

TEST(Payload, Bfp8IsTenstorrents) {
  std::ifstream file(TG_SOURCE_DIR "/tests/golden/blockfloat.json");
  const auto rows = nlohmann::json::parse(file)["rows"];
  ASSERT_GE(rows.size(), 30U);
  for (const auto& [label, row] : rows.items()) {
    const std::vector<float> input = floats_of(row["input_f32_bits"]);
    const std::vector<float> decoded = floats_of(row["bfp8_b"]["decoded_f32_bits"]);
    std::vector<float> rounded = input;
    round_payload(PayloadDType::kBfp8, rounded);
    std::vector<std::byte> bytes(17);
    ASSERT_EQ(payload_bytes(PayloadDType::kBfp8, 16), 17);
    encode_payload(PayloadDType::kBfp8, input, bytes.data());
    EXPECT_EQ(static_cast<int>(bytes[0]), row["bfp8_b"]["shared_exponent"].get<int>()) << label;
    for (std::size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(rounded[i]), std::bit_cast<std::uint32_t>(decoded[i]))
          << label << " " << i;
      EXPECT_EQ(static_cast<int>(bytes[1 + i]), row["bfp8_b"]["codes"][i].get<int>()) << label;
    }
  }
}

TEST(Payload, WhatComesOutIsWhatRoundingSays) {
  for (const PayloadDType dtype : {PayloadDType::kF32, PayloadDType::kBf16, PayloadDType::kBfp8}) {
    for (const std::size_t size : {0U, 1U, 15U, 16U, 17U, 100U}) {
      std::vector<float> row(size);
      for (std::size_t i = 0; i < size; ++i) {
        row[i] =
            std::ldexp(static_cast<float>(i * 37 % 101) - 50.3F, static_cast<int>(i % 40) - 20);
      }
      std::vector<std::byte> bytes(
          static_cast<std::size_t>(payload_bytes(dtype, static_cast<std::int64_t>(size))));
      encode_payload(dtype, row, bytes.data());
      std::vector<float> decoded(size);
      decode_payload(dtype, bytes.data(), decoded);
      std::vector<float> rounded = row;
      round_payload(dtype, rounded);
      EXPECT_EQ(decoded, rounded) << name(dtype) << " " << size;
      round_payload(dtype, decoded);
      EXPECT_EQ(decoded, rounded) << name(dtype) << " twice";
    }
  }
  EXPECT_EQ(payload_bytes(PayloadDType::kBfp8, 33), 33 + 3);
  EXPECT_EQ(payload_bytes(PayloadDType::kBf16, 33), 66);
  EXPECT_EQ(*parse_payload_dtype("bfp8"), PayloadDType::kBfp8);
  EXPECT_EQ(parse_payload_dtype("int8").error().text(), "'int8' is none of f32, bf16, bfp8");
}

std::vector<std::uint32_t> bits_of(const std::vector<float>& row) {
  std::vector<std::uint32_t> bits;
  bits.reserve(row.size());
  for (const float x : row) bits.push_back(std::bit_cast<std::uint32_t>(x));
  return bits;
}

TEST(Payload, Bf16IsNearestEven) {
  // Half of the last bit of 1 is 2^-8; ties go to the even neighbour; -0 and infinity stay.
  const std::vector<std::pair<float, float>> pairs = {
      {1.0F, 1.0F},
      {1 + 0x1p-8F, 1.0F},
      {1 + 0x1.002p-8F, 1 + 0x1p-7F},
      {1 + 0x3p-8F, 1 + 0x2p-7F},
      {-1 - 0x3p-8F, -1 - 0x2p-7F},
      {-0.0F, -0.0F},
      {0x1p-133F, 0x1p-133F},
      {0x1p-149F, 0.0F},
      {0x1.fffffep127F, std::numeric_limits<float>::infinity()},
  };
  std::vector<float> row;
  std::vector<float> expected;
  for (const auto& [in, out] : pairs) {
    row.push_back(in);
    expected.push_back(out);
  }
  std::vector<std::byte> bytes(row.size() * 2);
  encode_payload(PayloadDType::kBf16, row, bytes.data());
  round_payload(PayloadDType::kBf16, row);
  EXPECT_EQ(bits_of(row), bits_of(expected));
  EXPECT_EQ(bytes[0], std::byte{0x80});  // 1 = 0x3f80, little-endian
  EXPECT_EQ(bytes[1], std::byte{0x3f});
}

// The last block of a row is as if zeros followed it, and the blocks before do not see it.
TEST(Payload, AShortBlockIsAFullOneWithZeros) {
  for (std::size_t size = 1; size <= 50; ++size) {
    std::vector<float> row(size);
    for (std::size_t i = 0; i < size; ++i) {
      row[i] = std::ldexp(static_cast<float>(i * 53 % 101) - 50.3F, static_cast<int>(i * 7 % 11));
    }
    std::vector<float> padded = row;
    padded.resize((size + 15) / 16 * 16, 0.0F);
    std::vector<float> blocks;
    for (std::size_t first = 0; first < padded.size(); first += 16) {
      std::vector<float> block(padded.begin() + static_cast<std::ptrdiff_t>(first),
                               padded.begin() + static_cast<std::ptrdiff_t>(first + 16));
      round_payload(PayloadDType::kBfp8, block);
      blocks.insert(blocks.end(), block.begin(), block.end());
    }
    blocks.resize(size);
    round_payload(PayloadDType::kBfp8, row);
    EXPECT_EQ(bits_of(row), bits_of(blocks)) << size;
  }
}

// Any bits at all, NaN and infinities and subnormals too: a hop through bytes and one within a
// process are the same, and a second hop changes nothing.
TEST(Payload, AnyBitsComeOutAlike) {
  std::uint64_t random = 1;
  for (int round = 0; round < 20000; ++round) {
    std::vector<float> row(16);
    // Exponents close to each other, anywhere; so also around both ends of the range.
    const std::uint32_t around = static_cast<std::uint32_t>(round) % 256;
    for (float& x : row) {
      random = random * 6364136223846793005U + 1442695040888963407U;
      const auto bits = static_cast<std::uint32_t>(random >> 32);
      const std::uint32_t below = (bits >> 23 & 0xffU) % 9;
      const std::uint32_t exponent = around < below ? 0 : around - below;
      x = std::bit_cast<float>((bits & 0x807fffffU) | exponent << 23);
    }
    for (const PayloadDType dtype : {PayloadDType::kBf16, PayloadDType::kBfp8}) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(payload_bytes(dtype, 16)));
      encode_payload(dtype, row, bytes.data());
      std::vector<float> decoded(16);
      decode_payload(dtype, bytes.data(), decoded);
      std::vector<float> rounded = row;
      round_payload(dtype, rounded);
      ASSERT_EQ(bits_of(decoded), bits_of(rounded)) << name(dtype) << " exponent " << around;
      round_payload(dtype, decoded);
      ASSERT_EQ(bits_of(decoded), bits_of(rounded)) << name(dtype) << " exponent " << around;
    }
  }
}

TEST(Payload, Sizes) {
  for (const auto& [values, f32, bf16, bfp8] :
       std::vector<std::array<std::int64_t, 4>>{{0, 0, 0, 0},
                                                {1, 4, 2, 2},
                                                {15, 60, 30, 16},
                                                {16, 64, 32, 17},
                                                {17, 68, 34, 19},
                                                {512, 2048, 1024, 544}}) {
    EXPECT_EQ(payload_bytes(PayloadDType::kF32, values), f32);
    EXPECT_EQ(payload_bytes(PayloadDType::kBf16, values), bf16);
    EXPECT_EQ(payload_bytes(PayloadDType::kBfp8, values), bfp8);
  }
}

TEST(CollectivePlan, NamesAndDefaults) {
  for (const Use use : all_uses()) EXPECT_EQ(*parse_use(name(use)), use);
  EXPECT_EQ(parse_use("qkv").error().text(),
            "'qkv' is no use of a collective; known are QKV, WO, FF1, FF3, FF2, LAYERNORM, SDPA, "
            "SAMPLING");
  CollectivePlan plan;
  EXPECT_EQ(plan.algorithm(HopWork::kAllGather, Use::kFf2), HopAlgorithm::kRing);
  plan.payload = PayloadDType::kBfp8;
  EXPECT_EQ(plan.payload_of(Use::kFf2), PayloadDType::kBfp8);
  EXPECT_EQ(plan.payload_of(Use::kSampling), PayloadDType::kF32);
}

}  // namespace
}  // namespace tg
