// What collectives must give: an independent simulation of devices that send each other messages,
// the cases, and the check of one process or rank against it. Used within one process, over ranks
// that are threads, and over MPI.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>

#include "mesh/mesh.h"

namespace tg::test {

using Row = std::vector<float>;

// ---- the oracle: one group of n devices, each with its own vector

inline std::pair<std::size_t, std::size_t> segment_of(std::size_t width, std::size_t s,
                                                      std::size_t n) {
  return {width * s / n, width * (s + 1) / n};
}

inline Row over_a_link(PayloadDType payload, Row row) {
  round_payload(payload, row);
  return row;
}

inline Row plus(const Row& a, const Row& b) {
  Row sum(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) sum[i] = a[i] + b[i];
  return sum;
}

// What each segment's owner has at the end, put side by side.
inline Row simulated_reduce_scatter(HopAlgorithm algorithm, PayloadDType payload,
                                    const std::vector<Row>& summands) {
  const std::size_t n = summands.size();
  const std::size_t width = summands[0].size();
  const auto own = [&](std::size_t d, std::size_t s) {
    const auto [begin, end] = segment_of(width, s, n);
    return Row(summands[d].begin() + static_cast<std::ptrdiff_t>(begin),
               summands[d].begin() + static_cast<std::ptrdiff_t>(end));
  };
  std::vector<Row> result(n);
  if (algorithm == HopAlgorithm::kRing) {
    // In each step every device sends the segment it worked on last to its right neighbour.
    std::vector<std::size_t> segment(n);
    std::vector<Row> held(n);
    for (std::size_t d = 0; d < n; ++d) {
      segment[d] = (d + n - 1) % n;
      held[d] = own(d, segment[d]);
    }
    for (std::size_t step = 1; step < n; ++step) {
      std::vector<Row> mail(n);
      std::vector<std::size_t> mail_segment(n);
      for (std::size_t d = 0; d < n; ++d) {
        mail[(d + 1) % n] = over_a_link(payload, held[d]);
        mail_segment[(d + 1) % n] = segment[d];
      }
      for (std::size_t d = 0; d < n; ++d) {
        segment[d] = mail_segment[d];
        held[d] = plus(mail[d], own(d, segment[d]));
      }
    }
    for (std::size_t d = 0; d < n; ++d) result[segment[d]] = held[d];
  } else {
    for (std::size_t s = 0; s < n; ++s) {
      Row from_left = own(0, s);
      for (std::size_t d = 1; d <= s; ++d) {
        from_left = plus(over_a_link(payload, from_left), own(d, s));
      }
      result[s] = from_left;
      if (s + 1 == n) continue;
      Row from_right = own(n - 1, s);
      for (std::size_t d = n - 1; d-- > s + 1;) {
        from_right = plus(over_a_link(payload, from_right), own(d, s));
      }
      result[s] = plus(result[s], over_a_link(payload, from_right));
    }
  }
  Row whole;
  for (const Row& part : result) whole.insert(whole.end(), part.begin(), part.end());
  return whole;
}

inline Row simulated_all_gather(PayloadDType payload, const Row& whole, std::size_t n) {
  Row gathered;
  for (std::size_t s = 0; s < n; ++s) {
    const auto [begin, end] = segment_of(whole.size(), s, n);
    const Row part = over_a_link(payload, Row(whole.begin() + static_cast<std::ptrdiff_t>(begin),
                                              whole.begin() + static_cast<std::ptrdiff_t>(end)));
    gathered.insert(gathered.end(), part.begin(), part.end());
  }
  return gathered;
}

// ---- the case: summands of all devices of the mesh, and what one process or rank makes of them

struct Case {
  MeshShape mesh;
  Axis axis;
  HopAlgorithm algorithm;
  PayloadDType payload;
  std::int64_t tokens;
  std::int64_t lane_width;  // features of each group of devices along the axis
};

inline std::string name_of(const Case& c, std::int64_t ranks) {
  return fmt::format("mesh {} over {}, {}, {}, {} tokens of {}, {} ranks", text(c.mesh),
                     name(c.axis), c.algorithm == HopAlgorithm::kRing ? "ring" : "line",
                     name(c.payload), c.tokens, c.lane_width, ranks);
}

// Some number for each place, of twelve magnitudes.
inline float value(const Case& c, std::int64_t device, std::int64_t token, std::int64_t feature) {
  auto z =
      static_cast<std::uint64_t>(((device * 100 + token) * 10000 + feature) * 5000 + c.lane_width);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  const auto fraction = static_cast<float>(static_cast<std::int32_t>(z >> 32)) * 0x1p-31F;
  return std::ldexp(fraction, static_cast<int>(z % 12));
}

inline CollectivePlan plan_of(const Case& c) {
  CollectivePlan plan;
  plan.set_all(c.algorithm);
  plan.payload = c.payload;
  return plan;
}

// One group of devices per index along the other axis; its features are lane `group` of the tensor.
inline std::vector<Row> summands_of(const Case& c, std::int64_t group, std::int64_t token) {
  std::vector<Row> rows;
  for (std::int64_t d = 0; d < c.mesh.length(c.axis); ++d) {
    Row row;
    const std::int64_t device =
        c.axis == Axis::kRows ? d * c.mesh.cols + group : group * c.mesh.cols + d;
    for (std::int64_t f = 0; f < c.lane_width; ++f) row.push_back(value(c, device, token, f));
    rows.push_back(std::move(row));
  }
  return rows;
}

// A partial tensor of one process, and room for a result of the same width.
struct Buffers {
  Buffers(const Case& c, const DeviceBlock& block) : c_(c) {
    const Axis other = c.axis == Axis::kRows ? Axis::kCols : Axis::kRows;
    first_group_ = block.begin(other);
    groups_ = block.length(other);
    // Along rows, features lie over columns at their place in the full width.
    const bool full = other == Axis::kCols;
    width = c.lane_width * (full ? c.mesh.cols : groups_);
    lane_offset_ = full ? first_group_ * c.lane_width : 0;
    first_device_ = block.begin(c.axis);
    devices_ = block.length(c.axis);
    in.assign(static_cast<std::size_t>(devices_ * c.tokens * width), 0.0F);
    out.assign(static_cast<std::size_t>(c.tokens * width), 0.0F);
    for (std::int64_t d = 0; d < devices_; ++d) {
      for (std::int64_t t = 0; t < c.tokens; ++t) {
        for (std::int64_t g = 0; g < groups_; ++g) {
          const Row row =
              summands_of(c, first_group_ + g, t)[static_cast<std::size_t>(first_device_ + d)];
          std::copy(row.begin(), row.end(),
                    in.begin() + (d * c.tokens + t) * width + lane_offset_ + g * c.lane_width);
        }
      }
    }
  }

