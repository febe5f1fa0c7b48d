// What a mesh promises beside its sums: nothing happens on an axis of one device, tensors that do
// not lie as they must end the program, and a transport learns where in the work it is.
#include <gtest/gtest.h>

#include <optional>

#include "mesh/mesh.h"
#include "thread_ranks.h"

namespace tg {
namespace {

MeshTensor tensor(std::vector<float>& data, Placement rows, Placement cols) {
  MeshTensor t;
  t.name = "some tensor";
  t.data = reinterpret_cast<std::byte*>(data.data());
  t.tokens = 1;
  t.width = t.slice = 6;
  t.rows = rows;
  t.cols = cols;
  return t;
}

// The one summand is the sum, in its own format whatever the links', and no link is crossed.

TEST(Mesh, OnAnAxisOfOneNothingCrosses) {
  ThreadTeam team(1);
  CollectivePlan plan;
  plan.payload = PayloadDType::kBfp8;
  for (const Axis axis : {Axis::kRows, Axis::kCols}) {
    Mesh mesh = *Mesh::create(axis == Axis::kRows ? MeshShape{1, 2} : MeshShape{2, 1}, plan, team);
    const std::vector<float> numbers = {1.1F, 2.2F, -3.3F, 4.4e-9F, 5.5F, 6.6F};
    std::vector<float> in = numbers;
    std::vector<float> out(6);
    MeshTensor partial = tensor(in, kReplicate, kReplicate);
    partial.place(axis, kPartial);
    MeshTensor sum = tensor(out, kReplicate, kReplicate);
    mesh.reduce_scatter(partial, axis, Use::kWo, sum);
    EXPECT_EQ(out, numbers);
    mesh.all_gather(sum, axis, Use::kWo);
    EXPECT_EQ(out, numbers);
    mesh.all_reduce(partial, axis, Use::kWo, sum);
    EXPECT_EQ(out, numbers);
    EXPECT_EQ(mesh.traffic().collectives, 0);
    EXPECT_EQ(mesh.traffic().bytes, 0);
  }
}

TEST(Mesh, CountsCollectivesAlikeAloneAndOverRanks) {
  for (const int ranks : {1, 2}) {
    test::on_ranks(ranks, [](Transport& transport) {
      ThreadTeam team(1);
      Mesh mesh = *Mesh::create({2, 1}, {}, team, &transport);
      std::vector<float> in(12, 1.0F);
      std::vector<float> out(6);
      MeshTensor sum = tensor(out, kReplicate, kReplicate);
      mesh.all_reduce(tensor(in, kPartial, kReplicate), Axis::kRows, Use::kWo, sum);
      EXPECT_EQ(mesh.traffic().collectives, 2);
      mesh.reset_traffic();
      EXPECT_EQ(mesh.traffic().collectives, 0);
      EXPECT_EQ(mesh.traffic().hops[0], std::vector<std::int64_t>(4, 0));
    });
  }
}

// Ranks of a mesh, of which this one remembers the last position.

class Remembers : public test::ThreadTransport {
 public:
  using ThreadTransport::ThreadTransport;
  void exchange(const Position& at, std::span<const Outgoing> sends,
                std::span<const Incoming> receives) override {
    last = at;
    ThreadTransport::exchange(at, sends, receives);
  }
  Position last;
};

// A watchdog tells of it later, so it does not end with the mesh.

TEST(Mesh, PositionsOutliveIt) {
  test::PostOffice office;
  const auto rank = [&](int r) {
    Remembers transport(office, r, 2);
    ThreadTeam team(1);
    {
      Mesh mesh = *Mesh::create({2, 1}, {}, team, &transport);
      mesh.set_step(17);
      mesh.set_layer(3);
      std::vector<float> data(6);
      MeshTensor t = tensor(data, kShardFeatures, kReplicate);
      mesh.all_gather(t, Axis::kRows, Use::kFf2);
    }
    EXPECT_EQ(std::string(transport.last.collective), "all_gather FF2 over rows, ring");
    EXPECT_EQ(transport.last.step, 17);
    EXPECT_EQ(transport.last.layer, 3);
  };
  std::thread other([&] { rank(1); });
  rank(0);
  other.join();
}

TEST(MeshDeathTest, TensorsThatDoNotLieAsTheyMust) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ThreadTeam team(1);
  Mesh mesh = *Mesh::create({2, 2}, {}, team);
  std::vector<float> data(24);
  std::vector<float> more(24);
  MeshTensor out = tensor(more, kReplicate, kReplicate);
  constexpr Axis kRows = Axis::kRows;

