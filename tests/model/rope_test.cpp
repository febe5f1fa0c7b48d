#include "model/rope.h"

#include <cmath>

#include "test_model.h"

namespace tg {
namespace {

ModelConfig llama31(std::int64_t head_dim) {
  ModelConfig config;
  config.head_dim = head_dim;
  config.rope_theta = 500000.0;
  config.rope_scaling = {.kind = RopeScaling::Kind::kLlama3,
                         .factor = 8.0,
                         .low_frequency_factor = 1.0,
                         .high_frequency_factor = 4.0,
                         .original_context = 8192,
                         .divisors = {}};
  return config;
}

TEST(Rope, FrequenciesAndAnglesOfTheReferences) {
  const auto golden = test::read_json("rope.json");
  ASSERT_EQ(golden["head_dims"].size(), 3U);
  for (const auto& [head_dim, numbers] : golden["head_dims"].items()) {
    const std::vector<float> frequencies = rope_frequencies(llama31(std::stoll(head_dim)));
    const std::vector<double> expected = numbers["freq_hf_f32"];
    ASSERT_EQ(frequencies.size(), expected.size());
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
      EXPECT_NEAR(frequencies[i], expected[i], 1e-6 * expected[i]) << head_dim << " " << i;
    }
    std::vector<float> cos(frequencies.size());
    std::vector<float> sin(frequencies.size());
    for (std::size_t p = 0; p < golden["positions"].size(); ++p) {
      rope_angles(frequencies, golden["positions"][p], cos, sin);
      for (std::size_t i = 0; i < frequencies.size(); ++i) {
        EXPECT_NEAR(cos[i], numbers["cos_hf"][p][i].get<double>(), 1e-6) << head_dim << " " << i;
        EXPECT_NEAR(sin[i], numbers["sin_hf"][p][i].get<double>(), 1e-6) << head_dim << " " << i;
        EXPECT_NEAR(cos[i], numbers["cos_f64"][p][i].get<double>(), 5e-3) << head_dim << " " << i;
        EXPECT_NEAR(sin[i], numbers["sin_f64"][p][i].get<double>(), 5e-3) << head_dim << " " << i;
      }
    }
  }
}

TEST(Rope, PlainLinearAndDivisors) {
  ModelConfig config;
  config.head_dim = 128;
  config.rope_theta = 10000.0;
  const std::vector<float> plain = rope_frequencies(config);
  ASSERT_EQ(plain.size(), 64U);
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const double truth = std::pow(10000.0, -static_cast<double>(i) / 64.0);
    EXPECT_NEAR(plain[i], truth, 1e-6 * truth);
  }
  config.rope_scaling.kind = RopeScaling::Kind::kLinear;
  config.rope_scaling.factor = 4.0;
  const std::vector<float> linear = rope_frequencies(config);
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(linear[i], plain[i] / 4.0F);
  config.rope_scaling = {};
  config.rope_scaling.divisors.assign(64, 2.0F);
  config.rope_scaling.divisors[63] = 8.0F;
  const std::vector<float> divided = rope_frequencies(config);
  EXPECT_EQ(divided[0], 0.5F);
  EXPECT_EQ(divided[63], plain[63] / 8.0F);
}

}  // namespace
}  // namespace tg
