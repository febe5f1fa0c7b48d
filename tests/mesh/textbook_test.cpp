// Collectives beside the textbook's devices (textbook_devices.h): the same bits and the same bytes
// per link, in one process and over ranks; widths that nothing divides, the other axis sharded or
// replicated, f32 and bf16.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>

#include "base/bf16.h"
#include "mesh/mesh.h"
#include "textbook_devices.h"
#include "thread_ranks.h"

namespace tg {
namespace {

using test::Floats;
using test::TextbookDevices;

// What lies where nothing was put: a NaN, which would show in every sum.
constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();
constexpr float kBefore = 3.0F;  // of an all_reduce that adds

struct Setting {
  MeshShape mesh;
  Axis axis = Axis::kRows;
  HopAlgorithm algorithm = HopAlgorithm::kRing;  // of the reduce-scatter
  HopAlgorithm gather = HopAlgorithm::kRing;
  PayloadDType payload = PayloadDType::kF32;
  Placement other;  // over the other axis: replicated or sharded by features
  std::int64_t tokens = 1;
  std::int64_t width = 1;  // features of the whole mesh

  Axis other_axis() const { return axis == Axis::kRows ? Axis::kCols : Axis::kRows; }
  std::int64_t n() const { return mesh.length(axis); }
  std::int64_t groups() const { return mesh.length(other_axis()); }
  bool shared_out() const { return other == kShardFeatures; }
  CollectivePlan plan() const {
    CollectivePlan plan;
    plan.reduce_scatter.fill(algorithm);
    plan.all_gather.fill(gather);
    plan.payload = payload;
    return plan;
  }
};

std::string text(const Setting& s, int ranks) {
  const auto way = [](HopAlgorithm a) { return a == HopAlgorithm::kRing ? "ring" : "line"; };
  return fmt::format("mesh {} over {}, {} and {}, {}, {} tokens of {}, other axis {}, {} ranks",
                     text(s.mesh), name(s.axis), way(s.algorithm), way(s.gather), name(s.payload),
                     s.tokens, s.width, s.shared_out() ? "sharded" : "replicated", ranks);
}

// The features of the whole that the devices of one group work on.
std::pair<std::int64_t, std::int64_t> lane_of(const Setting& s, std::int64_t group) {
  if (!s.shared_out()) return {0, s.width};
  return {s.width * group / s.groups(), s.width * (group + 1) / s.groups()};
}

// Some number of twelve magnitudes for each device along the axis and place in the whole.
float textbook_value(std::int64_t device, std::int64_t token, std::int64_t feature) {
  auto z = static_cast<std::uint64_t>((device * 1000 + token) * 100000 + feature + 1);
  z = (z ^ (z >> 31)) * 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 29)) * 0xbf58476d1ce4e5b9U;
  const auto fraction = static_cast<float>(static_cast<std::int32_t>(z >> 32)) * 0x1p-31F;
  return std::ldexp(fraction, static_cast<int>(z % 12));
}

Floats summand(const Setting& s, std::int64_t device, std::int64_t token) {
  Floats row;
  for (std::int64_t f = 0; f < s.width; ++f) row.push_back(textbook_value(device, token, f));
  return row;
}

std::vector<Floats> in_segments(const Floats& lane, std::int64_t n) {
  const auto width = static_cast<std::int64_t>(lane.size());
  std::vector<Floats> segments;
  segments.reserve(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    segments.emplace_back(lane.begin() + width * i / n, lane.begin() + width * (i + 1) / n);
  }
  return segments;
}

Floats joined(const std::vector<Floats>& segments) {
  Floats row;
  for (const Floats& s : segments) row.insert(row.end(), s.begin(), s.end());
  return row;
}

// ---- what the textbook says about a setting

struct Expected {
  // [group][token]: the features of the group's lane
  std::vector<std::vector<Floats>> scattered;
  std::vector<std::vector<Floats>> reduced;
  std::vector<std::vector<Floats>> gathered_bf16;  // of device 0's summands, rounded to bf16
  std::vector<std::int64_t> scatter_bytes;         // [from * n + to], of all groups
  std::vector<std::int64_t> gather_bytes;
  std::vector<std::int64_t> gather_bf16_bytes;
};

