// What: writes a TensorSource as one GGUF file (version 3) that this program and llama.cpp read:
//   matrices in one format, norms in f32, Llama 3's rope rule as the tensor rope_freqs.weight, a
//   tied head left out. Without a tokenizer (model "no_vocab") it has only the ids of begin and
//   stop tokens, which is enough for ids in and ids out. The bytes depend on source and plan only.
// Who owns: plain values; source and team are the caller's. Thread: one caller.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_team.h"
#include "checkpoint/gguf_source.h"
#include "checkpoint/repack.h"
#include "checkpoint/tensor_source.h"

namespace tg {

struct PlannedGgufTensor {
  TensorInfo source;
  DType dtype = DType::kF32;  // as written
  std::uint64_t offset = 0;   // from the start of the file
  std::uint64_t bytes = 0;
};

struct GgufPlan {
  std::string header;  // all in front of the first tensor of the source; has rope_freqs.weight
  std::vector<PlannedGgufTensor> tensors;  // in the order of their offsets
  std::uint64_t bytes = 0;                 // of the whole file
};

// `matrices` is F32, BF16, Q8_0 or Q4_0. Of `tokenizer` (nullptr: none) model, pre, tokens, types
// and merges are written; begin and stop ids are the config's. kUnsupported for a matrix whose rows
// are no whole blocks of it, and for more stop ids than GGUF has keys for.
Result<GgufPlan> plan_gguf(const TensorSource& source, DType matrices,
                           const GgufTokenizerData* tokenizer = nullptr);

// Writes the planned file, a few MiB at a time, each cut up between the members of the team.
// kOutOfCapacity when the disk is too full. The file appears whole or not at all.
Status write_gguf(const TensorSource& source, const GgufPlan& plan, ThreadTeam& team,
                  const std::string& path, const RepackHooks& hooks);

}  // namespace tg
