#include "checkpoint/config_readers.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "checkpoint/file_kind.h"
#include "checkpoint/json_fields.h"

namespace tg {
namespace {

using Json = nlohmann::json;

// Far above any published model (405B: dim 16384, 126 layers, vocabulary 128256) and low enough
// that no product of two of them overflows and no list by layers is large.
constexpr std::int64_t kMostLayers = 10'000;
constexpr std::int64_t kMostWidth = std::int64_t{1} << 24;  // dim, ffn_dim, heads, head_dim
constexpr std::int64_t kMostVocab = std::int64_t{1} << 28;
constexpr std::int64_t kMostContext = std::int64_t{1} << 31;

Status check_range(std::string_view what, std::int64_t value, std::int64_t most) {
  if (value >= 1 && value <= most) return {};
  return error(ErrorCode::kBadInput, "{} is {}, which is not in 1..{}", what, value, most);
}

// true for a positive number that is neither infinite nor NaN.
bool is_positive(double x) { return x > 0 && std::isfinite(x); }

Status check_rope(const ModelConfig& config) {
  if (!is_positive(config.rope_theta)) {
    return error(ErrorCode::kBadInput, "rope_theta is {}, which is not positive",
                 config.rope_theta);
  }
  const RopeScaling& rope = config.rope_scaling;
  if (rope.kind == RopeScaling::Kind::kNone) return {};
  if (!is_positive(rope.factor)) {
    return error(ErrorCode::kBadInput,
                 "the factor of the rope scaling is {}, which is not positive", rope.factor);
  }
  if (rope.kind != RopeScaling::Kind::kLlama3) return {};
  if (!is_positive(rope.low_frequency_factor) || !is_positive(rope.high_frequency_factor) ||
      rope.low_frequency_factor >= rope.high_frequency_factor) {
    return error(ErrorCode::kBadInput,
                 "rope scaling needs 0 < low_freq_factor < high_freq_factor, not {} and {}",
                 rope.low_frequency_factor, rope.high_frequency_factor);
  }
  return check_range("the original context of the rope scaling", rope.original_context,
                     kMostContext);
}

// Everything but the vocabulary, which a Meta directory may leave to the embedding.
Status check_all_but_vocab(const ModelConfig& config) {
  TG_RETURN_IF_ERROR(check_range("number of layers", config.layers, kMostLayers));
  TG_RETURN_IF_ERROR(check_range("hidden size", config.dim, kMostWidth));
  TG_RETURN_IF_ERROR(check_range("number of heads", config.heads, kMostWidth));
  TG_RETURN_IF_ERROR(check_range("number of kv heads", config.kv_heads, kMostWidth));
  TG_RETURN_IF_ERROR(check_range("head size", config.head_dim, kMostWidth));
  TG_RETURN_IF_ERROR(check_range("feed-forward size", config.ffn_dim, kMostWidth));
  TG_RETURN_IF_ERROR(check_range("context length", config.max_context, kMostContext));
  if (config.heads % config.kv_heads != 0) {
    return error(ErrorCode::kBadInput,
                 "{} heads cannot share {} kv heads: {} is not a multiple of {}", config.heads,
                 config.kv_heads, config.heads, config.kv_heads);
  }
  if (config.head_dim % 2 != 0) {
    return error(ErrorCode::kBadInput, "head size {} is odd; rope turns pairs", config.head_dim);
  }
  // Both factors are at most 2^24, so this product is exact.
  TG_RETURN_IF_ERROR(
      check_range("heads times head size", config.heads * config.head_dim, kMostWidth));
  if (!(config.norm_eps >= 0) || config.norm_eps >= 1) {
    return error(ErrorCode::kBadInput, "the norm's epsilon is {}, which is not in 0..1",
                 config.norm_eps);
  }
  return check_rope(config);
}

// Meta's files for Llama 3.2 1B and 3B only say "use_scaled_rope": true, like those of 3.1; that
// these two stretch by 32 and not by 8 is known from the published Hugging Face configs alone.
bool is_llama_3_2_small(const ModelConfig& config) {
  return (config.dim == 2048 && config.layers == 16) || (config.dim == 3072 && config.layers == 28);
}

Result<RopeScaling> read_meta_rope(const JsonFields& fields, const ModelConfig& config) {
  RopeScaling rope;
  TG_ASSIGN(const bool scaled, fields.boolean_or("use_scaled_rope", false));
  if (!scaled) return rope;
  rope.kind = RopeScaling::Kind::kLlama3;
  TG_ASSIGN(rope.factor,
            fields.number_or("rope_scaling_factor", is_llama_3_2_small(config) ? 32.0 : 8.0));
  // Two spellings of the same three numbers are in use; the values are Llama 3.1's.
  TG_ASSIGN(const double low, fields.number_or("low_freq_factor", 1.0));
  TG_ASSIGN(const double high, fields.number_or("high_freq_factor", 4.0));
  TG_ASSIGN(rope.low_frequency_factor, fields.number_or("rope_low_freq_factor", low));
  TG_ASSIGN(rope.high_frequency_factor, fields.number_or("rope_high_freq_factor", high));
  TG_ASSIGN(const std::optional<std::int64_t> original,
            fields.integer("original_max_position_embeddings"));
  rope.original_context = original.value_or(8192);
  return rope;
}

// The feed-forward size: told outright, or by Meta's three numbers.
Result<std::int64_t> read_meta_ffn_dim(const JsonFields& fields, std::int64_t dim) {
  for (const char* key : {"hidden_dim", "intermediate_size"}) {
    TG_ASSIGN(const std::optional<std::int64_t> told, fields.integer(key));
    if (told) return *told;
  }
  TG_ASSIGN(const std::optional<std::int64_t> multiple, fields.integer("multiple_of"));
  TG_ASSIGN(const double multiplier, fields.number_or("ffn_dim_multiplier", 1.0));
  const std::int64_t multiple_of = multiple.value_or(256);
  TG_RETURN_IF_ERROR(check_range("\"dim\"", dim, kMostWidth));
  TG_RETURN_IF_ERROR(check_range("\"multiple_of\"", multiple_of, kMostWidth));
  if (!is_positive(multiplier) || multiplier > 1000) {
    return error(ErrorCode::kBadInput, "\"ffn_dim_multiplier\" is {}, which is not in 0..1000",
                 multiplier);
  }
  return meta_ffn_dim(dim, multiple_of, multiplier);
}

// The object that holds the rope rule: "rope_scaling" until transformers 4, "rope_parameters" (with
// rope_theta inside) since 5.
Status read_huggingface_rope(const JsonFields& fields, ModelConfig& config) {
  TG_ASSIGN(config.rope_theta, fields.number_or("rope_theta", 10000.0));
  const Json* object = fields.find("rope_parameters");
  const char* key = "rope_parameters";
  if (object == nullptr) {
    object = fields.find("rope_scaling");
    key = "rope_scaling";
  }
  if (object == nullptr) return {};
  if (!object->is_object()) return JsonFields::wrong(key, *object, "an object");
  const JsonFields rule(*object);
  TG_ASSIGN(config.rope_theta, rule.number_or("rope_theta", config.rope_theta));
  TG_ASSIGN(const double rotated, rule.number_or("partial_rotary_factor", 1.0));
  if (rotated != 1.0) {
    return error(ErrorCode::kUnsupported, "\"partial_rotary_factor\" is {}; only 1 is done",
                 rotated);
  }
  TG_ASSIGN(const std::string older_type, rule.text_or("type", "default"));
  TG_ASSIGN(const std::string type, rule.text_or("rope_type", older_type));
  if (type == "default") return {};
  RopeScaling& rope = config.rope_scaling;
  if (type == "llama3") {
    rope.kind = RopeScaling::Kind::kLlama3;
    TG_ASSIGN(rope.low_frequency_factor, rule.number_or("low_freq_factor", 1.0));
    TG_ASSIGN(rope.high_frequency_factor, rule.number_or("high_freq_factor", 4.0));
    TG_ASSIGN(const std::optional<std::int64_t> original,
              rule.integer("original_max_position_embeddings"));
    rope.original_context = original.value_or(8192);
  } else if (type == "linear") {
    rope.kind = RopeScaling::Kind::kLinear;
  } else {
    return error(ErrorCode::kUnsupported, "rope rule \"{}\"; default, linear and llama3 are done",
                 printable(type));
  }
  TG_ASSIGN(const std::optional<double> factor, rule.number("factor"));
  if (!factor) return error(ErrorCode::kBadInput, "\"factor\" is missing in \"{}\"", key);
  rope.factor = *factor;
  return {};
}

Status check_architecture(const JsonFields& fields) {
  const Json* architectures = fields.find("architectures");
  if (architectures != nullptr) {
    if (!architectures->is_array()) {
      return JsonFields::wrong("architectures", *architectures, "a list");
    }
    for (const Json& item : *architectures) {
      if (!item.is_string()) return JsonFields::wrong("architectures", item, "a name");
      const std::string& name = item.get_ref<const std::string&>();
      if (name != "LlamaForCausalLM") {
        return error(ErrorCode::kUnsupported,
                     "the model's architecture is {}; only LlamaForCausalLM is done",
                     printable(name));
      }
    }
  }
  TG_ASSIGN(const std::string type, fields.text_or("model_type", ""));
  if (type == "llama") return {};
  if (!type.empty()) {
    return error(ErrorCode::kUnsupported, "the model's type is \"{}\"; only \"llama\" is done",
                 printable(type));
  }
  if (architectures == nullptr || architectures->empty()) {
    return error(ErrorCode::kBadInput,
                 "neither \"architectures\" nor \"model_type\" says what the model is");
  }
  return {};
}

// What this Llama does not do, each refused by name.
Status check_features(const JsonFields& fields) {
  TG_ASSIGN(const std::string activation, fields.text_or("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return error(ErrorCode::kUnsupported, "\"hidden_act\" is \"{}\"; only silu is done",
                 printable(activation));
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    TG_ASSIGN(const bool bias, fields.boolean_or(key, false));
    if (bias) return error(ErrorCode::kUnsupported, "\"{}\" is true; biases are not done", key);
  }
  TG_ASSIGN(const std::optional<std::int64_t> window, fields.integer("sliding_window"));
  if (window) {
    return error(ErrorCode::kUnsupported, "\"sliding_window\" is {}; it is not done", *window);
  }
  return {};
}

// A token id: any 31-bit number, since small test models keep the ids of the large vocabulary.
Result<std::int32_t> token_id(const char* key, const Json& value) {
  const bool fits = value.is_number_unsigned() && value.get<std::uint64_t>() <= INT32_MAX;
  if (!fits) return JsonFields::wrong(key, value, "a token id");
  return static_cast<std::int32_t>(value.get<std::uint64_t>());
}

// One id or a list of them; nothing when absent.
Result<std::vector<std::int32_t>> token_ids(const JsonFields& fields, const char* key) {
  std::vector<std::int32_t> ids;
  const Json* value = fields.find(key);
  if (value == nullptr) return ids;
  if (!value->is_array()) {
    TG_ASSIGN(const std::int32_t id, token_id(key, *value));
    ids.push_back(id);
    return ids;
  }
  for (const Json& item : *value) {
    TG_ASSIGN(const std::int32_t id, token_id(key, item));
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

Status read_special_ids(const JsonFields& fields, ModelConfig& config) {
  TG_ASSIGN(std::vector<std::int32_t> stops, token_ids(fields, "eos_token_id"));
  if (!stops.empty()) config.stop_ids = std::move(stops);
  TG_ASSIGN(const std::vector<std::int32_t> begins, token_ids(fields, "bos_token_id"));
  if (!begins.empty()) config.bos_id = begins.front();
  return {};
}

Result<std::string> read_quantization(const JsonFields& fields) {
  for (const char* key : {"quantization_config", "compression_config"}) {
    const Json* object = fields.find(key);
    if (object == nullptr) continue;
    if (!object->is_object()) return JsonFields::wrong(key, *object, "an object");
    return JsonFields(*object).text_or("quant_method", "unnamed");
  }
  return std::string();
}

}  // namespace

std::int64_t meta_ffn_dim(std::int64_t dim, std::int64_t multiple_of, double multiplier) {
  const std::int64_t two_thirds = 2 * (4 * dim) / 3;
  const auto scaled = static_cast<std::int64_t>(multiplier * static_cast<double>(two_thirds));
  return (scaled + multiple_of - 1) / multiple_of * multiple_of;
}

Result<ModelConfig> read_meta_params(std::string_view json) {
  TG_ASSIGN(const Json object, JsonFields::parse_object(json));
  const JsonFields fields(object);
  ModelConfig config;
  TG_ASSIGN(config.dim, fields.required_integer("dim"));
  TG_ASSIGN(config.layers, fields.required_integer("n_layers"));
  TG_ASSIGN(config.heads, fields.required_integer("n_heads"));
  TG_ASSIGN(const std::optional<std::int64_t> kv_heads, fields.integer("n_kv_heads"));
  config.kv_heads = kv_heads.value_or(config.heads);
  TG_RETURN_IF_ERROR(check_range("\"n_heads\"", config.heads, kMostWidth));
  TG_ASSIGN(const std::optional<std::int64_t> head_dim, fields.integer("head_dim"));
  if (!head_dim && config.dim % config.heads != 0) {
    return error(ErrorCode::kBadInput, "\"dim\" {} is not a multiple of \"n_heads\" {}", config.dim,
                 config.heads);
  }
  config.head_dim = head_dim.value_or(config.dim / config.heads);
  TG_ASSIGN(config.ffn_dim, read_meta_ffn_dim(fields, config.dim));
  TG_ASSIGN(const std::optional<std::int64_t> vocab, fields.integer("vocab_size"));
  config.vocab = vocab.value_or(-1) == -1 ? 0 : *vocab;
  if (vocab && *vocab != -1) TG_RETURN_IF_ERROR(check_range("\"vocab_size\"", *vocab, kMostVocab));
  TG_ASSIGN(config.norm_eps, fields.number_or("norm_eps", 1e-5));
  TG_ASSIGN(config.rope_scaling, read_meta_rope(fields, config));
  // Llama 2 and older do not write rope_theta; everything since does.
  TG_ASSIGN(const std::optional<double> theta, fields.number("rope_theta"));
  config.rope_theta = theta.value_or(10000.0);
  const bool scaled = config.rope_scaling.kind != RopeScaling::Kind::kNone;
  // Meta's own files say nothing about it; those that a repack made of other formats may.
  TG_ASSIGN(const std::optional<std::int64_t> context, fields.integer("max_position_embeddings"));
  config.max_context = context.value_or(scaled ? 131072 : theta ? 8192 : 4096);
  TG_RETURN_IF_ERROR(check_all_but_vocab(config));
  return config;
}

Result<HuggingFaceConfig> read_huggingface_config(std::string_view json) {
  TG_ASSIGN(const Json object, JsonFields::parse_object(json));
  const JsonFields fields(object);
  TG_RETURN_IF_ERROR(check_architecture(fields));
  TG_RETURN_IF_ERROR(check_features(fields));
  HuggingFaceConfig result;
  ModelConfig& config = result.config;
  config.format = "huggingface";
  TG_ASSIGN(config.name, fields.text_or("_name_or_path", ""));
  TG_ASSIGN(config.dim, fields.required_integer("hidden_size"));
  TG_ASSIGN(config.layers, fields.required_integer("num_hidden_layers"));
  TG_ASSIGN(config.heads, fields.required_integer("num_attention_heads"));
  TG_ASSIGN(const std::optional<std::int64_t> kv_heads, fields.integer("num_key_value_heads"));
  config.kv_heads = kv_heads.value_or(config.heads);
  TG_RETURN_IF_ERROR(check_range("\"num_attention_heads\"", config.heads, kMostWidth));
  TG_ASSIGN(const std::optional<std::int64_t> head_dim, fields.integer("head_dim"));
  if (!head_dim && config.dim % config.heads != 0) {
    return error(ErrorCode::kBadInput,
                 "\"hidden_size\" {} is not a multiple of \"num_attention_heads\" {}", config.dim,
                 config.heads);
  }
  config.head_dim = head_dim.value_or(config.dim / config.heads);
  TG_ASSIGN(config.ffn_dim, fields.required_integer("intermediate_size"));
  TG_ASSIGN(config.vocab, fields.required_integer("vocab_size"));
  // What follows may be absent; the values are those that transformers' LlamaConfig then takes.
  TG_ASSIGN(config.norm_eps, fields.number_or("rms_norm_eps", 1e-6));
  TG_ASSIGN(const std::optional<std::int64_t> context, fields.integer("max_position_embeddings"));
  config.max_context = context.value_or(2048);
  TG_ASSIGN(config.tied_embeddings, fields.boolean_or("tie_word_embeddings", false));
  TG_RETURN_IF_ERROR(read_huggingface_rope(fields, config));
  TG_RETURN_IF_ERROR(read_special_ids(fields, config));
  TG_ASSIGN(result.quantization, read_quantization(fields));
  TG_RETURN_IF_ERROR(check_config(config));
  return result;
}

Status read_generation_config(std::string_view json, ModelConfig& config) {
  TG_ASSIGN(const Json object, JsonFields::parse_object(json));
  return read_special_ids(JsonFields(object), config);
}

Status check_config(const ModelConfig& config) {
  TG_RETURN_IF_ERROR(check_range("vocabulary", config.vocab, kMostVocab));
  return check_all_but_vocab(config);
}

}  // namespace tg
