// A token's result is the same whatever other tokens are in the tensor: the part of the collectives
// in the promise of batch invariance.
#include <cmath>
#include <cstring>
#include <limits>

#include "mesh/mesh.h"
#include "thread_ranks.h"

namespace tg {
namespace {

using Floats = std::vector<float>;

// A number for each device, token and feature; many magnitudes, so that roundings differ.
float value(std::int64_t device, std::int64_t token, std::int64_t feature) {
  const auto x = static_cast<float>((device * 7919 + token * 104729 + feature * 1299709) % 65537);
  return std::ldexp(x - 32768.3F, static_cast<int>((device + token + feature) % 12) - 20);
}

// Each token's result of an all_reduce that adds and of a gather of tokens.
std::vector<Floats> results(const std::vector<std::int64_t>& tokens, PayloadDType payload,
                            HopAlgorithm algorithm, Transport& transport) {
  constexpr MeshShape kMesh{4, 2};
  constexpr std::int64_t kWidth = 77;
  ThreadTeam team(2);
  CollectivePlan plan;
  plan.set_all(algorithm);
  plan.payload = payload;
  Mesh mesh = *Mesh::create(kMesh, plan, team, &transport);
  const auto count = static_cast<std::int64_t>(tokens.size());
  Floats in;
  for (std::int64_t d = mesh.block().row_begin; d < mesh.block().row_end; ++d) {
    for (const std::int64_t token : tokens) {
      for (std::int64_t f = 0; f < kWidth; ++f) in.push_back(value(d, token, f));
    }
  }
  Floats out(static_cast<std::size_t>(count * kWidth), 0.5F);
  MeshTensor partial;
  partial.data = reinterpret_cast<std::byte*>(in.data());
  partial.tokens = count;
  partial.width = kWidth;
  partial.slice = count * kWidth;
  partial.rows = kPartial;
  MeshTensor sum = partial;
  sum.data = reinterpret_cast<std::byte*>(out.data());
  mesh.all_reduce(partial, Axis::kRows, Use::kWo, sum, true);
  // The columns have their tokens, and nothing where the others' will come.
  const std::vector<std::int64_t> cuts = {0, count / 3, count};
  for (std::int64_t t = 0; t < count; ++t) {
    const std::int64_t col = t < cuts[1] ? 0 : 1;
    if (col < mesh.block().col_begin || col >= mesh.block().col_end) {
      std::fill_n(out.begin() + t * kWidth, kWidth, std::numeric_limits<float>::quiet_NaN());
    }
  }
  sum.cols = kShardTokens;
  sum.token_cuts = cuts;
  mesh.all_gather(sum, Axis::kCols, Use::kSdpa);
  std::vector<Floats> rows;
  rows.reserve(tokens.size());
  for (std::int64_t t = 0; t < count; ++t) {
    rows.emplace_back(out.begin() + t * kWidth, out.begin() + (t + 1) * kWidth);
  }
  return rows;
}

TEST(Tokens, DoNotInfluenceEachOther) {
  std::vector<std::int64_t> many(33);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<std::int64_t>(i * 7 % 33);
  for (const PayloadDType payload :
       {PayloadDType::kF32, PayloadDType::kBf16, PayloadDType::kBfp8}) {
    for (const HopAlgorithm algorithm : {HopAlgorithm::kRing, HopAlgorithm::kLine}) {
      for (const int ranks : {1, 2, 8}) {
        test::on_ranks(ranks, [&](Transport& transport) {
          const std::vector<Floats> together = results(many, payload, algorithm, transport);
          for (const std::size_t i : {0U, 10U, 11U, 32U}) {
            const Floats alone = results({many[i]}, payload, algorithm, transport)[0];
            EXPECT_TRUE(
                std::memcmp(alone.data(), together[i].data(), alone.size() * sizeof(float)) == 0)
                << name(payload) << ", place " << i << ", " << ranks << " ranks";
          }
        });
      }
    }
  }
}

}  // namespace
}  // namespace tg
