#include "checkpoint/config_readers.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "test_files.h"

namespace tg {
namespace {

using Json = nlohmann::json;
using Kind = RopeScaling::Kind;

Json meta_70b() {
  return {{"dim", 8192},
          {"n_layers", 80},
          {"n_heads", 64},
          {"n_kv_heads", 8},
          {"vocab_size", 128256},
          {"ffn_dim_multiplier", 1.3},
          {"multiple_of", 4096},
          {"norm_eps", 1e-5},
          {"rope_theta", 500000.0},
          {"use_scaled_rope", true}};
}

Json hf_8b() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 4096},
          {"num_hidden_layers", 32},
          {"num_attention_heads", 32},
          {"num_key_value_heads", 8},
          {"intermediate_size", 14336},
          {"vocab_size", 128256},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 500000.0},
          {"max_position_embeddings", 131072}};
}

Json with(Json object, const std::string& key, const Json& value) {
  object[key] = value;
  return object;
}

ModelConfig meta(const Json& params) {
  const auto config = read_meta_params(params.dump());
  EXPECT_TRUE(config) << config.error().text();
  return config.value_or(ModelConfig{});
}

ModelConfig hf(const Json& object) {
  const auto config = read_huggingface_config(object.dump());
  EXPECT_TRUE(config) << config.error().text();
  return config ? config->config : ModelConfig{};
}

void expect_meta_refused(const Json& params, ErrorCode code, std::string_view part) {
  const auto config = read_meta_params(params.dump());
  ASSERT_FALSE(config) << "it was read; wanted: " << part;
  EXPECT_EQ(config.error().code, code) << config.error().text();
  EXPECT_NE(config.error().text().find(part), std::string::npos) << config.error().text();
}

void expect_hf_refused(const Json& object, ErrorCode code, std::string_view part) {
  const auto config = read_huggingface_config(object.dump());
  ASSERT_FALSE(config) << "it was read; wanted: " << part;
  EXPECT_EQ(config.error().code, code) << config.error().text();
  EXPECT_NE(config.error().text().find(part), std::string::npos) << config.error().text();
}

TEST(MetaParams, TheSeventyBillion) {
  const ModelConfig c = meta(meta_70b());
  EXPECT_EQ(c.ffn_dim, 28672);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.kv_heads, 8);
  EXPECT_EQ(c.vocab, 128256);
  EXPECT_EQ(c.max_context, 131072);
  EXPECT_EQ(c.rope_scaling.kind, Kind::kLlama3);
  EXPECT_EQ(c.rope_scaling.factor, 8.0);
  EXPECT_EQ(c.parameters(), 70'553'706'496);
}

TEST(MetaParams, FeedForwardSizesOfPublishedModels) {
  EXPECT_EQ(meta_ffn_dim(4096, 256, 1.0), 11008);    // Llama 2 7B
  EXPECT_EQ(meta_ffn_dim(8192, 4096, 1.3), 28672);   // 70B
  EXPECT_EQ(meta_ffn_dim(4096, 1024, 1.3), 14336);   // Llama 3 8B
  EXPECT_EQ(meta_ffn_dim(2048, 256, 1.5), 8192);     // 3.2 1B
  EXPECT_EQ(meta_ffn_dim(3072, 256, 1.0), 8192);     // 3.2 3B
  EXPECT_EQ(meta_ffn_dim(16384, 4096, 1.2), 53248);  // 405B
  EXPECT_EQ(meta_ffn_dim(256, 32, 0.5), 352);        // the oracle's tiny model
  EXPECT_EQ(meta(with(meta_70b(), "hidden_dim", 1000)).ffn_dim, 1000);
}

TEST(MetaParams, RopeOfTheSmallLlamaThreeTwo) {
  Json one = meta_70b();
  one.update({{"dim", 2048}, {"n_layers", 16}, {"n_heads", 32}, {"multiple_of", 256}});
  EXPECT_EQ(meta(one).rope_scaling.factor, 32.0);
  Json three = meta_70b();
  three.update({{"dim", 3072}, {"n_layers", 28}, {"n_heads", 24}, {"multiple_of", 256}});
  EXPECT_EQ(meta(three).rope_scaling.factor, 32.0);
  EXPECT_EQ(meta(with(one, "rope_scaling_factor", 8)).rope_scaling.factor, 8.0);
  one["use_scaled_rope"] = false;
  EXPECT_EQ(meta(one).rope_scaling.kind, Kind::kNone);
}

