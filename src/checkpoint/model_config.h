// What: what a checkpoint says its model is: shape, norms, rope, vocabulary, stop ids.
// Who owns: plain value. Thread: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tg {

// Llama 3.1's stretching of the rotary frequencies (the "llama3" rule), or position division
// ("linear").
struct RopeScaling {
  enum class Kind : std::uint8_t { kNone, kLlama3, kLinear };
  Kind kind = Kind::kNone;
  double factor = 1.0;
  double low_frequency_factor = 1.0;
  double high_frequency_factor = 4.0;
  std::int64_t original_context = 8192;
  // GGUF stores the llama3 rule as one divisor per frequency (tensor rope_freqs.weight); when not
  // empty it has head_dim/2 entries and is used in place of the rule.
  std::vector<float> divisors;
};

struct ModelConfig {
  std::string format;    // "meta", "repacked", "huggingface", "gguf"
  std::string name;      // for people; may be empty
  std::int64_t dim = 0;  // hidden size
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t ffn_dim = 0;
  std::int64_t vocab = 0;
  double norm_eps = 1e-5;
  double rope_theta = 500000.0;
  RopeScaling rope_scaling;
  std::int64_t max_context = 131072;
  bool tied_embeddings = false;
  std::optional<std::int32_t> bos_id;
  // Ids that end an answer: generation_config.json before config.json; empty for a Meta directory
  // (the caller then uses the tokenizer's end_of_text, eom and eot).
  std::vector<std::int32_t> stop_ids;

  std::int64_t parameters() const {
    const std::int64_t attention = dim * head_dim * (heads * 2 + kv_heads * 2);
    return layers * (attention + 3 * dim * ffn_dim + 2 * dim) + dim +
           vocab * dim * (tied_embeddings ? 1 : 2);
  }
};

}  // namespace tg
