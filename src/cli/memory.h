// What: how much memory a run needs and how much there is, asked before anything is loaded.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "checkpoint/model_config.h"
#include "model/model_runner.h"
#include "tensor/dtype.h"

namespace tg {

struct MemoryNeed {
  std::int64_t weights = 0;
  std::int64_t kv_cache = 0;  // when every page is used
  std::int64_t activations = 0;

  std::int64_t total() const { return weights + kv_cache + activations; }
};

MemoryNeed memory_need(const ModelConfig& config, ComputeDType dtype, const KvCapacity& capacity,
                       int threads);

// Bytes that this process can still have: what the kernel calls available, or the rest of the
// cgroup's limit if that is less. 0 when neither can be read.
std::int64_t available_memory();

// kOutOfCapacity with the sum when `need` is more than `available` (0 = unknown: never).
Status check_memory(const MemoryNeed& need, const ModelConfig& config, ComputeDType dtype,
                    const KvCapacity& capacity, std::int64_t available);

// "1.5 GiB", "270 MiB", "12 KiB".
std::string bytes_text(std::int64_t bytes);

}  // namespace tg
