// What: --weights-cache: where packed weights are kept between starts, and loading a model's
// weights
//   from there or into there. A cache that cannot be used or written is a warning, never an error.
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/mesh_options.h"
#include "model/weights_cache.h"

namespace tg {

// The folder that was asked for; empty: none. "off" and nothing said are none, "auto" is
// $XDG_CACHE_HOME/llama-tg or $HOME/.cache/llama-tg; what --weights-cache does not say,
// $LLAMA_TG_CACHE may. kBadArgument: "auto" without either variable.
Result<std::string> weights_cache_folder(const std::string& option, const Environment& environment);

// The one file in the folder for a checkpoint at `model` held in such a way. It is named after what
// the user asked for, and not after the checkpoint's content: so that of a checkpoint that changes
// in place one file is there, not one per version. What it is a cache of, its key says.
std::string weights_cache_path(const std::string& folder, const std::string& model,
                               const WeightsAsk& ask);

// Weights of the model at `model`, from the folder's file where that is right, else read with a
// progress bar (`what` is its title) and then written there. Without a folder: just read.
Result<LlamaWeights> load_or_map_weights(const std::string& folder, const std::string& model,
                                         const WeightsAsk& ask, ThreadTeam& team,
                                         const std::string& what);

// What the folder has for such weights, in words; with `verify`, after every byte of it was
// compared with its checksum, and only then is a file that is missing or wrong an error.
Result<std::string> weights_cache_state(const std::string& folder, const std::string& model,
                                        const WeightsAsk& ask, ThreadTeam& team, bool verify);

}  // namespace tg