Floats as_bf16(Floats row) {
  for (float& x : row) x = to_float(to_bf16(x));
  return row;
}

void expect_about_the_sum(const Setting& s, const std::vector<Floats>& summands,
                          const Floats& result) {
  const double rounding = s.payload == PayloadDType::kF32    ? 0x1p-23
                          : s.payload == PayloadDType::kBf16 ? 0x1p-8
                                                             : 0x1p-7;
  double sizes = 0;  // no partial sum is larger
  for (const Floats& row : summands) {
    double largest = 0;
    for (const float x : row) largest = std::max(largest, std::fabs(static_cast<double>(x)));
    sizes += largest;
  }
  for (std::size_t i = 0; i < result.size(); ++i) {
    double sum = 0;
    for (const Floats& row : summands) sum += static_cast<double>(row[i]);
    // Each hop rounds once on the link and once in the addition.
    ASSERT_NEAR(result[i], sum, 2 * static_cast<double>(s.n()) * rounding * sizes) << text(s, 0);
  }
}

Expected textbook(const Setting& s) {
  Expected e;
  TextbookDevices scatter(s.n(), s.algorithm, s.payload);
  TextbookDevices gather(s.n(), s.gather, s.payload);
  // A value crosses in no wider format than it has.
  TextbookDevices gather_bf16(s.n(), s.gather,
                              s.payload == PayloadDType::kF32 ? PayloadDType::kBf16 : s.payload);
  const auto lane_row = [&](std::int64_t group, std::int64_t device, std::int64_t token) {
    const auto [begin, end] = lane_of(s, group);
    const Floats whole = summand(s, device, token);
    return Floats(whole.begin() + begin, whole.begin() + end);
  };
  for (std::int64_t g = 0; g < s.groups(); ++g) {
    e.scattered.emplace_back();
    e.reduced.emplace_back();
    e.gathered_bf16.emplace_back();
    for (std::int64_t t = 0; t < s.tokens; ++t) {
      std::vector<Floats> summands;
      std::vector<std::vector<Floats>> segments;
      for (std::int64_t d = 0; d < s.n(); ++d) {
        summands.push_back(lane_row(g, d, t));
        segments.push_back(in_segments(summands.back(), s.n()));
      }
      const std::vector<Floats> owned = scatter.reduce_scatter(segments);
      const auto copies = gather.all_gather(owned);
      const auto copies_bf16 = gather_bf16.all_gather(in_segments(as_bf16(summands[0]), s.n()));
      for (std::size_t d = 1; d < copies.size(); ++d) {
        EXPECT_EQ(copies[d], copies[0]);
        EXPECT_EQ(copies_bf16[d], copies_bf16[0]);
      }
      e.scattered.back().push_back(joined(owned));
      e.reduced.back().push_back(joined(copies[0]));
      e.gathered_bf16.back().push_back(joined(copies_bf16[0]));
      expect_about_the_sum(s, summands, e.scattered.back().back());
    }
  }
  e.scatter_bytes = scatter.bytes();
  e.gather_bytes = gather.bytes();
  e.gather_bf16_bytes = gather_bf16.bytes();
  return e;
}

// ---- one process or rank

// The memory of one process for a tensor: which features of its buffer are which of the whole.
// Shards over rows are kept for the rows of this process only, shards over columns for all.
class Memory {
 public:
  Memory(const Setting& s, const Mesh& mesh)
      : s_(s), block_(mesh.block()), first_group_(block_.begin(s.other_axis())) {
    const bool own_rows_only = s.shared_out() && s.other_axis() == Axis::kRows;
    offset_ = own_rows_only ? lane_of(s, first_group_).first : 0;
    const std::int64_t last = first_group_ + block_.length(s.other_axis()) - 1;
    width_ = own_rows_only ? lane_of(s, last).second - offset_ : s.width;
  }

  std::int64_t first_group() const { return first_group_; }
  std::int64_t groups() const { return block_.length(s_.other_axis()); }
  std::size_t size() const { return static_cast<std::size_t>(s_.tokens * width_); }
  // Place in a buffer of the first feature of a lane.
  std::size_t at(std::int64_t token, std::int64_t group) const {
    return static_cast<std::size_t>(token * width_ + lane_of(s_, group).first - offset_);
  }