  MeshTensor tensor(std::vector<float>& data, Placement along) const {
    MeshTensor t;
    t.name = "test";
    t.data = reinterpret_cast<std::byte*>(data.data());
    t.tokens = c_.tokens;
    t.width = width;
    t.slice = c_.tokens * width;
    t.rows = kShardFeatures;
    t.cols = kShardFeatures;
    t.place(c_.axis, along);
    return t;
  }

  // The features of one group and token in `out`.
  Row lane(std::int64_t group, std::int64_t token) const {
    const auto first = out.begin() + token * width + lane_offset_ + group * c_.lane_width;
    return {first, first + c_.lane_width};
  }
  std::int64_t groups() const { return groups_; }
  std::int64_t first_group() const { return first_group_; }

  std::vector<float> in;
  std::vector<float> out;
  std::int64_t width = 0;

 private:
  const Case& c_;
  std::int64_t first_group_ = 0;
  std::int64_t groups_ = 0;
  std::int64_t lane_offset_ = 0;
  std::int64_t first_device_ = 0;
  std::int64_t devices_ = 0;
};

inline bool same_bits(const Row& a, const Row& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// All collectives of the case on one process or rank.
inline void check_rank(const Case& c, Transport* transport) {
  ThreadTeam team(transport == nullptr ? 2 : 1);
  auto made = Mesh::create(c.mesh, plan_of(c), team, transport);
  ASSERT_TRUE(made) << made.error().text();
  Mesh& mesh = *made;
  const std::string where = name_of(c, transport == nullptr ? 1 : transport->ranks());
  const auto n = static_cast<std::size_t>(c.mesh.length(c.axis));
  const auto own_begin = static_cast<std::size_t>(mesh.block().begin(c.axis));
  const auto own_end = own_begin + static_cast<std::size_t>(mesh.block().length(c.axis));
  const auto expected_sum = [&](const Buffers& b, std::int64_t g, std::int64_t t) {
    return simulated_reduce_scatter(c.algorithm, c.payload, summands_of(c, b.first_group() + g, t));
  };

  Buffers b(c, mesh.block());
  MeshTensor in = b.tensor(b.in, kPartial);
  MeshTensor out = b.tensor(b.out, kReplicate);
  mesh.reduce_scatter(in, c.axis, Use::kFf1, out);
  EXPECT_EQ(out.placement(c.axis), kShardFeatures);
  for (std::int64_t t = 0; t < c.tokens; ++t) {
    for (std::int64_t g = 0; g < b.groups(); ++g) {
      const Row expected = expected_sum(b, g, t);
      const Row got = b.lane(g, t);
      for (std::size_t s = own_begin; s < own_end; ++s) {
        const auto [begin, end] = segment_of(expected.size(), s, n);
        for (std::size_t i = begin; i < end; ++i) {
          ASSERT_EQ(got[i], expected[i]) << where << " token " << t << " feature " << i;
        }
      }
      // And it is the sum, as far as its rounding goes.
      const std::vector<Row> summands = summands_of(c, b.first_group() + g, t);
      double largest = 0;
      for (const Row& row : summands) {
        for (const float x : row) largest = std::max(largest, std::fabs(static_cast<double>(x)));
      }
      const double unit = c.payload == PayloadDType::kF32 ? 1e-6 : 0.02;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        double sum = 0;
        for (const Row& row : summands) sum += static_cast<double>(row[i]);
        ASSERT_NEAR(expected[i], sum, unit * largest * static_cast<double>(n)) << where;
      }
    }
  }

  mesh.all_gather(out, c.axis, Use::kFf3);
  EXPECT_EQ(out.placement(c.axis), kReplicate);
  const auto expect_gathered = [&](const Buffers& from, float before, const char* what) {
    for (std::int64_t t = 0; t < c.tokens; ++t) {
      for (std::int64_t g = 0; g < from.groups(); ++g) {
        Row expected = expected_sum(from, g, t);
        if (n > 1) expected = simulated_all_gather(c.payload, expected, n);
        for (float& x : expected) x = before + x;
        ASSERT_TRUE(same_bits(from.lane(g, t), expected)) << where << " " << what;
      }
    }
  };
  expect_gathered(b, 0.0F, "all_gather");

  // An all_reduce is the two after each other.
  Buffers whole(c, mesh.block());
  MeshTensor partial = whole.tensor(whole.in, kPartial);
  MeshTensor reduced = whole.tensor(whole.out, kReplicate);
  mesh.all_reduce(partial, c.axis, Use::kWo, reduced);
  expect_gathered(whole, 0.0F, "all_reduce");

  Buffers added(c, mesh.block());
  std::fill(added.out.begin(), added.out.end(), 3.0F);
  MeshTensor more = added.tensor(added.in, kPartial);
  MeshTensor sum = added.tensor(added.out, kReplicate);
  mesh.all_reduce(more, c.axis, Use::kFf2, sum, true);
  expect_gathered(added, 3.0F, "all_reduce that adds");
}

inline std::vector<Case> cases() {
  std::vector<Case> all;
  std::int64_t i = 0;
  for (const MeshShape& mesh : std::vector<MeshShape>{
           {1, 1}, {1, 2}, {2, 1}, {2, 2}, {4, 2}, {8, 1}, {1, 8}, {8, 4}, {3, 3}}) {
    for (const Axis axis : {Axis::kRows, Axis::kCols}) {
      for (const HopAlgorithm algorithm : {HopAlgorithm::kRing, HopAlgorithm::kLine}) {
        for (const PayloadDType payload :
             {PayloadDType::kF32, PayloadDType::kBf16, PayloadDType::kBfp8}) {
          // Widths that segments, blocks of 16 and vectors do not divide, one beyond a chunk; every
          // width with every other setting over the whole list.
          constexpr std::array<std::int64_t, 5> kWidths = {64, 37, 5, 163, 4200};
          const std::int64_t width = kWidths[static_cast<std::size_t>(i % 5)];
          all.push_back({mesh, axis, algorithm, payload, width > 1000 ? 1 : 1 + i % 3, width});
          ++i;
        }
      }
    }
  }
  return all;
}

}  // namespace tg::test
