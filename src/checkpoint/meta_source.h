// What: checkpoints in Meta's own form, params.json beside .pth files: either one file per
//   model-parallel shard (consolidated.00.pth, ...) or tt-metal's repacked form, one file per range
//   of layers (layers_0-9.pth, ...).
// Who owns: the caller of open_*. Thread: opening from one, the source from any.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/tensor_source.h"

namespace tg {

// NN of "consolidated.NN.pth"; nullopt for other names.
std::optional<std::int64_t> shard_number(std::string_view file_name);

struct LayerRange {
  std::int64_t first = 0;
  std::int64_t last = 0;  // inclusive
};
// {A, B} of "layers_A-B.pth"; nullopt for other names.
std::optional<LayerRange> layer_range(std::string_view file_name);

// Opens DIRECTORY/params.json and the shards `file_names` (in any order; their numbers must be
// 0, 1, ... without a gap). Each tensor is joined by its name: wq, wk, wv, w1, w3, output and the
// embedding by rows, wo and w2 by columns, norms are the same in every shard. An embedding whose
// shard has dim / shards columns (Llama 2) is joined by columns.
Result<std::unique_ptr<TensorSource>> open_meta(const std::string& directory,
                                                const std::vector<std::string>& file_names,
                                                const OpenOptions& options);

// Opens DIRECTORY/params.json and the files `file_names` (in any order; their ranges must follow
// each other from layer 0 to the last).
Result<std::unique_ptr<TensorSource>> open_repacked(const std::string& directory,
                                                    const std::vector<std::string>& file_names,
                                                    const OpenOptions& options);

}  // namespace tg