  // The summands of this process's devices, in the lanes of its groups.
  Floats summands() const {
    Floats all(static_cast<std::size_t>(block_.length(s_.axis)) * size(), kNothing);
    for (std::int64_t d = 0; d < block_.length(s_.axis); ++d) {
      put(block_.begin(s_.axis) + d, all.data() + static_cast<std::size_t>(d) * size());
    }
    return all;
  }
  // Device 0's summand: all of it in the lanes of this process's groups.
  Floats one_row() const {
    Floats all(size(), kNothing);
    put(0, all.data());
    return all;
  }
  // Nothing is left of the segments that are not this process's.
  void forget_foreign_segments(Floats& all) const {
    for (std::int64_t t = 0; t < s_.tokens; ++t) {
      for (std::int64_t g = first_group_; g < first_group_ + groups(); ++g) {
        for (std::int64_t i = 0; i < s_.n(); ++i) {
          if (owns(i)) continue;
          const auto [begin, end] = segment(g, i);
          std::fill_n(all.data() + at(t, g) + begin, end - begin, kNothing);
        }
      }
    }
  }

  bool owns(std::int64_t segment) const {
    const std::int64_t begin = block_.begin(s_.axis);
    return segment >= begin && segment < begin + block_.length(s_.axis);
  }
  // Features of a lane, from the lane's begin.
  std::pair<std::size_t, std::size_t> segment(std::int64_t group, std::int64_t i) const {
    const auto [begin, end] = lane_of(s_, group);
    return {static_cast<std::size_t>((end - begin) * i / s_.n()),
            static_cast<std::size_t>((end - begin) * (i + 1) / s_.n())};
  }

  MeshTensor tensor(void* data, Placement along, ComputeDType dtype = ComputeDType::kF32) const {
    MeshTensor t;
    t.name = "test";
    t.data = static_cast<std::byte*>(data);
    t.dtype = dtype;
    t.tokens = s_.tokens;
    t.width = width_;
    t.slice = s_.tokens * width_;
    t.place(s_.axis, along);
    t.place(s_.other_axis(), s_.other);
    return t;
  }

 private:
  void put(std::int64_t device, float* to) const {
    for (std::int64_t t = 0; t < s_.tokens; ++t) {
      const Floats row = summand(s_, device, t);
      for (std::int64_t g = first_group_; g < first_group_ + groups(); ++g) {
        const auto [begin, end] = lane_of(s_, g);
        std::copy(row.begin() + begin, row.begin() + end, to + at(t, g));
      }
    }
  }

  const Setting& s_;
  DeviceBlock block_;
  std::int64_t first_group_;
  std::int64_t offset_ = 0;
  std::int64_t width_ = 0;
};

bool same_bits(const float* a, const float* b, std::size_t count) {
  return count == 0 || std::memcmp(a, b, count * sizeof(float)) == 0;
}

void expect_lanes(const Memory& memory, const Setting& s, const Floats& got,
                  const std::vector<std::vector<Floats>>& expected, float before,
                  const std::string& where) {
  for (std::int64_t g = memory.first_group(); g < memory.first_group() + memory.groups(); ++g) {
    for (std::int64_t t = 0; t < s.tokens; ++t) {
      Floats lane = expected[static_cast<std::size_t>(g)][static_cast<std::size_t>(t)];
      if (before != 0) {
        for (float& x : lane) x = before + x;
      }
      EXPECT_TRUE(same_bits(got.data() + memory.at(t, g), lane.data(), lane.size()))
          << where << ", token " << t << ", group " << g;
    }
  }
}

// Of a reduce-scatter: the owned segments, and nothing written in the others.
void expect_own_segments(const Memory& memory, const Setting& s, const Floats& got,
                         const Expected& e, const std::string& where) {
  for (std::int64_t g = memory.first_group(); g < memory.first_group() + memory.groups(); ++g) {
    for (std::int64_t t = 0; t < s.tokens; ++t) {
      const Floats& lane = e.scattered[static_cast<std::size_t>(g)][static_cast<std::size_t>(t)];
      for (std::int64_t i = 0; i < s.n(); ++i) {
        const auto [begin, end] = memory.segment(g, i);
        const float* values = got.data() + memory.at(t, g);
        if (memory.owns(i)) {
          EXPECT_TRUE(same_bits(values + begin, lane.data() + begin, end - begin))
              << where << ", segment " << i;
        } else {
          EXPECT_TRUE(std::all_of(values + begin, values + end, [](float x) { return x == 0; }))
              << where << ", segment " << i << " is not this rank's";
        }
      }
    }
  }
}

