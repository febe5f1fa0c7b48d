// What: this process's part of a mesh of devices, and the collectives over it. Each changes the
//   placement of a tensor along one axis:
//     reduce_scatter  Partial -> Shard(features)
//     all_gather      Shard -> Replicate
//     all_reduce      Partial -> Replicate (the two after each other)
//   Sums are f32 and are added in the order of the use's algorithm (hop_schedule.h), each hop
//   rounded to the payload format, whether the devices share a process or not: one process and
//   several give the same bits. Segments are cut by features, so the order never depends on where
//   in the batch a token is (docs/decisions/0005).
//   Over the other axis a tensor is replicated or sharded by features.
//   On an axis of length 1 nothing crosses (a reduce copies its one summand), but reduce and gather
//   still want their placements.
// Who owns: the runner; team and transport are borrowed. Thread: one caller, which uses the team.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_team.h"
#include "mesh/collective_plan.h"
#include "mesh/mesh_shape.h"
#include "mesh/mesh_tensor.h"
#include "mesh/transport.h"

namespace tg {

// What crossed the links. Only hops between devices count, and at their sender.
struct Traffic {
  std::int64_t collectives = 0;  // an all_reduce is two; none on an axis of length 1
  std::int64_t bytes = 0;
  // [axis][device position * length + next position]: bytes from one to the other, summed over all
  // groups along that axis that this process takes part in.
  std::vector<std::int64_t> hops[2];
};

class Mesh {
 public:
  // `transport`: nullptr when this process owns the whole mesh. kBadArgument when the mesh cannot
  // be shared among its ranks.
  static Result<Mesh> create(const MeshShape& shape, const CollectivePlan& plan, ThreadTeam& team,
                             Transport* transport = nullptr);

  const MeshShape& shape() const { return grid_.mesh; }
  const RankGrid& grid() const { return grid_; }
  const DeviceBlock& block() const { return block_; }
  const CollectivePlan& plan() const { return plan_; }
  ThreadTeam& team() const { return *team_; }
  Transport* transport() const { return transport_; }
  std::int64_t length(Axis axis) const { return shape().length(axis); }

  // Where the work is, for a watchdog's message; layer -1: outside of the layers.
  void set_step(std::int64_t step) { step_ = step; }
  void set_layer(std::int64_t layer) { layer_ = layer; }

  // out = the sum of in's summands; of each group only the segments of owned devices are written.
  // Both f32, of the same width and number of tokens; the summands are not kept.
  void reduce_scatter(const MeshTensor& in, Axis axis, Use use, MeshTensor& out);

  void all_gather(MeshTensor& tensor, Axis axis, Use use);

  // out = the sum (or out += with `add`), everywhere.
  void all_reduce(const MeshTensor& in, Axis axis, Use use, MeshTensor& out, bool add = false);

  const Traffic& traffic() const { return traffic_; }
  void reset_traffic();

 private:
  // Features [begin, end) that one group of devices along an axis works on.
  struct Lane {
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };
  // What of the tensor one segment of one lane is.
  struct Part {
    std::int64_t token_begin = 0;
    std::int64_t token_end = 0;
    std::int64_t feature_begin = 0;
    std::int64_t feature_end = 0;
    std::int64_t width() const { return feature_end - feature_begin; }
  };
  // The hops of a stream that one rank does without asking anybody: devices [first, last] of it.
  struct Visit {
    std::int64_t rank = 0;  // along the axis
    std::int64_t first = 0;
    std::int64_t last = 0;
  };
  struct Schedule {
    HopSchedule hops;
    std::vector<std::size_t> first_stream;   // [segment + 1]: where its streams begin
    std::vector<std::vector<Visit>> visits;  // [stream]
    std::int64_t phases = 0;                 // most visits of a stream
    std::string name;                        // for Position
  };

  Mesh() = default;
  Schedule make_schedule(HopWork work, Use use, Axis axis, std::string what) const;
  const Schedule& schedule(HopWork work, Use use, Axis axis) const;
  std::int64_t ranks_along(Axis axis) const {
    return axis == Axis::kRows ? grid_.over_rows : grid_.over_cols;
  }
  std::int64_t rank_along(Axis axis) const { return block_.begin(axis) / block_.length(axis); }
  int peer(Axis axis, std::int64_t rank_along) const;
  void list_lanes(const MeshTensor& tensor, Axis axis);
  Part part(const MeshTensor& tensor, Axis axis, const Lane& lane, std::int64_t segment) const;
  void count(const MeshTensor& tensor, Axis axis, const Schedule& s, PayloadDType payload);

  // Groups within this process.
  void sum_here(const MeshTensor& in, Axis axis, Use use, MeshTensor& out, bool gather, bool add);
  void round_here(const MeshTensor& tensor, Axis axis, PayloadDType payload);
  // Groups over several processes.
  void sum_across(const MeshTensor& in, Axis axis, Use use, MeshTensor& out);
  void gather_across(MeshTensor& tensor, Axis axis, Use use);
  template <typename F>
  void run_phases(const MeshTensor& tensor, Axis axis, const Schedule& s, PayloadDType payload,
                  const F& visit_row);

  RankGrid grid_;
  DeviceBlock block_;
  CollectivePlan plan_;
  ThreadTeam* team_ = nullptr;
  Transport* transport_ = nullptr;
  std::vector<Schedule> schedules_;  // [work][use][axis]
  std::int64_t step_ = 0;
  std::int64_t layer_ = -1;
  Traffic traffic_;
  std::vector<Lane> lanes_;                       // of the collective being run
  std::vector<std::vector<std::byte>> outgoing_;  // [rank along the axis]
  std::vector<std::vector<std::byte>> incoming_;
  std::vector<float> sums_;  // of an all_reduce that adds
};

}  // namespace tg
