// Collectives against an independent simulation of devices that send each other messages, within
// one process and over ranks: the same bits.
#include <cmath>
#include <numeric>

#include "base/bf16.h"
#include "collective_cases.h"
#include "mesh/mesh.h"
#include "thread_ranks.h"

namespace tg {
namespace {

using namespace test;  // NOLINT: the cases are this file's subject

TEST(Collectives, InOneProcessAreTheSimulation) {
  for (const Case& c : cases()) check_rank(c, nullptr);
}

TEST(Collectives, OverRanksAreTheSimulation) {
  for (const Case& c : cases()) {
    for (int ranks = 1; ranks <= 32; ++ranks) {
      if (!share_mesh(c.mesh, ranks)) continue;
      if (c.lane_width > 1000 && ranks > 4) continue;  // the oracle's time
      test::on_ranks(ranks, [&](test::ThreadTransport& transport) { check_rank(c, &transport); });
    }
  }
}

// The order in which numbers are added shows in these: 2^25 + 1 = 2^25 in f32.
TEST(Collectives, RingAndLineAddInTheirOwnOrder) {
  const float big = 0x1p25F;
  const std::vector<float> of_device = {big, 1, -big, 1};
  // Ring: segment s is p[s+1] + p[s+2] + p[s+3] + p[s]. Line: p[0] + .. + p[s], then + the other
  // arm (p[3] + p[2] + ..).
  const std::vector<float> ring = {(1 - big + 1) + big, (-big + 1 + big) + 1, (1 + big + 1) - big,
                                   (big + 1 - big) + 1};
  const std::vector<float> line = {big + ((1 - big) + 1), (big + 1) + (1 - big),
                                   ((big + 1) - big) + 1, ((big + 1) - big) + 1};
  EXPECT_EQ(ring, (std::vector<float>{0, 1, 0, 1}));
  EXPECT_EQ(line, (std::vector<float>{0, 0, 1, 1}));
  for (const auto& [algorithm, expected] :
       {std::pair(HopAlgorithm::kRing, ring), std::pair(HopAlgorithm::kLine, line)}) {
    for (const int ranks : {1, 2, 4}) {
      test::on_ranks(ranks, [&, a = algorithm, &want = expected](test::ThreadTransport& transport) {
        ThreadTeam team(1);
        CollectivePlan plan;
        plan.set_all(a);
        Mesh mesh = *Mesh::create({4, 1}, plan, team, &transport);
        std::vector<float> in;
        for (std::int64_t d = mesh.block().row_begin; d < mesh.block().row_end; ++d) {
          in.insert(in.end(), 4, of_device[static_cast<std::size_t>(d)]);
        }
        std::vector<float> out(4);
        MeshTensor partial;
        partial.data = reinterpret_cast<std::byte*>(in.data());
        partial.tokens = 1;
        partial.width = partial.slice = 4;
        partial.rows = kPartial;
        MeshTensor sum = partial;
        sum.data = reinterpret_cast<std::byte*>(out.data());
        mesh.all_reduce(partial, Axis::kRows, Use::kWo, sum);
        EXPECT_EQ(out, want);
      });
    }
  }
}

// A gather of tokens: uneven parts, empty ones, bf16 elements.
TEST(Collectives, GatherByTokens) {
  for (const ComputeDType dtype : {ComputeDType::kF32, ComputeDType::kBf16}) {
    for (const PayloadDType payload :
         {PayloadDType::kF32, PayloadDType::kBf16, PayloadDType::kBfp8}) {
      for (const HopAlgorithm algorithm : {HopAlgorithm::kRing, HopAlgorithm::kLine}) {
        for (const int ranks : {1, 2, 4, 8}) {
          test::on_ranks(ranks, [&](test::ThreadTransport& transport) {
            ThreadTeam team(1);
            CollectivePlan plan;
            plan.set_all(algorithm);
            plan.payload = payload;
            Mesh mesh = *Mesh::create({2, 4}, plan, team, &transport);
            const std::vector<std::int64_t> cuts = {0, 3, 3, 4, 9};
            const std::int64_t width = 21 * mesh.block().rows();
            const auto size = static_cast<std::size_t>(9 * width);
            std::vector<float> all(size);
            for (std::int64_t t = 0; t < 9; ++t) {
              for (std::int64_t f = 0; f < width; ++f) {
                const std::int64_t feature = mesh.block().row_begin * 21 + f;
                all[static_cast<std::size_t>(t * width + f)] =
                    to_float(to_bf16(std::sin(static_cast<float>(t * 100 + feature))));
              }
            }
            // Only the tokens of this rank's columns are here at first.
            std::vector<float> f32(size, -7.0F);
            std::vector<Bf16> bf16(size, to_bf16(-7.0F));
            for (std::int64_t col = mesh.block().col_begin; col < mesh.block().col_end; ++col) {
              for (std::int64_t i = cuts[static_cast<std::size_t>(col)] * width;
                   i < cuts[static_cast<std::size_t>(col + 1)] * width; ++i) {
                const auto at = static_cast<std::size_t>(i);
                f32[at] = all[at];
                bf16[at] = to_bf16(all[at]);
              }
            }
            MeshTensor t;
            t.dtype = dtype;
            t.data = dtype == ComputeDType::kF32 ? reinterpret_cast<std::byte*>(f32.data())
                                                 : reinterpret_cast<std::byte*>(bf16.data());
            t.tokens = 9;
            t.width = width;
            t.rows = kShardFeatures;
            t.cols = kShardTokens;
            t.token_cuts = cuts;
            mesh.all_gather(t, Axis::kCols, Use::kSdpa);
            EXPECT_EQ(t.cols, kReplicate);
            for (std::int64_t token = 0; token < 9; ++token) {
              for (std::int64_t row = 0; row < mesh.block().rows(); ++row) {
                const auto first = static_cast<std::size_t>(token * width + row * 21);
                Row expected(all.begin() + static_cast<std::ptrdiff_t>(first),
                             all.begin() + static_cast<std::ptrdiff_t>(first + 21));
                round_payload(payload, expected);
                for (std::size_t i = 0; i < 21; ++i) {
                  const float got =
                      dtype == ComputeDType::kF32 ? f32[first + i] : to_float(bf16[first + i]);
                  ASSERT_EQ(got, expected[i]) << "token " << token << " ranks " << ranks;
                }
              }
            }
          });
        }
      }
    }
  }
}

// Bytes from device to device are the textbook's, and what leaves a rank is what it counts.
TEST(Traffic, EachHopCarriesItsSegments) {
  constexpr std::int64_t kTokens = 3;
  constexpr std::int64_t kSegment = 32;  // features
  for (const PayloadDType payload :
       {PayloadDType::kF32, PayloadDType::kBf16, PayloadDType::kBfp8}) {
    for (const Axis axis : {Axis::kRows, Axis::kCols}) {
      for (const HopAlgorithm algorithm : {HopAlgorithm::kRing, HopAlgorithm::kLine}) {
        for (const HopWork work : {HopWork::kReduceScatter, HopWork::kAllGather}) {
          const std::int64_t n = kGalaxy.length(axis);
          const std::int64_t groups = kGalaxy.devices() / n;
          const Case c{kGalaxy, axis, algorithm, payload, kTokens, kSegment * n};
          const std::int64_t bytes = groups * kTokens * payload_bytes(payload, kSegment);
          std::vector<std::int64_t> expected(static_cast<std::size_t>(n * n), 0);
          const auto link = [&](std::int64_t from, std::int64_t to) -> std::int64_t& {
            return expected[static_cast<std::size_t>(from * n + to)];
          };
          for (std::int64_t d = 0; d < n; ++d) {
            if (algorithm == HopAlgorithm::kRing) {
              link(d, (d + 1) % n) = (n - 1) * bytes;
            } else if (d + 1 < n) {
              const bool reduce = work == HopWork::kReduceScatter;
              link(d, d + 1) = (reduce ? n - 1 - d : d + 1) * bytes;
              link(d + 1, d) = (reduce ? d + 1 : n - 1 - d) * bytes;
            }
          }
          for (const int ranks : {1, 4, 8, 32}) {
            std::mutex mutex;
            std::vector<std::int64_t> sum(expected.size(), 0);
            std::uint64_t sent = 0;
            test::on_ranks(ranks, [&](test::ThreadTransport& transport) {
              ThreadTeam team(1);
              Mesh mesh = *Mesh::create(kGalaxy, plan_of(c), team, &transport);
              Buffers b(c, mesh.block());
              MeshTensor out = b.tensor(b.out, kShardFeatures);
              if (work == HopWork::kReduceScatter) {
                MeshTensor in = b.tensor(b.in, kPartial);
                mesh.reduce_scatter(in, axis, Use::kQkv, out);
              } else {
                mesh.all_gather(out, axis, Use::kQkv);
              }
              EXPECT_EQ(mesh.traffic().collectives, 1);
              const std::lock_guard lock(mutex);
              const auto& hops = mesh.traffic().hops[static_cast<std::size_t>(axis)];
              for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += hops[i];
              EXPECT_EQ(std::accumulate(hops.begin(), hops.end(), std::int64_t{0}),
                        mesh.traffic().bytes);
              sent += transport.bytes_sent();
            });
            EXPECT_EQ(sum, expected) << name_of(c, ranks);
            // Of these hops, those between ranks.
            const RankGrid grid = *share_mesh(kGalaxy, ranks);
            const std::int64_t per_rank =
                axis == Axis::kRows ? kGalaxy.rows / grid.over_rows : kGalaxy.cols / grid.over_cols;
            std::uint64_t between = 0;
            for (std::int64_t i = 0; i < n * n; ++i) {
              if (i / n / per_rank != i % n / per_rank) {
                between += static_cast<std::uint64_t>(expected[static_cast<std::size_t>(i)]);
              }
            }
            EXPECT_EQ(sent, between) << name_of(c, ranks);
          }
        }
      }
    }
  }
}

TEST(CollectivesDeathTest, WrongPlacementsAreOurMistake) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ThreadTeam team(1);
  Mesh mesh = *Mesh::create({2, 1}, {}, team);
  std::vector<float> data(8);
  MeshTensor t;
  t.name = "some tensor";
  t.data = reinterpret_cast<std::byte*>(data.data());
  t.tokens = 1;
  t.width = t.slice = 4;
  MeshTensor out = t;
  EXPECT_DEATH(mesh.all_reduce(t, Axis::kRows, Use::kWo, out), "kPartial");
  EXPECT_DEATH(mesh.all_gather(t, Axis::kRows, Use::kWo), "kShard");
  EXPECT_DEATH(expect_placement(t, kReplicate, kShardFeatures), "some tensor is replicated");
}

}  // namespace
}  // namespace tg
