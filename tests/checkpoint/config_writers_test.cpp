// Configs written and read back: every number survives, and what a format cannot say is refused.
#include "checkpoint/config_writers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "checkpoint/config_readers.h"

namespace tg {
namespace {

ModelConfig llama(std::int64_t dim, std::int64_t layers, std::int64_t heads, std::int64_t ffn_dim) {
  ModelConfig c;
  c.dim = dim;
  c.layers = layers;
  c.heads = heads;
  c.kv_heads = 8;
  c.head_dim = dim / heads;
  c.ffn_dim = ffn_dim;
  c.vocab = 128256;
  c.rope_scaling.kind = RopeScaling::Kind::kLlama3;
  c.rope_scaling.factor = 8;
  return c;
}

nlohmann::json params_of(const ModelConfig& config) {
  const auto text = meta_params_text(config);
  EXPECT_TRUE(text) << text.error().text();
  return text ? nlohmann::json::parse(*text) : nlohmann::json();
}

void expect_both_forms_say(const ModelConfig& config) {
  const auto params = meta_params_text(config);
  ASSERT_TRUE(params) << params.error().text();
  const auto from_params = read_meta_params(*params);
  ASSERT_TRUE(from_params) << from_params.error().text();
  EXPECT_EQ(config_difference(config, *from_params), "");
  const auto text = huggingface_config_text(config, DType::kBf16);
  ASSERT_TRUE(text) << text.error().text();
  const auto again = read_huggingface_config(*text);
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(config_difference(config, again->config), "");
}

TEST(ConfigWriters, The70BsParamsAreThePublishedOnes) {
  EXPECT_EQ(params_of(llama(8192, 80, 64, 28672)),
            nlohmann::json::parse(
                R"({"dim": 8192, "ffn_dim_multiplier": 1.3, "multiple_of": 4096, "n_heads": 64,
                    "n_kv_heads": 8, "n_layers": 80, "norm_eps": 1e-05, "rope_theta": 500000.0,
                    "use_scaled_rope": true, "vocab_size": 128256})"));
}

TEST(ConfigWriters, OddNumbersSurvive) {
  ModelConfig config = llama(3072, 28, 24, 8192);  // 3B: its factor of 32 is known by its shape
  config.rope_scaling.factor = 32;
  EXPECT_FALSE(params_of(config).contains("rope_scaling_factor"));
  expect_both_forms_say(config);

  config = llama(4096, 32, 32, 14335);
  config.head_dim = 80;
  config.norm_eps = 9.999999747378752e-06;
  config.rope_theta = 123456.75;
  config.rope_scaling.factor = 32;
  config.rope_scaling.low_frequency_factor = 1.5;
  config.rope_scaling.high_frequency_factor = 3.5;
  config.rope_scaling.original_context = 4096;
  config.max_context = 9999;
  expect_both_forms_say(config);

  config.rope_scaling = {};
  expect_both_forms_say(config);
}

TEST(ConfigWriters, LinearScalingIsRefusedWhereThereIsNoWordForIt) {
  ModelConfig config = llama(4096, 32, 32, 14336);
  config.rope_scaling.kind = RopeScaling::Kind::kLinear;
  config.rope_scaling.factor = 2.5;
  const auto params = meta_params_text(config);
  ASSERT_FALSE(params);
  EXPECT_EQ(params.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(params.error().text(), testing::HasSubstr("linear by 2.5"));
  const auto text = huggingface_config_text(config, DType::kF16);
  ASSERT_TRUE(text) << text.error().text();
  EXPECT_EQ(nlohmann::json::parse(*text).at("torch_dtype"), "float16");
}

// The divisors that llama.cpp's converter stores for Llama 3.1, computed as it does.
TEST(ConfigWriters, DivisorsBecomeTheRuleAgain) {
  ModelConfig config = llama(4096, 32, 32, 14336);
  const RopeScaling rule = config.rope_scaling;
  for (int i = 0; i < 64; ++i) {
    const double frequency = 1.0 / std::pow(500000.0, 2.0 * i / 128.0);
    const double wavelength = 2 * 3.14159265358979 / frequency;
    double divisor = 8.0;
    if (wavelength < 8192.0 / 4) {
      divisor = 1.0;
    } else if (wavelength <= 8192.0) {
      const double smooth = (8192.0 / wavelength - 1.0) / 3.0;
      divisor = 1.0 / ((1.0 - smooth) / 8.0 + smooth);
    }
    config.rope_scaling.divisors.push_back(static_cast<float>(divisor));
  }
  const auto found = rope_rule(config);
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(found->factor, rule.factor);
  EXPECT_EQ(found->original_context, 8192);
  EXPECT_TRUE(found->divisors.empty());
  expect_both_forms_say(config);
  config.rope_scaling.divisors[3] = 2.0F;
  const auto none = rope_rule(config);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().text(), testing::HasSubstr("64 rope divisors"));
  EXPECT_FALSE(meta_params_text(config));
}

TEST(ConfigWriters, UnknownIdsAreNull) {
  ModelConfig config = llama(4096, 32, 32, 14336);
  EXPECT_EQ(nlohmann::json::parse(generation_config_text(config)),
            nlohmann::json::parse(R"({"bos_token_id": null, "eos_token_id": null})"));
  config.bos_id = 5;
  config.stop_ids = {7, 9};
  EXPECT_EQ(nlohmann::json::parse(generation_config_text(config)),
            nlohmann::json::parse(R"({"bos_token_id": 5, "eos_token_id": [7, 9]})"));
}

}  // namespace
}  // namespace tg
