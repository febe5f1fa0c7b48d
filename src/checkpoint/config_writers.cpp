#include "checkpoint/config_writers.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>
#include <utility>
#include <vector>

#include "checkpoint/config_readers.h"

namespace tg {
namespace {

using OrderedJson = nlohmann::ordered_json;

// What Llama 3's rule divides the frequency of pair `i` by.
double llama3_divisor(const ModelConfig& config, const RopeScaling& rule, std::size_t i) {
  const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
  const double wavelength = 2.0 * std::numbers::pi * std::pow(config.rope_theta, exponent);
  const auto context = static_cast<double>(rule.original_context);
  const double low = rule.low_frequency_factor;
  const double high = rule.high_frequency_factor;
  if (wavelength > context / low) return rule.factor;
  if (wavelength < context / high) return 1.0;
  const double smooth = (context / wavelength - low) / (high - low);
  return 1.0 / ((1.0 - smooth) / rule.factor + smooth);
}

bool gives_divisors(const ModelConfig& config, const RopeScaling& rule) {
  const std::vector<float>& divisors = config.rope_scaling.divisors;
  for (std::size_t i = 0; i < divisors.size(); ++i) {
    const double expected = llama3_divisor(config, rule, i);
    // The file has them in f32, computed by others in f32.
    if (!(std::fabs(static_cast<double>(divisors[i]) - expected) <= 1e-4 * expected)) return false;
  }
  return true;
}

// The feed-forward size as Meta's code derives it: {multiple_of, ffn_dim_multiplier}, as round as
// they come. 70B: 4096 and 1.3.
std::optional<std::pair<std::int64_t, double>> ffn_rule(const ModelConfig& config) {
  const std::int64_t two_thirds = 2 * (4 * config.dim) / 3;
  const double ratio = static_cast<double>(config.ffn_dim) / static_cast<double>(two_thirds);
  for (std::int64_t multiple_of = 4096; multiple_of >= 1; multiple_of /= 2) {
    if (config.ffn_dim % multiple_of != 0) continue;
    for (const double digits : {1.0, 10.0, 100.0, 1000.0}) {
      const double multiplier = std::floor(ratio * digits) / digits;
      if (!(multiplier > 0) || multiplier > 1000) continue;
      if (meta_ffn_dim(config.dim, multiple_of, multiplier) == config.ffn_dim) {
        return std::pair(multiple_of, multiplier);
      }
    }
  }
  return std::nullopt;
}

OrderedJson stop_ids(const ModelConfig& config) {
  if (config.stop_ids.empty()) return nullptr;
  if (config.stop_ids.size() == 1) return config.stop_ids.front();
  return config.stop_ids;
}

OrderedJson begin_id(const ModelConfig& config) {
  if (!config.bos_id) return nullptr;
  return *config.bos_id;
}

std::string_view torch_name(DType dtype) {
  if (dtype == DType::kF32) return "float32";
  return dtype == DType::kF16 ? "float16" : "bfloat16";
}

std::string rule_text(const RopeScaling& rule) {
  switch (rule.kind) {
    case RopeScaling::Kind::kNone:
      return "none";
    case RopeScaling::Kind::kLinear:
      return fmt::format("linear by {}", rule.factor);
    case RopeScaling::Kind::kLlama3:
      return fmt::format("llama3 by {}, low {}, high {}, original context {}", rule.factor,
                         rule.low_frequency_factor, rule.high_frequency_factor,
                         rule.original_context);
  }
  return "?";
}

// The keys of the rope rule that read_meta_params() would otherwise take other values for.
void add_rope_keys(const RopeScaling& rule, const RopeScaling& taken, OrderedJson& json) {
  if (rule.kind != RopeScaling::Kind::kLlama3) return;
  if (rule.factor != taken.factor) json["rope_scaling_factor"] = rule.factor;
  if (rule.low_frequency_factor != taken.low_frequency_factor) {
    json["low_freq_factor"] = rule.low_frequency_factor;
  }
  if (rule.high_frequency_factor != taken.high_frequency_factor) {
    json["high_freq_factor"] = rule.high_frequency_factor;
  }
  if (rule.original_context != taken.original_context) {
    json["original_max_position_embeddings"] = rule.original_context;
  }
}

Status check_same(std::string_view file, const ModelConfig& wanted, const ModelConfig& again) {
  const std::string difference = config_difference(wanted, again);
  if (difference.empty()) return {};
  return error(ErrorCode::kUnsupported, "{} cannot say this model: {} (wanted, read back)", file,
               difference);
}

}  // namespace

std::vector<float> rope_divisors(const ModelConfig& config) {
  const RopeScaling& rule = config.rope_scaling;
  if (!rule.divisors.empty() || rule.kind != RopeScaling::Kind::kLlama3) return rule.divisors;
  std::vector<float> divisors(static_cast<std::size_t>(config.head_dim / 2));
  for (std::size_t i = 0; i < divisors.size(); ++i) {
    divisors[i] = static_cast<float>(llama3_divisor(config, rule, i));
  }
  return divisors;
}

Result<RopeScaling> rope_rule(const ModelConfig& config) {
  const std::vector<float>& divisors = config.rope_scaling.divisors;
  if (divisors.empty()) return config.rope_scaling;
  RopeScaling rule;
  rule.kind = RopeScaling::Kind::kLlama3;
  rule.factor = static_cast<double>(*std::max_element(divisors.begin(), divisors.end()));
  for (const std::int64_t original : {std::int64_t{8192}, config.rope_scaling.original_context}) {
    rule.original_context = original;
    if (gives_divisors(config, rule)) return rule;
  }
  return error(ErrorCode::kUnsupported,
               "the {} rope divisors (rope_freqs.weight, up to {}) follow no rule that the target "
               "format has a word for",
               divisors.size(), rule.factor);
}

std::string config_difference(const ModelConfig& a, const ModelConfig& b) {
  const auto differs = [](std::string_view what, const auto& x, const auto& y) {
    return x == y ? std::string() : fmt::format("{} is {} and {}", what, x, y);
  };
  const Result<RopeScaling> rule_a = rope_rule(a);
  const Result<RopeScaling> rule_b = rope_rule(b);
  const std::string rope_a = rule_a ? rule_text(*rule_a) : rule_a.error().text();
  const std::string rope_b = rule_b ? rule_text(*rule_b) : rule_b.error().text();
  for (const std::string& text :
       {differs("hidden size", a.dim, b.dim), differs("number of layers", a.layers, b.layers),
        differs("number of heads", a.heads, b.heads),
        differs("number of kv heads", a.kv_heads, b.kv_heads),
        differs("head size", a.head_dim, b.head_dim),
        differs("feed-forward size", a.ffn_dim, b.ffn_dim), differs("vocabulary", a.vocab, b.vocab),
        differs("norm epsilon", a.norm_eps, b.norm_eps),
        differs("rope theta", a.rope_theta, b.rope_theta), differs("rope scaling", rope_a, rope_b),
        differs("context", a.max_context, b.max_context)}) {
    if (!text.empty()) return text;
  }
  return {};
}

Result<std::string> meta_params_text(const ModelConfig& config) {
  TG_ASSIGN(const RopeScaling rule, rope_rule(config));
  if (rule.kind == RopeScaling::Kind::kLinear) {
    return error(ErrorCode::kUnsupported, "params.json has no word for rope scaling \"{}\"",
                 rule_text(rule));
  }
  OrderedJson json;
  json["dim"] = config.dim;
  json["n_layers"] = config.layers;
  json["n_heads"] = config.heads;
  json["n_kv_heads"] = config.kv_heads;
  json["vocab_size"] = config.vocab;
  if (const auto ffn = ffn_rule(config)) {
    json["ffn_dim_multiplier"] = ffn->second;
    json["multiple_of"] = ffn->first;
  } else {
    json["hidden_dim"] = config.ffn_dim;
  }
  json["norm_eps"] = config.norm_eps;
  json["rope_theta"] = config.rope_theta;
  json["use_scaled_rope"] = rule.kind == RopeScaling::Kind::kLlama3;
  if (config.head_dim * config.heads != config.dim) json["head_dim"] = config.head_dim;

  // Other readers of params.json do not like keys that they do not know: only what the reader would
  // take otherwise is added.
  TG_ASSIGN(const ModelConfig plain, read_meta_params(json.dump()));
  add_rope_keys(rule, plain.rope_scaling, json);
  if (config.max_context != plain.max_context) {
    json["max_position_embeddings"] = config.max_context;
  }
  const std::string text = json.dump();
  TG_ASSIGN(const ModelConfig again, read_meta_params(text));
  TG_RETURN_IF_ERROR(check_same("params.json", config, again));
  return text + "\n";
}

Result<std::string> huggingface_config_text(const ModelConfig& config, DType dtype) {
  TG_ASSIGN(const RopeScaling rule, rope_rule(config));
  OrderedJson json;
  json["architectures"] = OrderedJson::array({"LlamaForCausalLM"});
  json["attention_bias"] = false;
  json["attention_dropout"] = 0.0;
  json["bos_token_id"] = begin_id(config);
  json["eos_token_id"] = stop_ids(config);
  json["head_dim"] = config.head_dim;
  json["hidden_act"] = "silu";
  json["hidden_size"] = config.dim;
  json["initializer_range"] = 0.02;
  json["intermediate_size"] = config.ffn_dim;
  json["max_position_embeddings"] = config.max_context;
  json["mlp_bias"] = false;
  json["model_type"] = "llama";
  json["num_attention_heads"] = config.heads;
  json["num_hidden_layers"] = config.layers;
  json["num_key_value_heads"] = config.kv_heads;
  json["pretraining_tp"] = 1;
  json["rms_norm_eps"] = config.norm_eps;
  json["rope_scaling"] = nullptr;
  if (rule.kind == RopeScaling::Kind::kLlama3) {
    json["rope_scaling"] =
        OrderedJson::object({{"factor", rule.factor},
                             {"high_freq_factor", rule.high_frequency_factor},
                             {"low_freq_factor", rule.low_frequency_factor},
                             {"original_max_position_embeddings", rule.original_context},
                             {"rope_type", "llama3"}});
  } else if (rule.kind == RopeScaling::Kind::kLinear) {
    json["rope_scaling"] = OrderedJson::object({{"factor", rule.factor}, {"rope_type", "linear"}});
  }
  json["rope_theta"] = config.rope_theta;
  json["tie_word_embeddings"] = config.tied_embeddings;
  json["torch_dtype"] = torch_name(dtype);
  json["use_cache"] = true;
  json["vocab_size"] = config.vocab;
  const std::string text = json.dump(2);
  TG_ASSIGN(const HuggingFaceConfig again, read_huggingface_config(text));
  TG_RETURN_IF_ERROR(check_same("config.json", config, again.config));
  return text + "\n";
}

std::string generation_config_text(const ModelConfig& config) {
  OrderedJson json;
  json["bos_token_id"] = begin_id(config);
  json["eos_token_id"] = stop_ids(config);
  return json.dump(2) + "\n";
}

}  // namespace tg