  MeshTensor whole = tensor(data, kReplicate, kReplicate);
  EXPECT_DEATH(mesh.reduce_scatter(whole, kRows, Use::kWo, out), "kPartial");
  MeshTensor shards = tensor(data, kShardFeatures, kReplicate);
  EXPECT_DEATH(mesh.reduce_scatter(shards, kRows, Use::kWo, out), "kPartial");
  EXPECT_DEATH(mesh.all_reduce(shards, kRows, Use::kWo, out), "kPartial");
  MeshTensor partial = tensor(data, kPartial, kReplicate);
  EXPECT_DEATH(mesh.all_gather(partial, kRows, Use::kWo), "kShard");
  EXPECT_DEATH(mesh.reduce_scatter(partial, Axis::kCols, Use::kWo, out), "kPartial");

  MeshTensor narrow = out;
  narrow.width = 5;
  EXPECT_DEATH(mesh.reduce_scatter(partial, kRows, Use::kWo, narrow), "width");
  EXPECT_DEATH(mesh.all_reduce(partial, kRows, Use::kWo, narrow), "width");
  MeshTensor longer = out;
  longer.tokens = 2;
  EXPECT_DEATH(mesh.all_reduce(partial, kRows, Use::kWo, longer), "tokens");
  MeshTensor bf16 = out;
  bf16.dtype = ComputeDType::kBf16;
  EXPECT_DEATH(mesh.reduce_scatter(partial, kRows, Use::kWo, bf16), "kF32");
  EXPECT_DEATH(mesh.all_reduce(partial, kRows, Use::kWo, bf16), "kF32");

  // A token's summands on some columns only, or summands over both axes, have no sum.
  MeshTensor by_tokens = tensor(data, kPartial, kShardTokens);
  EXPECT_DEATH(mesh.all_reduce(by_tokens, kRows, Use::kWo, out), "other");
  MeshTensor twice = tensor(data, kPartial, kPartial);
  EXPECT_DEATH(mesh.all_reduce(twice, kRows, Use::kWo, out), "other");
  // Devices of a column have equal shares of the features in a buffer.
  MeshTensor uneven = tensor(data, kShardFeatures, kPartial);
  uneven.width = 5;
  MeshTensor uneven_out = uneven;
  EXPECT_DEATH(mesh.all_reduce(uneven, Axis::kCols, Use::kWo, uneven_out), "width % ");
  MeshTensor uncut = tensor(data, kReplicate, kShardTokens);
  EXPECT_DEATH(mesh.all_gather(uncut, Axis::kCols, Use::kSdpa), "token_cuts");
}

TEST(MeshDeathTest, ExpectPlacementSaysWhatAndHow) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::vector<float> data(6);
  const MeshTensor t = tensor(data, kPartial, kShardTokens);
  expect_placement(t, kPartial, kShardTokens);
  EXPECT_DEATH(expect_placement(t, kReplicate, kShardTokens),
               "tensor some tensor is partial over rows and sharded by tokens over columns; the "
               "operation needs replicated and sharded by tokens");
  EXPECT_DEATH(expect_placement(t, kPartial, kShardFeatures),
               "the operation needs partial and sharded by features");
}

}  // namespace
}  // namespace tg
