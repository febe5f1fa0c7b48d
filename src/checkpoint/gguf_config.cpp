// Metadata of a GGUF file -> ModelConfig. Keys and defaults are those of llama.cpp's loader for the
// "llama" architecture; what that loader would ignore but that changes the model is refused here.
#include <algorithm>
#include <cmath>
#include <string>

#include "checkpoint/dequantize.h"
#include "checkpoint/file_kind.h"
#include "checkpoint/gguf_source.h"

namespace tg {
namespace {

// Above any model, and small enough that a product of two sizes cannot overflow.
constexpr std::int64_t kLargestSize = std::int64_t{1} << 30;

Result<std::int64_t> in_range(std::int64_t value, std::string_view key) {
  if (value < 1 || value > kLargestSize) {
    return error(ErrorCode::kBadInput, "key '{}' is {}, possible are 1 to {}", key, value,
                 kLargestSize);
  }
  return value;
}

// A size that must be there.
Result<std::int64_t> size_key(const GgufFile& file, std::string_view key) {
  TG_ASSIGN(const auto value, file.integer(key));
  if (!value) return error(ErrorCode::kBadInput, "key '{}' is missing", key);
  return in_range(*value, key);
}

Result<std::int64_t> size_key(const GgufFile& file, std::string_view key, std::int64_t fallback) {
  if (file.find(key) == nullptr) return fallback;
  return size_key(file, key);
}

// A size that may be given once or per layer. Layers of different sizes are another kind of model.
Result<std::optional<std::int64_t>> size_of_all_layers(const GgufFile& file, std::string_view key) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) return std::optional<std::int64_t>();
  if (!value->is_array()) {
    TG_ASSIGN(const std::int64_t size, size_key(file, key));
    return std::optional(size);
  }
  const auto sizes = value->integers();
  if (!sizes || sizes->empty()) {
    return error(ErrorCode::kBadInput, "key '{}' is an array without integers", key);
  }
  const auto other = std::find_if(sizes->begin(), sizes->end(),
                                  [&](std::int64_t size) { return size != sizes->front(); });
  if (other != sizes->end()) {
    return error(ErrorCode::kUnsupported,
                 "key '{}' differs by layer: {} in layer 0, {} in layer {}", key, sizes->front(),
                 *other, other - sizes->begin());
  }
  TG_ASSIGN(const std::int64_t size, in_range(sizes->front(), key));
  return std::optional(size);
}

Result<double> positive_key(const GgufFile& file, std::string_view key,
                            std::optional<double> fallback) {
  TG_ASSIGN(const auto value, file.number(key));
  if (!value && fallback) return *fallback;
  if (!value) return error(ErrorCode::kBadInput, "key '{}' is missing", key);
  if (!std::isfinite(*value) || *value <= 0.0) {
    return error(ErrorCode::kBadInput, "key '{}' is {}, not a positive number", key, *value);
  }
  return *value;
}

// rope_freqs.weight: what each rotary frequency is divided by, one per pair of a head.
Result<std::vector<float>> read_divisors(const GgufFile& file, const GgufTensor& tensor,
                                         std::int64_t head_dim) {
  if (tensor.dimensions.size() != 1 || tensor.dimensions[0] != head_dim / 2 ||
      tensor.dtype != DType::kF32) {
    return error(ErrorCode::kBadInput,
                 "tensor 'rope_freqs.weight' is {} [{}], wanted is F32 [{}] (half the head size)",
                 tensor.type_name(), fmt::join(tensor.dimensions, ", "), head_dim / 2);
  }
  std::vector<float> divisors(static_cast<std::size_t>(head_dim / 2));
  dequantize(DType::kF32,
             file.bytes().subspan(static_cast<std::size_t>(tensor.offset),
                                  static_cast<std::size_t>(tensor.bytes)),
             divisors);
  for (std::size_t i = 0; i < divisors.size(); ++i) {
    if (!std::isfinite(divisors[i]) || divisors[i] <= 0.0F) {
      return error(ErrorCode::kBadInput,
                   "tensor 'rope_freqs.weight' has {} at index {}, not a positive number",
                   divisors[i], i);
    }
  }
  return divisors;
}