TEST(MetaParams, RopeSpellings) {
  Json params = meta_70b();
  params.update({{"rope_scaling_factor", 16},
                 {"low_freq_factor", 2},
                 {"high_freq_factor", 8},
                 {"original_max_position_embeddings", 4096}});
  const RopeScaling rope = meta(params).rope_scaling;
  EXPECT_EQ(rope.factor, 16.0);
  EXPECT_EQ(rope.low_frequency_factor, 2.0);
  EXPECT_EQ(rope.high_frequency_factor, 8.0);
  EXPECT_EQ(rope.original_context, 4096);
  EXPECT_EQ(meta(with(meta_70b(), "rope_high_freq_factor", 5)).rope_scaling.high_frequency_factor,
            5.0);
}

TEST(MetaParams, AbsentKeys) {
  Json params = meta_70b();
  for (const char* key : {"n_kv_heads", "vocab_size", "use_scaled_rope"}) params.erase(key);
  ModelConfig c = meta(params);
  EXPECT_EQ(c.kv_heads, 64);
  EXPECT_EQ(c.vocab, 0);
  EXPECT_EQ(c.rope_scaling.kind, Kind::kNone);
  EXPECT_EQ(c.max_context, 8192);
  params["vocab_size"] = -1;
  params["n_kv_heads"] = nullptr;
  params.erase("rope_theta");  // Llama 2
  c = meta(params);
  EXPECT_EQ(c.kv_heads, 64);
  EXPECT_EQ(c.vocab, 0);
  EXPECT_EQ(c.rope_theta, 10000.0);
  EXPECT_EQ(c.max_context, 4096);
}

TEST(MetaParams, ImpossibleNumbers) {
  const Json good = meta_70b();
  const auto bad = ErrorCode::kBadInput;
  expect_meta_refused(with(good, "n_layers", 0), bad, "layers is 0");
  expect_meta_refused(with(good, "n_layers", 2000000), bad, "2000000");
  expect_meta_refused(with(good, "n_layers", -3), bad, "-3");
  expect_meta_refused(with(good, "n_layers", "80"), bad, "\"n_layers\" is \"80\"");
  expect_meta_refused(with(good, "n_layers", 80.5), bad, "80.5");
  expect_meta_refused(with(good, "n_layers", 1e300), bad, "\"n_layers\" is 1e+300");
  expect_meta_refused(with(good, "n_heads", 0), bad, "\"n_heads\" is 0");
  expect_meta_refused(with(good, "n_heads", 60), bad, "8192 is not a multiple of \"n_heads\" 60");
  expect_meta_refused(with(good, "n_kv_heads", 7), bad, "64 is not a multiple of 7");
  expect_meta_refused(with(good, "n_kv_heads", 0), bad, "kv heads is 0");
  expect_meta_refused(with(good, "head_dim", 127), bad, "127 is odd");
  expect_meta_refused(with(good, "dim", 0), bad, "\"dim\" is 0");
  expect_meta_refused(with(good, "dim", 1LL << 40), bad, "1099511627776");
  expect_meta_refused(with(good, "multiple_of", 0), bad, "\"multiple_of\" is 0");
  expect_meta_refused(with(good, "ffn_dim_multiplier", -1), bad, "ffn_dim_multiplier");
  expect_meta_refused(with(good, "ffn_dim_multiplier", 0.00001), bad, "feed-forward size is 0");
  expect_meta_refused(with(good, "vocab_size", 0), bad, "\"vocab_size\" is 0");
  expect_meta_refused(with(good, "vocab_size", -2), bad, "\"vocab_size\" is -2");
  expect_meta_refused(with(good, "norm_eps", -1), bad, "epsilon is -1");
  expect_meta_refused(with(good, "rope_theta", 0), bad, "rope_theta is 0");
  expect_meta_refused(with(good, "rope_scaling_factor", 0), bad, "factor");
  expect_meta_refused(with(good, "low_freq_factor", 4), bad, "not 4 and 4");
  Json missing = good;
  missing.erase("dim");
  expect_meta_refused(missing, bad, "\"dim\" is missing");
  expect_meta_refused(Json::array({1}), bad, "not a JSON object");
  EXPECT_FALSE(read_meta_params("{\"dim\": "));
  EXPECT_FALSE(read_meta_params(""));
}

