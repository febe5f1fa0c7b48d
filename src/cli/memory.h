// What: how much memory a run needs and how much there is, asked before anything is loaded.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "checkpoint/model_config.h"
#include "kernels/kv_format.h"
#include "model/model_runner.h"
#include "model/shard_plan.h"
#include "model/weight_formats.h"
#include "tensor/dtype.h"

namespace tg {

struct MemoryNeed {
  std::int64_t weights = 0;
  std::string weights_in;  // their formats, for people
  bool computes_f32 = false;
  std::int64_t kv_cache = 0;     // when every page is used
  std::int64_t kv_position = 0;  // bytes of one position in all layers, with all kv heads
  std::int64_t activations = 0;

  std::int64_t total() const { return weights + kv_cache + activations; }
};

// Of a process that owns `block` of the plan's mesh.
MemoryNeed memory_need(const ModelConfig& config, const ShardPlan& plan, const DeviceBlock& block,
                       const WeightFormats& formats, ComputeDType dtype, KvFormat kv_format,
                       const KvCapacity& capacity, int threads);

// Bytes that this process can still have: what the kernel calls available, or the rest of the
// cgroup's limit if that is less. 0 when neither can be read.
std::int64_t available_memory();

// Anonymous memory of this process, swapped out or not (RssAnon + VmSwap). 0: not known.
std::int64_t private_memory();

// kOutOfCapacity with the sum when what `ranks_here` processes on this host need, each of them
// `need`, is more than `available` (0 = unknown: never).
Status check_memory(const MemoryNeed& need, const KvCapacity& capacity, std::int64_t domains,
                    int ranks_here, std::int64_t available);

// "1.5 GiB", "270 MiB", "12 KiB".
std::string bytes_text(std::int64_t bytes);

}  // namespace tg