Result<RopeScaling> read_rope_scaling(const GgufFile& file, std::int64_t head_dim) {
  RopeScaling scaling;
  // Without a type, a factor means linear. rope.scale_linear is the older name of the factor; 0 in
  // either means none.
  TG_ASSIGN(const auto type, file.text("llama.rope.scaling.type"));
  if (type && *type != "none" && *type != "linear") {
    return error(ErrorCode::kUnsupported,
                 "rope scaling '{}'; none, linear and llama3 are supported", printable(*type));
  }
  TG_ASSIGN(auto factor, file.number("llama.rope.scaling.factor"));
  if (!factor) {
    TG_ASSIGN(factor, file.number("llama.rope.scale_linear"));
  }
  if (factor && (!std::isfinite(*factor) || *factor < 0.0)) {
    return error(ErrorCode::kBadInput, "the rope scaling factor is {}", *factor);
  }
  if (type != "none" && factor && *factor != 0.0 && *factor != 1.0) {
    scaling.kind = RopeScaling::Kind::kLinear;
    scaling.factor = *factor;
  }
  TG_ASSIGN(scaling.original_context,
            size_key(file, "llama.rope.scaling.original_context_length", scaling.original_context));

  for (const std::string_view longrope :
       {"rope_factors_long.weight", "rope_factors_short.weight"}) {
    if (file.find_tensor(longrope) != nullptr) {
      return error(ErrorCode::kUnsupported,
                   "rope scaling 'longrope' (tensor '{}'); none, linear and llama3 are supported",
                   longrope);
    }
  }
  if (const GgufTensor* divisors = file.find_tensor("rope_freqs.weight")) {
    if (scaling.kind == RopeScaling::Kind::kLinear) {
      return error(ErrorCode::kUnsupported,
                   "linear rope scaling by {} together with the tensor 'rope_freqs.weight'",
                   scaling.factor);
    }
    TG_ASSIGN(scaling.divisors, read_divisors(file, *divisors, head_dim));
    scaling.kind = RopeScaling::Kind::kLlama3;
  }
  return scaling;
}

Status check_architecture(const GgufFile& file) {
  TG_ASSIGN(const auto architecture, file.text("general.architecture"));
  if (!architecture) return error(ErrorCode::kBadInput, "key 'general.architecture' is missing");
  if (*architecture != "llama") {
    return error(ErrorCode::kUnsupported, "a model of architecture '{}'; only 'llama' is supported",
                 printable(*architecture));
  }
  TG_ASSIGN(const auto type, file.text("general.type"));
  if (type && *type != "model") {
    return error(ErrorCode::kUnsupported, "the file holds a '{}', not a model", printable(*type));
  }
  TG_ASSIGN(const auto experts, file.integer("llama.expert_count"));
  if (experts && *experts > 0) {
    return error(ErrorCode::kUnsupported,
                 "a mixture of {} experts; only dense models are supported", *experts);
  }
  TG_ASSIGN(const auto causal, file.boolean("llama.attention.causal"));
  if (causal && !*causal) {
    return error(ErrorCode::kUnsupported, "an embedding model: its attention is not causal");
  }
  return {};
}

// A special token's id; nothing when the key is absent or says "no such token" (all bits set).
Result<std::optional<std::int32_t>> token_id(const GgufFile& file, std::string_view key,
                                             std::int64_t vocab) {
  TG_ASSIGN(const auto id, file.integer(key));
  if (!id || *id == -1 || *id == 0xffffffffLL) return std::optional<std::int32_t>();
  if (*id < 0 || *id >= vocab) {
    return error(ErrorCode::kBadInput, "key '{}' is token {} of a vocabulary of {}", key, *id,
                 vocab);
  }
  return std::optional(static_cast<std::int32_t>(*id));
}

Result<std::vector<std::string_view>> token_texts(const GgufFile& file) {
  const GgufValue* tokens = file.find("tokenizer.ggml.tokens");
  if (tokens == nullptr) return std::vector<std::string_view>();
  auto texts = tokens->texts();
  if (!texts)
    return error(ErrorCode::kBadInput, "key 'tokenizer.ggml.tokens' is not an array of strings");
  return *std::move(texts);
}