TEST(HuggingFaceConfig, WithoutScaling) {
  const ModelConfig c = hf(hf_8b());
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.ffn_dim, 14336);
  EXPECT_EQ(c.rope_scaling.kind, Kind::kNone);
  EXPECT_EQ(c.rope_theta, 500000.0);
  EXPECT_EQ(c.max_context, 131072);
  EXPECT_FALSE(c.tied_embeddings);
  EXPECT_EQ(hf(with(hf_8b(), "rope_scaling", nullptr)).rope_scaling.kind, Kind::kNone);
  EXPECT_EQ(hf(with(hf_8b(), "rope_scaling", {{"rope_type", "default"}})).rope_scaling.kind,
            Kind::kNone);
  EXPECT_TRUE(hf(with(hf_8b(), "tie_word_embeddings", true)).tied_embeddings);
  EXPECT_EQ(hf(with(hf_8b(), "head_dim", 64)).head_dim, 64);
}

TEST(HuggingFaceConfig, LlamaThreeRopeInEverySpelling) {
  const Json rule = {{"factor", 32.0},
                     {"low_freq_factor", 1.0},
                     {"high_freq_factor", 4.0},
                     {"original_max_position_embeddings", 8192}};
  Json newer = with(with(rule, "rope_type", "llama3"), "rope_theta", 500000.0);
  Json without_theta = hf_8b();
  without_theta.erase("rope_theta");
  for (const Json& object : {with(hf_8b(), "rope_scaling", with(rule, "rope_type", "llama3")),
                             with(hf_8b(), "rope_scaling", with(rule, "type", "llama3")),
                             with(without_theta, "rope_parameters", newer)}) {
    const ModelConfig c = hf(object);
    EXPECT_EQ(c.rope_theta, 500000.0);
    EXPECT_EQ(c.rope_scaling.kind, Kind::kLlama3);
    EXPECT_EQ(c.rope_scaling.factor, 32.0);
    EXPECT_EQ(c.rope_scaling.low_frequency_factor, 1.0);
    EXPECT_EQ(c.rope_scaling.high_frequency_factor, 4.0);
    EXPECT_EQ(c.rope_scaling.original_context, 8192);
  }
  const ModelConfig plain =
      hf(with(without_theta, "rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}}));
  EXPECT_EQ(plain.rope_theta, 1e6);
  EXPECT_EQ(plain.rope_scaling.kind, Kind::kNone);
}

TEST(HuggingFaceConfig, LinearRope) {
  for (const char* key : {"type", "rope_type"}) {
    const ModelConfig c = hf(with(hf_8b(), "rope_scaling", {{key, "linear"}, {"factor", 4}}));
    EXPECT_EQ(c.rope_scaling.kind, Kind::kLinear);
    EXPECT_EQ(c.rope_scaling.factor, 4.0);
  }
}

TEST(HuggingFaceConfig, RopeThatIsRefused) {
  for (const char* type : {"dynamic", "yarn", "longrope", "su"}) {
    expect_hf_refused(with(hf_8b(), "rope_scaling", {{"rope_type", type}, {"factor", 4}}),
                      ErrorCode::kUnsupported, "\"" + std::string(type) + "\"");
  }
  expect_hf_refused(with(hf_8b(), "rope_scaling", {{"type", "linear"}}), ErrorCode::kBadInput,
                    "\"factor\" is missing");
  expect_hf_refused(with(hf_8b(), "rope_scaling", {{"type", "linear"}, {"factor", "x"}}),
                    ErrorCode::kBadInput, "\"factor\" is \"x\"");
  expect_hf_refused(with(hf_8b(), "rope_scaling", 8), ErrorCode::kBadInput, "rope_scaling");
  expect_hf_refused(with(hf_8b(), "rope_scaling", {{"type", 3}}), ErrorCode::kBadInput, "\"type\"");
  expect_hf_refused(with(hf_8b(), "rope_parameters", {{"partial_rotary_factor", 0.5}}),
                    ErrorCode::kUnsupported, "0.5");
}

TEST(HuggingFaceConfig, OtherModelsByName) {
  const auto unsupported = ErrorCode::kUnsupported;
  expect_hf_refused(with(hf_8b(), "architectures", {"Qwen2ForCausalLM"}), unsupported,
                    "Qwen2ForCausalLM");
  expect_hf_refused(with(hf_8b(), "architectures", {"MistralForCausalLM"}), unsupported,
                    "MistralForCausalLM");
  expect_hf_refused(with(hf_8b(), "model_type", "mllama"), unsupported, "mllama");
  Json nameless = hf_8b();
  nameless.erase("architectures");
  EXPECT_EQ(hf(nameless).layers, 32);  // the type alone will do
  nameless.erase("model_type");
  expect_hf_refused(nameless, ErrorCode::kBadInput, "says what the model is");
  expect_hf_refused(with(hf_8b(), "hidden_act", "gelu"), unsupported, "gelu");
  expect_hf_refused(with(hf_8b(), "attention_bias", true), unsupported, "attention_bias");
  expect_hf_refused(with(hf_8b(), "mlp_bias", true), unsupported, "mlp_bias");
  expect_hf_refused(with(hf_8b(), "sliding_window", 4096), unsupported, "4096");
}

TEST(HuggingFaceConfig, QuantizationIsReported) {
  const Json object = with(hf_8b(), "quantization_config", {{"quant_method", "gptq"}});
  const auto config = read_huggingface_config(object.dump());
  ASSERT_TRUE(config);
  EXPECT_EQ(config->quantization, "gptq");
  EXPECT_EQ(read_huggingface_config(hf_8b().dump())->quantization, "");
}

TEST(HuggingFaceConfig, SpecialIds) {
  Json object = hf_8b();
  object.update({{"bos_token_id", 1}, {"eos_token_id", 2}});
  ModelConfig c = hf(object);
  EXPECT_EQ(c.bos_id, 1);
  EXPECT_EQ(c.stop_ids, std::vector<std::int32_t>{2});
  EXPECT_TRUE(read_generation_config(R"({"eos_token_id": [5, 6, 5], "temperature": 0.6})", c));
  EXPECT_EQ(c.bos_id, 1);
  EXPECT_EQ(c.stop_ids, (std::vector<std::int32_t>{5, 6}));
  EXPECT_TRUE(read_generation_config(R"({"bos_token_id": 9})", c));
  EXPECT_EQ(c.bos_id, 9);
  EXPECT_EQ(c.stop_ids, (std::vector<std::int32_t>{5, 6}));
  for (const char* wrong : {R"({"eos_token_id": "x"})", R"({"eos_token_id": -1})", "[]",
                            R"({"eos_token_id": [1, 2147483648]})"}) {
    EXPECT_FALSE(read_generation_config(wrong, c)) << wrong;
  }
  const ModelConfig none = hf(hf_8b());
  EXPECT_FALSE(none.bos_id.has_value());
  EXPECT_TRUE(none.stop_ids.empty());
}

TEST(HuggingFaceConfig, ImpossibleNumbers) {
  const auto bad = ErrorCode::kBadInput;
  expect_hf_refused(with(hf_8b(), "num_hidden_layers", 0), bad, "layers is 0");
  expect_hf_refused(with(hf_8b(), "num_attention_heads", 0), bad, "0");
  expect_hf_refused(with(hf_8b(), "num_key_value_heads", 5), bad, "32 is not a multiple of 5");
  expect_hf_refused(with(hf_8b(), "hidden_size", 4097), bad, "4097");
  expect_hf_refused(with(hf_8b(), "vocab_size", 0), bad, "vocabulary is 0");
  expect_hf_refused(with(hf_8b(), "intermediate_size", -1), bad, "-1");
  expect_hf_refused(with(hf_8b(), "max_position_embeddings", 0), bad, "context");
  expect_hf_refused(with(hf_8b(), "head_dim", 1 << 24), bad, "heads times head size");
  Json missing = hf_8b();
  missing.erase("intermediate_size");
  expect_hf_refused(missing, bad, "\"intermediate_size\" is missing");
}

}  // namespace
}  // namespace tg
