// What: a checkpoint's JSON files as a ModelConfig: Meta's params.json, Hugging Face's config.json
//   with generation_config.json, in every spelling that published Llama models use.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "checkpoint/model_config.h"

namespace tg {

// Reads params.json. format stays empty and vocab is 0 when the file does not say (or says -1): the
// embedding's shape tells. head_dim, ffn_dim and kv_heads are always filled.
// kBadInput names the key and its value. The config is checked but for its vocabulary.
Result<ModelConfig> read_meta_params(std::string_view json);

struct HuggingFaceConfig {
  ModelConfig config;
  // quantization_config's method ("fp8", "gptq", ...), empty without one. Such a model is refused,
  // but by the reader of its tensors, which can name one.
  std::string quantization;
};

// Reads config.json. kUnsupported names an architecture, activation, rope rule or bias that is not
// this Llama's; kBadInput names the key. The config is checked.
Result<HuggingFaceConfig> read_huggingface_config(std::string_view json);

// Reads generation_config.json into `config`: the stop and begin ids that it has replace those of
// config.json. kBadInput names the key.
Status read_generation_config(std::string_view json, ModelConfig& config);

// Refuses impossible numbers (zero, negative, absurdly large, head counts that do not divide, ...)
// with the arithmetic; every reader calls it before it allocates by a config. kBadInput.
Status check_config(const ModelConfig& config);

// The hidden size of the feed-forward block as Meta's code derives it: 2/3 of 4*dim, times
// `multiplier`, rounded up to `multiple_of`. 70B: (8192, 4096, 1.3) -> 28672.
// Preconditions: 0 < dim, multiple_of <= 2^24, 0 < multiplier <= 1000.
std::int64_t meta_ffn_dim(std::int64_t dim, std::int64_t multiple_of, double multiplier);

}  // namespace tg