Result<std::vector<std::int64_t>> token_types(const GgufFile& file, std::size_t token_count) {
  const GgufValue* value = file.find("tokenizer.ggml.token_type");
  if (value == nullptr) {
    return std::vector<std::int64_t>(token_count,
                                     static_cast<std::int64_t>(GgufTokenType::kNormal));
  }
  auto types = value->integers();
  if (!types)
    return error(ErrorCode::kBadInput,
                 "key 'tokenizer.ggml.token_type' is not an array of integers");
  if (types->size() != token_count) {
    return error(ErrorCode::kBadInput, "the tokenizer has {} tokens but {} token types",
                 token_count, types->size());
  }
  return *std::move(types);
}

// The ids that end an answer: the end-of-sequence, -turn and -message tokens that the file names,
// and the chat end tokens of its vocabulary, which files do not always name.
Result<std::vector<std::int32_t>> read_stop_ids(const GgufFile& file, std::int64_t vocab) {
  std::vector<std::int32_t> ids;
  const auto add = [&](std::int32_t id) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  };
  for (const std::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                     "tokenizer.ggml.eom_token_id"}) {
    TG_ASSIGN(const auto id, token_id(file, key, vocab));
    if (id) add(*id);
  }
  TG_ASSIGN(const auto texts, token_texts(file));
  TG_ASSIGN(const auto types, token_types(file, texts.size()));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (types[i] != static_cast<std::int64_t>(GgufTokenType::kControl)) continue;
    for (const std::string_view end :
         {"<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "<|im_end|>"}) {
      if (texts[i] == end) add(static_cast<std::int32_t>(i));
    }
  }
  return ids;
}

bool adds_bos_by_default(std::string_view model, std::string_view pre) {
  if (model == "llama" || model == "bert") return true;
  if (model != "gpt2") return false;
  constexpr std::string_view kWithBos[] = {"llama3",       "llama-v3", "llama-bpe", "falcon3",
                                           "falcon-h1",    "pixtral",  "midm-2.0",  "lfm2",
                                           "jina-v5-nano", "tekken",   "chameleon"};
  return std::find(std::begin(kWithBos), std::end(kWithBos), pre) != std::end(kWithBos);
}

}  // namespace