// Bytes of the whole mesh, summed over ranks.
struct Counted {
  std::mutex mutex;
  std::vector<std::int64_t> scatter, gather, gather_bf16;
  std::uint64_t sent = 0;
};

void add_hops(std::vector<std::int64_t>& sum, const Mesh& mesh, Axis axis) {
  const std::vector<std::int64_t>& hops = mesh.traffic().hops[static_cast<std::size_t>(axis)];
  sum.resize(hops.size());
  for (std::size_t i = 0; i < hops.size(); ++i) sum[i] += hops[i];
}

void check_rank(const Setting& s, const Expected& e, Transport* transport, Counted& counted) {
  ThreadTeam team(transport == nullptr ? 2 : 1);
  auto made = Mesh::create(s.mesh, s.plan(), team, transport);
  ASSERT_TRUE(made) << made.error().text();
  Mesh& mesh = *made;
  const Memory memory(s, mesh);
  const std::string where = text(s, transport == nullptr ? 1 : transport->ranks());
  const auto count = [&](std::vector<std::int64_t> Counted::* what) {
    const std::lock_guard lock(counted.mutex);
    add_hops(counted.*what, mesh, s.axis);
    mesh.reset_traffic();
  };

  const Floats summands = memory.summands();
  Floats in = summands;
  Floats out(memory.size(), 0.0F);
  MeshTensor partial = memory.tensor(in.data(), kPartial);
  MeshTensor result = memory.tensor(out.data(), kReplicate);
  mesh.reduce_scatter(partial, s.axis, Use::kFf1, result);
  count(&Counted::scatter);
  EXPECT_EQ(result.placement(s.axis), kShardFeatures);
  EXPECT_EQ(result.placement(s.other_axis()), s.other);
  expect_own_segments(memory, s, out, e, where + ", reduce_scatter");

  memory.forget_foreign_segments(out);
  mesh.all_gather(result, s.axis, Use::kFf3);
  count(&Counted::gather);
  EXPECT_EQ(result.placement(s.axis), kReplicate);
  expect_lanes(memory, s, out, e.reduced, 0, where + ", all_gather");

  Floats narrow = as_bf16(memory.one_row());
  memory.forget_foreign_segments(narrow);
  std::vector<Bf16> elements(narrow.size());
  std::transform(narrow.begin(), narrow.end(), elements.begin(), to_bf16);
  MeshTensor bf16 = memory.tensor(elements.data(), kShardFeatures, ComputeDType::kBf16);
  mesh.all_gather(bf16, s.axis, Use::kFf3);
  count(&Counted::gather_bf16);
  std::transform(elements.begin(), elements.end(), narrow.begin(),
                 [](Bf16 x) { return to_float(x); });
  expect_lanes(memory, s, narrow, e.gathered_bf16, 0, where + ", all_gather of bf16");

  in = summands;
  std::fill(out.begin(), out.end(), kNothing);
  MeshTensor reduced = memory.tensor(out.data(), kReplicate);
  mesh.all_reduce(partial, s.axis, Use::kWo, reduced);
  EXPECT_EQ(reduced.placement(s.axis), kReplicate);
  expect_lanes(memory, s, out, e.reduced, 0, where + ", all_reduce");

  in = summands;
  std::fill(out.begin(), out.end(), kBefore);
  MeshTensor sum = memory.tensor(out.data(), kReplicate);
  mesh.all_reduce(partial, s.axis, Use::kFf2, sum, true);
  expect_lanes(memory, s, out, e.reduced, kBefore, where + ", all_reduce that adds");

  // Twice all_reduce has crossed each link as often as both of its parts twice.
  std::int64_t both = 0;
  for (const std::int64_t bytes : mesh.traffic().hops[static_cast<std::size_t>(s.axis)]) {
    both += bytes;
  }
  EXPECT_EQ(both, mesh.traffic().bytes);
  if (transport == nullptr) {
    std::int64_t expected = 0;
    for (const std::int64_t bytes : e.scatter_bytes) expected += 2 * bytes;
    for (const std::int64_t bytes : e.gather_bytes) expected += 2 * bytes;
    EXPECT_EQ(both, expected) << where;
  } else {
    const std::lock_guard lock(counted.mutex);
    counted.sent += transport->bytes_sent();
  }
}

