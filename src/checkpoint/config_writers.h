// What: a ModelConfig as the JSON files of the formats that a repack writes: Meta's params.json,
//   Hugging Face's config.json and generation_config.json. The counterpart is config_readers.h.
// Who owns: plain values. Thread: any.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/model_config.h"
#include "tensor/dtype.h"

namespace tg {

// params.json with no more keys than are needed for read_meta_params() to give this config back.
// kUnsupported names what the format cannot say (linear rope scaling; divisors of no known rule).
Result<std::string> meta_params_text(const ModelConfig& config);

// config.json for LlamaForCausalLM; `dtype` is that of most weights. Unknown begin and stop ids are
// null, so that nobody takes a library's defaults for them. kUnsupported as above.
Result<std::string> huggingface_config_text(const ModelConfig& config, DType dtype);

// generation_config.json: begin and stop ids, and nothing about sampling.
std::string generation_config_text(const ModelConfig& config);

// What is different between two configs as far as it changes what the model computes, with both
// values; empty when nothing is.
std::string config_difference(const ModelConfig& a, const ModelConfig& b);

// What each rotary frequency is divided by, as GGUF stores Llama 3's rule; empty without that rule.
std::vector<float> rope_divisors(const ModelConfig& config);

// The rope scaling as a rule. GGUF's divisors are turned back into Llama 3's rule, if that gives
// them; else kUnsupported.
Result<RopeScaling> rope_rule(const ModelConfig& config);

}  // namespace tg