Result<ModelConfig> gguf_config(const GgufFile& file) {
  TG_RETURN_IF_ERROR(check_architecture(file));
  ModelConfig config;
  config.format = "gguf";
  TG_ASSIGN(const auto model_name, file.text("general.name"));
  if (model_name) config.name = printable(*model_name);

  TG_ASSIGN(config.layers, size_key(file, "llama.block_count"));
  TG_ASSIGN(config.dim, size_key(file, "llama.embedding_length"));
  TG_ASSIGN(config.max_context, size_key(file, "llama.context_length"));
  TG_ASSIGN(const auto ffn_dim, size_of_all_layers(file, "llama.feed_forward_length"));
  TG_ASSIGN(const auto heads, size_of_all_layers(file, "llama.attention.head_count"));
  TG_ASSIGN(const auto kv_heads, size_of_all_layers(file, "llama.attention.head_count_kv"));
  if (!ffn_dim || !heads) {
    return error(ErrorCode::kBadInput, "key '{}' is missing",
                 ffn_dim ? "llama.attention.head_count" : "llama.feed_forward_length");
  }
  config.ffn_dim = *ffn_dim;
  config.heads = *heads;
  config.kv_heads = kv_heads.value_or(*heads);
  if (config.heads % config.kv_heads != 0) {
    return error(ErrorCode::kBadInput, "{} heads cannot share {} key/value heads evenly",
                 config.heads, config.kv_heads);
  }
  if (file.find("llama.attention.key_length") == nullptr && config.dim % config.heads != 0) {
    return error(ErrorCode::kBadInput, "embedding length {} is not a multiple of {} heads",
                 config.dim, config.heads);
  }
  const std::int64_t even_share = config.dim / config.heads;
  TG_ASSIGN(config.head_dim, size_key(file, "llama.attention.key_length", even_share));
  TG_ASSIGN(const auto value_dim, size_key(file, "llama.attention.value_length", even_share));
  TG_ASSIGN(const auto rope_dim, size_key(file, "llama.rope.dimension_count", config.head_dim));
  if (value_dim != config.head_dim) {
    return error(ErrorCode::kUnsupported,
                 "keys of {} and values of {} per head; they must be equal", config.head_dim,
                 value_dim);
  }
  if (rope_dim != config.head_dim) {
    return error(ErrorCode::kUnsupported, "rope turns {} of {} values of a head; it must be all",
                 rope_dim, config.head_dim);
  }
  if (config.head_dim % 2 != 0) {
    return error(ErrorCode::kBadInput, "a head of {} values cannot be turned in pairs",
                 config.head_dim);
  }
  TG_ASSIGN(config.norm_eps,
            positive_key(file, "llama.attention.layer_norm_rms_epsilon", std::nullopt));
  TG_ASSIGN(config.rope_theta, positive_key(file, "llama.rope.freq_base", 10000.0));
  TG_ASSIGN(config.rope_scaling, read_rope_scaling(file, config.head_dim));

  // The embedding's rows are the vocabulary; llama.vocab_size is not always right (or there).
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->dimensions.size() != 2) {
    return error(ErrorCode::kBadInput, "tensor 'token_embd.weight' is missing or not a matrix");
  }
  TG_ASSIGN(config.vocab, in_range(embedding->dimensions[1], "rows of token_embd.weight"));
  config.tied_embeddings = file.find_tensor("output.weight") == nullptr;
  const GgufValue* tokens = file.find("tokenizer.ggml.tokens");
  if (tokens != nullptr && static_cast<std::int64_t>(tokens->count()) != config.vocab) {
    return error(ErrorCode::kBadInput, "the tokenizer has {} tokens but the embedding has {} rows",
                 tokens->count(), config.vocab);
  }
  TG_ASSIGN(config.bos_id, token_id(file, "tokenizer.ggml.bos_token_id", config.vocab));
  TG_ASSIGN(config.stop_ids, read_stop_ids(file, config.vocab));
  return config;
}

Result<GgufTokenizerData> gguf_tokenizer(const GgufFile& file) {
  GgufTokenizerData data;
  TG_ASSIGN(const auto model, file.text("tokenizer.ggml.model"));
  TG_ASSIGN(const auto texts, token_texts(file));
  if (!model || texts.empty()) {
    return error(ErrorCode::kNotFound, "the file has no tokenizer (key '{}' is missing)",
                 model ? "tokenizer.ggml.tokens" : "tokenizer.ggml.model");
  }
  data.model = *model;
  TG_ASSIGN(const auto pre, file.text("tokenizer.ggml.pre"));
  data.pre = pre.value_or("default");
  data.tokens.assign(texts.begin(), texts.end());
  TG_ASSIGN(const auto types, token_types(file, texts.size()));
  data.types.reserve(types.size());
  for (const std::int64_t type : types) data.types.push_back(static_cast<std::int32_t>(type));
  if (const GgufValue* value = file.find("tokenizer.ggml.merges")) {
    const auto merges = value->texts();
    if (!merges)
      return error(ErrorCode::kBadInput, "key 'tokenizer.ggml.merges' is not an array of strings");
    data.merges.assign(merges->begin(), merges->end());
  }
  const auto vocab = static_cast<std::int64_t>(texts.size());
  TG_ASSIGN(data.bos, token_id(file, "tokenizer.ggml.bos_token_id", vocab));
  TG_ASSIGN(data.eos, token_id(file, "tokenizer.ggml.eos_token_id", vocab));
  TG_ASSIGN(const auto add_bos, file.boolean("tokenizer.ggml.add_bos_token"));
  data.add_bos = data.bos && add_bos.value_or(adds_bos_by_default(data.model, data.pre));
  TG_ASSIGN(const auto chat_template, file.text("tokenizer.chat_template"));
  data.chat_template = chat_template.value_or("");
  return data;
}

}  // namespace tg