// Bytes of hops between ranks. A process sends replicas, of which it has one, once.
std::uint64_t between_ranks(const Setting& s, const RankGrid& grid, const Expected& e) {
  const DeviceBlock block = grid.block(0);
  const std::int64_t per_rank = block.length(s.axis);
  const std::int64_t copies = s.shared_out() ? 1 : block.length(s.other_axis());
  std::int64_t bytes = 0;
  for (std::int64_t from = 0; from < s.n(); ++from) {
    for (std::int64_t to = 0; to < s.n(); ++to) {
      if (from / per_rank == to / per_rank) continue;
      const auto i = static_cast<std::size_t>(from * s.n() + to);
      // reduce_scatter, all_gather, the same of bf16, and two all_reduces
      bytes += 3 * (e.scatter_bytes[i] + e.gather_bytes[i]) + e.gather_bf16_bytes[i];
    }
  }
  return static_cast<std::uint64_t>(bytes / copies);
}

void check(const Setting& s) {
  const Expected e = textbook(s);
  const auto compare = [&](const Counted& counted, int ranks) {
    EXPECT_EQ(counted.scatter, e.scatter_bytes) << text(s, ranks);
    EXPECT_EQ(counted.gather, e.gather_bytes) << text(s, ranks);
    EXPECT_EQ(counted.gather_bf16, e.gather_bf16_bytes) << text(s, ranks);
  };
  Counted alone;
  check_rank(s, e, nullptr, alone);
  compare(alone, 1);
  for (int ranks = 1; ranks <= s.mesh.devices(); ++ranks) {
    const auto grid = share_mesh(s.mesh, ranks);
    if (!grid) continue;
    Counted counted;
    test::on_ranks(ranks, [&](Transport& transport) { check_rank(s, e, &transport, counted); });
    compare(counted, ranks);
    EXPECT_EQ(counted.sent, between_ranks(s, *grid, e)) << text(s, ranks);
  }
}

// Every mesh, axis, reduce algorithm and payload with both placements of the other axis; tokens,
// widths and the gather's algorithm take turns.
std::vector<Setting> settings(const std::vector<MeshShape>& meshes) {
  std::vector<Setting> all;
  std::size_t i = 0;
  for (const MeshShape& mesh : meshes) {
    for (const Axis axis : {Axis::kRows, Axis::kCols}) {
      for (const HopAlgorithm algorithm : {HopAlgorithm::kRing, HopAlgorithm::kLine}) {
        for (const PayloadDType payload :
             {PayloadDType::kF32, PayloadDType::kBf16, PayloadDType::kBfp8}) {
          for (const Placement other : {kReplicate, kShardFeatures}) {
            Setting s{mesh, axis, algorithm, algorithm, payload, other, 1, 1};
            if (i % 4 == 3) s.gather = HopAlgorithm::kLine;
            constexpr std::int64_t kTokens[] = {1, 5, 1, 1, 33, 5, 1};
            constexpr std::int64_t kWidths[] = {67, 131, 2, 45, 299};
            s.tokens = kTokens[i % 7];
            s.width = kWidths[i % 5];
            if (s.tokens == 33) s.width = 45;  // the textbook is slow
            // Devices of a column that shard features have equal shares.
            if (s.shared_out() && axis == Axis::kCols) {
              s.width = (s.width / mesh.rows + 1) * mesh.rows;
            }
            all.push_back(s);
            ++i;
          }
        }
      }
    }
  }
  return all;
}

TEST(Textbook, SmallMeshes) {
  for (const Setting& s : settings({{1, 1}, {1, 2}, {2, 1}, {2, 2}, {3, 3}, {4, 2}})) check(s);
}

TEST(Textbook, LongAxes) {
  for (const Setting& s : settings({{8, 1}, {1, 8}, {1, 9}})) check(s);
}

TEST(Textbook, Galaxy) {
  for (const Setting& s : settings({kGalaxy})) check(s);
}

}  // namespace
}  // namespace tg
