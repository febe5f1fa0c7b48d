// What: which collectives a decode step runs on a mesh, and what each costs on its links: the shard
//   plan, the collective plan and the number of rows as a table. Nothing is run.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/model_config.h"
#include "mesh/collective_plan.h"
#include "mesh/hop_cost.h"
#include "model/shard_plan.h"
#include "tensor/dtype.h"

namespace tg {

struct CollectiveCost {
  Use use = Use::kQkv;
  HopWork work = HopWork::kReduceScatter;
  Axis axis = Axis::kCols;
  std::int64_t times = 1;   // in a step
  std::int64_t groups = 1;  // of devices that do it at the same time
  HopCost one;              // of one group

  std::int64_t bytes() const { return times * groups * one.bytes; }
  double seconds() const { return static_cast<double>(times) * one.seconds; }
};

// A step of `rows` rows, all of which choose a token greedily, spread evenly over the columns. In
// the order of the layer; nothing for an axis of length 1. The bytes are those that Traffic counts.
std::vector<CollectiveCost> step_collectives(const ModelConfig& config, const ShardPlan& shards,
                                             const CollectivePlan& plan, ComputeDType dtype,
                                             std::int64_t rows);

}  // namespace tg
