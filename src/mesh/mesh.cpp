#include "mesh/mesh.h"

#include <algorithm>
#include <array>

#include "base/bf16.h"
#include "mesh/row_math.h"

namespace tg {
namespace {

// A row of this process's summands that pass a link together with others; floats on the stack.
constexpr std::int64_t kChunk = 512;
static_assert(kChunk % 16 == 0);  // whole blocks of bfp8

const char* name(HopAlgorithm a) { return a == HopAlgorithm::kRing ? "ring" : "line"; }

// The format in which elements of a tensor cross: never wider than they are.
PayloadDType narrower(PayloadDType payload, ComputeDType dtype) {
  const bool widens = payload == PayloadDType::kF32 && dtype == ComputeDType::kBf16;
  return widens ? PayloadDType::kBf16 : payload;
}

// Of what adds the summands of `in` into `out`.
void check_sum(const MeshTensor& in, Axis axis, const MeshTensor& out) {
  TG_CHECK(in.placement(axis) == kPartial && in.width == out.width && in.tokens == out.tokens);
  TG_CHECK(in.dtype == ComputeDType::kF32 && out.dtype == ComputeDType::kF32);
}

bool loses_bits(PayloadDType payload, ComputeDType dtype) {
  return payload == PayloadDType::kBfp8 ||
         (payload == PayloadDType::kBf16 && dtype == ComputeDType::kF32);
}

void load_row(const MeshTensor& t, std::int64_t token, std::int64_t feature, std::span<float> row) {
  if (t.dtype == ComputeDType::kF32) {
    std::copy_n(t.f32(token, feature), row.size(), row.begin());
  } else {
    const auto* from = reinterpret_cast<const Bf16*>(t.at(token, feature));
    std::transform(from, from + row.size(), row.begin(), [](Bf16 x) { return to_float(x); });
  }
}

void store_row(const MeshTensor& t, std::int64_t token, std::int64_t feature,
               std::span<const float> row) {
  if (t.dtype == ComputeDType::kF32) {
    std::copy(row.begin(), row.end(), t.f32(token, feature));
  } else {
    auto* to = reinterpret_cast<Bf16*>(t.at(token, feature));
    std::transform(row.begin(), row.end(), to, [](float x) { return to_bf16(x); });
  }
}

}  // namespace

Result<Mesh> Mesh::create(const MeshShape& shape, const CollectivePlan& plan, ThreadTeam& team,
                          Transport* transport) {
  Mesh mesh;
  const std::int64_t ranks = transport == nullptr ? 1 : transport->ranks();
  TG_ASSIGN(mesh.grid_, share_mesh(shape, ranks));
  mesh.block_ = mesh.grid_.block(transport == nullptr ? 0 : transport->rank());
  mesh.plan_ = plan;
  mesh.team_ = &team;
  mesh.transport_ = transport;
  for (const HopWork work : {HopWork::kReduceScatter, HopWork::kAllGather}) {
    for (const Use use : all_uses()) {
      for (const Axis axis : {Axis::kRows, Axis::kCols}) {
        const char* what = work == HopWork::kReduceScatter ? "reduce_scatter" : "all_gather";
        mesh.schedules_.push_back(
            mesh.make_schedule(work, use, axis,
                               fmt::format("{} {} over {}, {}", what, name(use), tg::name(axis),
                                           name(plan.algorithm(work, use)))));
      }
    }
  }
  mesh.reset_traffic();
  return mesh;
}

Mesh::Schedule Mesh::make_schedule(HopWork work, Use use, Axis axis, std::string what) const {
  Schedule s;
  s.name = std::move(what);
  s.hops = make_hop_schedule(work, plan_.algorithm(work, use), length(axis));
  const std::int64_t devices_per_rank = block_.length(axis);
  for (std::size_t i = 0; i < s.hops.streams.size(); ++i) {
    const Stream& stream = s.hops.streams[i];
    while (static_cast<std::int64_t>(s.first_stream.size()) <= stream.segment) {
      s.first_stream.push_back(i);
    }
    std::vector<Visit> visits;
    for (std::size_t d = 0; d < stream.devices.size(); ++d) {
      const std::int64_t rank = stream.devices[d] / devices_per_rank;
      const auto at = static_cast<std::int64_t>(d);
      // A ring within one process comes back to it: that is a visit of its own only if it left.
      if (visits.empty() || visits.back().rank != rank) visits.push_back({rank, at, at});
      visits.back().last = at;
    }
    s.phases = std::max(s.phases, static_cast<std::int64_t>(visits.size()));
    s.visits.push_back(std::move(visits));
  }
  s.first_stream.push_back(s.hops.streams.size());
  return s;
}

const Mesh::Schedule& Mesh::schedule(HopWork work, Use use, Axis axis) const {
  const auto index = (static_cast<std::size_t>(work) * kUses + static_cast<std::size_t>(use)) * 2 +
                     static_cast<std::size_t>(axis);
  return schedules_[index];
}

int Mesh::peer(Axis axis, std::int64_t rank_along) const {
  const std::int64_t at = rank_along * block_.length(axis);
  return static_cast<int>(axis == Axis::kRows ? grid_.rank_of(at, block_.col_begin)
                                              : grid_.rank_of(block_.row_begin, at));
}

// Each group of devices along the axis works on its own features where the other axis shards them.
void Mesh::list_lanes(const MeshTensor& t, Axis axis) {
  const Placement other = t.placement(axis == Axis::kRows ? Axis::kCols : Axis::kRows);
  TG_CHECK(other == kReplicate || other == kShardFeatures);
  lanes_.clear();
  if (axis == Axis::kCols && t.rows == kShardFeatures) {
    TG_CHECK(t.width % block_.rows() == 0);
    const std::int64_t width = t.width / block_.rows();
    for (std::int64_t r = 0; r < block_.rows(); ++r) lanes_.push_back({r * width, (r + 1) * width});
  } else if (axis == Axis::kRows && t.cols == kShardFeatures) {
    const std::int64_t cols = shape().cols;
    for (std::int64_t c = block_.col_begin; c < block_.col_end; ++c) {
      lanes_.push_back({t.width * c / cols, t.width * (c + 1) / cols});
    }
  } else {
    lanes_.push_back({0, t.width});
  }
}

Mesh::Part Mesh::part(const MeshTensor& t, Axis axis, const Lane& lane,
                      std::int64_t segment) const {
  if (t.placement(axis) == kShardTokens) {
    const auto s = static_cast<std::size_t>(segment);
    return {t.token_cuts[s], t.token_cuts[s + 1], lane.begin, lane.end};
  }
  const std::int64_t n = length(axis);
  const std::int64_t width = lane.end - lane.begin;
  return {0, t.tokens, lane.begin + width * segment / n, lane.begin + width * (segment + 1) / n};
}

void Mesh::reset_traffic() {
  traffic_ = {};
  for (const Axis axis : {Axis::kRows, Axis::kCols}) {
    traffic_.hops[static_cast<std::size_t>(axis)].assign(
        static_cast<std::size_t>(length(axis) * length(axis)), 0);
  }
}

// Follows the streams as the values do.
void Mesh::count(const MeshTensor& t, Axis axis, const Schedule& s, PayloadDType payload) {
  if (length(axis) == 1) return;
  ++traffic_.collectives;
  std::vector<std::int64_t>& hops = traffic_.hops[static_cast<std::size_t>(axis)];
  const std::int64_t begin = block_.begin(axis);
  const std::int64_t end = begin + block_.length(axis);
  // A lane that the other axis does not share out is worked on by every group of this process.
  const Axis other = axis == Axis::kRows ? Axis::kCols : Axis::kRows;
  const std::int64_t groups = block_.length(other) / static_cast<std::int64_t>(lanes_.size());
  for (const Lane& lane : lanes_) {
    for (const Stream& stream : s.hops.streams) {
      const Part p = part(t, axis, lane, stream.segment);
      const std::int64_t bytes =
          groups * (p.token_end - p.token_begin) * payload_bytes(payload, p.width());
      for (std::size_t i = 0; i + 1 < stream.devices.size(); ++i) {
        const std::int64_t from = stream.devices[i];
        if (from < begin || from >= end) continue;
        hops[static_cast<std::size_t>(from * length(axis) + stream.devices[i + 1])] += bytes;
        traffic_.bytes += bytes;
      }
    }
  }
}

void Mesh::reduce_scatter(const MeshTensor& in, Axis axis, Use use, MeshTensor& out) {
  check_sum(in, axis, out);
  if (ranks_along(axis) == 1) {
    sum_here(in, axis, use, out, false, false);
  } else {
    sum_across(in, axis, use, out);
  }
  out.rows = in.rows;
  out.cols = in.cols;
  out.place(axis, kShardFeatures);
}

void Mesh::all_gather(MeshTensor& tensor, Axis axis, Use use) {
  TG_CHECK(tensor.placement(axis).kind == Placement::Kind::kShard);
  if (length(axis) > 1) {
    TG_CHECK(tensor.placement(axis) != kShardTokens ||
             static_cast<std::int64_t>(tensor.token_cuts.size()) == length(axis) + 1);
    const PayloadDType payload = narrower(plan_.payload_of(use), tensor.dtype);
    list_lanes(tensor, axis);
    count(tensor, axis, schedule(HopWork::kAllGather, use, axis), payload);
    if (ranks_along(axis) > 1) {
      gather_across(tensor, axis, use);
    } else if (loses_bits(payload, tensor.dtype)) {
      round_here(tensor, axis, payload);
    }
  }
  tensor.place(axis, kReplicate);
}

void Mesh::all_reduce(const MeshTensor& in, Axis axis, Use use, MeshTensor& out, bool add) {
  check_sum(in, axis, out);
  if (ranks_along(axis) == 1) {
    sum_here(in, axis, use, out, true, add);
  } else {
    MeshTensor sums = out;
    if (add) {
      sums_.resize(std::max(sums_.size(), static_cast<std::size_t>(in.tokens * in.width)));
      sums.data = reinterpret_cast<std::byte*>(sums_.data());
    }
    reduce_scatter(in, axis, use, sums);
    all_gather(sums, axis, use);
    if (add) {
      for (const Lane& lane : lanes_) {
        team_->for_pieces(in.tokens, 1, [&](std::int64_t token, std::int64_t) {
          add_row(out.f32(token, lane.begin), sums.f32(token, lane.begin), lane.end - lane.begin);
        });
      }
    }
  }
  out.rows = in.rows;
  out.cols = in.cols;
  out.place(axis, kReplicate);
}

// Devices of one process read each other's summands, in the order of the algorithm.
void Mesh::sum_here(const MeshTensor& in, Axis axis, Use use, MeshTensor& out, bool gather,
                    bool add) {
  const Schedule& s = schedule(HopWork::kReduceScatter, use, axis);
  const PayloadDType payload = plan_.payload_of(use);
  list_lanes(in, axis);
  count(in, axis, s, payload);
  if (gather) count(in, axis, schedule(HopWork::kAllGather, use, axis), payload);
  const std::int64_t begin = block_.begin(axis);
  const std::int64_t n = length(axis);
  const auto sum_chunk = [&](std::int64_t token, std::int64_t segment, std::int64_t feature,
                             std::int64_t count) {
    std::array<float, kChunk> sum;
    std::array<float, kChunk> arm;
    const auto at = static_cast<std::size_t>(segment);
    for (std::size_t i = s.first_stream[at]; i < s.first_stream[at + 1]; ++i) {
      const Stream& stream = s.hops.streams[i];
      float* values = stream.joins ? arm.data() : sum.data();
      const std::span<float> row(values, static_cast<std::size_t>(count));
      std::copy_n(in.f32(token, feature, stream.devices[0] - begin), count, values);
      const std::size_t own = stream.devices.size() - (stream.joins ? 1 : 0);
      for (std::size_t d = 1; d < own; ++d) {
        round_payload(payload, row);
        add_row(values, in.f32(token, feature, stream.devices[d] - begin), count);
      }
      if (stream.joins) {
        round_payload(payload, row);
        add_row(sum.data(), values, count);
      }
    }
    if (gather && n > 1) round_payload(payload, {sum.data(), static_cast<std::size_t>(count)});
    float* to = out.f32(token, feature);
    if (add) {
      add_row(to, sum.data(), count);
    } else {
      std::copy_n(sum.data(), count, to);
    }
  };
  const auto lanes = static_cast<std::int64_t>(lanes_.size());
  const std::int64_t pieces = in.tokens * lanes * n;
  team_->for_pieces(pieces, std::max<std::int64_t>(1, pieces / (8 * team_->size())),
                    [&](std::int64_t first, std::int64_t last) {
                      for (std::int64_t i = first; i < last; ++i) {
                        const std::int64_t token = i / (lanes * n);
                        const std::int64_t segment = i % n;
                        const Part p = part(
                            in, axis, lanes_[static_cast<std::size_t>(i / n % lanes)], segment);
                        for (std::int64_t f = p.feature_begin; f < p.feature_end; f += kChunk) {
                          sum_chunk(token, segment, f, std::min(kChunk, p.feature_end - f));
                        }
                      }
                    });
}

// A gather within one process moves nothing, but the values have passed a link.
void Mesh::round_here(const MeshTensor& tensor, Axis axis, PayloadDType payload) {
  for (const Lane& lane : lanes_) {
    for (std::int64_t segment = 0; segment < length(axis); ++segment) {
      const Part p = part(tensor, axis, lane, segment);
      team_->for_pieces(p.token_end - p.token_begin, 1, [&](std::int64_t token, std::int64_t) {
        std::array<float, kChunk> values;
        for (std::int64_t f = p.feature_begin; f < p.feature_end; f += kChunk) {
          const auto count = static_cast<std::size_t>(std::min(kChunk, p.feature_end - f));
          const std::span<float> row(values.data(), count);
          load_row(tensor, p.token_begin + token, f, row);
          round_payload(payload, row);
          store_row(tensor, p.token_begin + token, f, row);
        }
      });
    }
  }
}

// Walks all streams phase by phase: in phase p every rank makes the p-th visit of the streams that
// are with it, then all messages between two ranks go as one. visit_row(stream, visit, part, token,
// arrived, leaving) works on one row; `arrived` is its payload (nullptr at the stream's start),
// `leaving` where it goes on (nullptr at its end).
template <typename F>
void Mesh::run_phases(const MeshTensor& t, Axis axis, const Schedule& s, PayloadDType payload,
                      const F& visit_row) {
  const std::int64_t ranks = ranks_along(axis);
  const std::int64_t me = rank_along(axis);
  outgoing_.resize(static_cast<std::size_t>(
      std::max<std::int64_t>(ranks, static_cast<std::int64_t>(outgoing_.size()))));
  incoming_.resize(outgoing_.size());
  std::vector<std::size_t> arrived(static_cast<std::size_t>(ranks));
  const auto message_bytes = [&](const Stream& stream) {
    std::size_t bytes = 0;
    for (const Lane& lane : lanes_) {
      const Part p = part(t, axis, lane, stream.segment);
      bytes += static_cast<std::size_t>((p.token_end - p.token_begin) *
                                        payload_bytes(payload, p.width()));
    }
    return bytes;
  };
  for (std::int64_t phase = 0; phase < s.phases; ++phase) {
    const auto at = static_cast<std::size_t>(phase);
    // Sizes of what leaves after this phase and of what comes for the next.
    std::vector<std::size_t> leaving(static_cast<std::size_t>(ranks), 0);
    std::vector<std::size_t> coming(static_cast<std::size_t>(ranks), 0);
    for (std::size_t i = 0; i < s.visits.size(); ++i) {
      const std::vector<Visit>& visits = s.visits[i];
      if (at + 1 >= visits.size()) continue;
      const std::size_t bytes = message_bytes(s.hops.streams[i]);
      if (visits[at].rank == me) leaving[static_cast<std::size_t>(visits[at + 1].rank)] += bytes;
      if (visits[at + 1].rank == me) coming[static_cast<std::size_t>(visits[at].rank)] += bytes;
    }
    for (std::size_t r = 0; r < leaving.size(); ++r) outgoing_[r].resize(leaving[r]);
    std::fill(arrived.begin(), arrived.end(), 0);
    std::fill(leaving.begin(), leaving.end(), 0);
    for (std::size_t i = 0; i < s.visits.size(); ++i) {
      const std::vector<Visit>& visits = s.visits[i];
      if (at >= visits.size() || visits[at].rank != me) continue;
      const Stream& stream = s.hops.streams[i];
      for (const Lane& lane : lanes_) {
        const Part p = part(t, axis, lane, stream.segment);
        const std::int64_t tokens = p.token_end - p.token_begin;
        const std::int64_t row_bytes = payload_bytes(payload, p.width());
        const std::byte* from = nullptr;
        std::byte* to = nullptr;
        if (at > 0) {
          const auto peer_rank = static_cast<std::size_t>(visits[at - 1].rank);
          from = incoming_[peer_rank].data() + arrived[peer_rank];
          arrived[peer_rank] += static_cast<std::size_t>(tokens * row_bytes);
        }
        if (at + 1 < visits.size()) {
          const auto peer_rank = static_cast<std::size_t>(visits[at + 1].rank);
          to = outgoing_[peer_rank].data() + leaving[peer_rank];
          leaving[peer_rank] += static_cast<std::size_t>(tokens * row_bytes);
        }
        if (p.width() == 0) continue;
        team_->for_pieces(tokens, 1, [&](std::int64_t token, std::int64_t) {
          visit_row(i, visits[at], p, p.token_begin + token,
                    from == nullptr ? nullptr : from + token * row_bytes,
                    to == nullptr ? nullptr : to + token * row_bytes);
        });
      }
    }
    std::vector<Outgoing> sends;
    std::vector<Incoming> receives;
    for (std::int64_t r = 0; r < ranks; ++r) {
      const auto slot = static_cast<std::size_t>(r);
      if (!outgoing_[slot].empty()) sends.push_back({peer(axis, r), 0, outgoing_[slot]});
      incoming_[slot].resize(coming[slot]);
      if (coming[slot] > 0) receives.push_back({peer(axis, r), 0, incoming_[slot]});
    }
    if (!sends.empty() || !receives.empty()) {
      transport_->exchange({s.name, step_, layer_}, sends, receives);
    }
  }
}

void Mesh::sum_across(const MeshTensor& in, Axis axis, Use use, MeshTensor& out) {
  const Schedule& s = schedule(HopWork::kReduceScatter, use, axis);
  const PayloadDType payload = plan_.payload_of(use);
  list_lanes(in, axis);
  count(in, axis, s, payload);
  const std::int64_t begin = block_.begin(axis);
  // The first of a segment's streams to end here puts its sum there, the second adds to it (which
  // of two numbers comes first does not show in their sum).
  const auto ends_second = [&](std::size_t i) {
    const auto segment = static_cast<std::size_t>(s.hops.streams[i].segment);
    for (std::size_t j = s.first_stream[segment]; j < s.first_stream[segment + 1]; ++j) {
      if (j == i) continue;
      if (s.visits[j].size() != s.visits[i].size()) return s.visits[j].size() < s.visits[i].size();
      return j < i;
    }
    return false;
  };
  run_phases(in, axis, s, payload,
             [&](std::size_t i, const Visit& visit, const Part& p, std::int64_t token,
                 const std::byte* arrived, std::byte* leaving) {
               const Stream& stream = s.hops.streams[i];
               std::array<float, kChunk> sum;
               const bool ends = leaving == nullptr;
               const bool adds = ends && ends_second(i);
               for (std::int64_t f = p.feature_begin; f < p.feature_end; f += kChunk) {
                 const std::int64_t count = std::min(kChunk, p.feature_end - f);
                 const std::span<float> row(sum.data(), static_cast<std::size_t>(count));
                 const std::int64_t offset = payload_bytes(payload, f - p.feature_begin);
                 std::int64_t d = visit.first;
                 if (arrived != nullptr) {
                   decode_payload(payload, arrived + offset, row);
                 } else {
                   const std::int64_t device = stream.devices[static_cast<std::size_t>(d++)];
                   std::copy_n(in.f32(token, f, device - begin), count, sum.data());
                 }
                 for (; d <= visit.last; ++d) {
                   // Between two devices of this process; what arrived was rounded by its sender.
                   if (d > visit.first) round_payload(payload, row);
                   const bool joins_here =
                       stream.joins && d + 1 == static_cast<std::int64_t>(stream.devices.size());
                   if (joins_here) break;
                   const std::int64_t device = stream.devices[static_cast<std::size_t>(d)];
                   add_row(sum.data(), in.f32(token, f, device - begin), count);
                 }
                 if (!ends) {
                   encode_payload(payload, row, leaving + offset);
                 } else if (adds) {
                   add_row(out.f32(token, f), sum.data(), count);
                 } else {
                   std::copy_n(sum.data(), count, out.f32(token, f));
                 }
               }
             });
}

void Mesh::gather_across(MeshTensor& tensor, Axis axis, Use use) {
  const Schedule& s = schedule(HopWork::kAllGather, use, axis);
  const PayloadDType payload = narrower(plan_.payload_of(use), tensor.dtype);
  run_phases(tensor, axis, s, payload,
             [&](std::size_t, const Visit&, const Part& p, std::int64_t token,
                 const std::byte* arrived, std::byte* leaving) {
               std::array<float, kChunk> values;
               for (std::int64_t f = p.feature_begin; f < p.feature_end; f += kChunk) {
                 const auto count = static_cast<std::size_t>(std::min(kChunk, p.feature_end - f));
                 const std::span<float> row(values.data(), count);
                 const std::int64_t offset = payload_bytes(payload, f - p.feature_begin);
                 if (arrived != nullptr) {
                   decode_payload(payload, arrived + offset, row);
                 } else {
                   load_row(tensor, token, f, row);
                   round_payload(payload, row);
                 }
                 store_row(tensor, token, f, row);
                 if (leaving != nullptr) encode_payload(payload, row, leaving + offset);
               }
             });
}

}  // namespace tg
