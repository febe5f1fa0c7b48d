// What: checkpoints in Hugging Face's form: config.json, perhaps generation_config.json, and one
//   .safetensors file or several with model.safetensors.index.json.
// Who owns: the caller of open_huggingface. Thread: opening from one, the source from any.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/tensor_source.h"

namespace tg {

// "model.layers.3.self_attn.q_proj.weight" for "layers.3.attention.wq.weight"; `meta_name` must be
// one of expected_tensors().
std::string huggingface_name(std::string_view meta_name);

// Opens DIRECTORY/config.json with the files `safetensors_names` that were seen in the directory:
// model.safetensors if it is there, else those of model.safetensors.index.json, else the only one.
// Quantised models and tensors of other dtypes than F32, F16 and BF16 are kUnsupported.
Result<std::unique_ptr<TensorSource>> open_huggingface(
    const std::string& directory, const std::vector<std::string>& safetensors_names,
    bool has_index);

}  // namespace tg
