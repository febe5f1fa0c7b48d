// What: packed weights of one process in a file (cache_file.h), which the next process of the same
//   key maps and reads in place: no reading of tensors, no packing, and the pages are the system's,
//   shared by all processes that use them.
// Who owns: LlamaWeights::mapped owns the mapping. Thread: one; the team sums and writes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/thread_team.h"
#include "checkpoint/cache_file.h"
#include "model/llama_weights.h"

namespace tg {

// What a process's packed weights depend on.
struct WeightsAsk {
  const TensorSource& source;
  const ShardPlan& plan;
  DeviceBlock block;
  WeightsWish wish = WeightsWish::kStored;
  WeightOrder order = WeightOrder::kPairs;
  std::string_view kernels;  // name of the table
};

// A text that is equal exactly when the packed bytes are: the checkpoint's identity, its shape,
// each matrix's format, mesh and block, table, and a checksum of what packing makes of a few known
// values, so that a build that packs or rounds in another way has another key. kUnsupported: the
// weights come from no file.
Result<std::string> weights_cache_key(const WeightsAsk& ask);

// Weights over the file's pages. kNotFound, kBadInput as CacheFile::open(); kBadInput too when the
// sections are not those of such weights.
Result<LlamaWeights> map_cached_weights(const std::string& path, std::string_view key,
                                        const WeightsAsk& ask, ThreadTeam& team);

// Writes what was just loaded. Returns the file's size; errors as write_cache_file().
Result<std::uint64_t> write_cached_weights(const std::string& path, std::string_view key,
                                           LlamaWeights& weights, ThreadTeam& team,
                                           const CacheProgress& progress = {});

}  // namespace tg
