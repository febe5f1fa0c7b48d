// What: the memory of keys and values of one KV domain (a column of the mesh): per layer a run of
//   pages, each with the slots of the kv heads of this process's devices. Which page belongs to
//   whom is the engine's matter.
// Who owns: the runner. Thread: layers and heads may be written from different threads.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "checkpoint/model_config.h"
#include "kernels/kernel_table.h"
#include "model/model_runner.h"
#include "tensor/aligned_buffer.h"

namespace tg {

// Bytes that one position takes in all layers, with all kv heads.
std::int64_t kv_bytes_per_position(const ModelConfig& config, ComputeDType dtype,
                                   KvFormat format = KvFormat::kCompute);

class KvCache {
 public:
  // Memory for `blocks` pages with `kv_heads` heads; it is taken from the system only when a page
  // is first written. A page holds everything of its positions, scales of codes too. kBadArgument:
  // a block size that is no multiple of kKeyGroup, no pages, or codes with f32 computing.
  static Result<KvCache> allocate(const ModelConfig& config, std::int64_t kv_heads,
                                  ComputeDType dtype, KvFormat format, const KvCapacity& capacity);

  // Takes all of the memory from the system now, as zeros: unwritten pages are cheaper to read than
  // those of a real context, which a benchmark would mistake for speed.
  void touch();

  const KvLayer& layer(std::int64_t index) const {
    return layers_[static_cast<std::size_t>(index)];
  }

 private:
  std::vector<AlignedBuffer> buffers_;  // keys and values of each layer
  std::vector<KvLayer> layers_;
};

}  // namespace tg
