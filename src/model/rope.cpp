#include "model/rope.h"

#include <cmath>
#include <numbers>

#include "base/result.h"

namespace tg {
namespace {

// Long waves (few turns within the original context) are stretched by the factor, short ones stay,
// and those between are mixed in proportion.
float llama3_frequency(float frequency, const RopeScaling& scaling) {
  const auto context = static_cast<float>(scaling.original_context);
  const auto low = static_cast<float>(scaling.low_frequency_factor);
  const auto high = static_cast<float>(scaling.high_frequency_factor);
  const auto factor = static_cast<float>(scaling.factor);
  const float wavelength = static_cast<float>(2.0 * std::numbers::pi) / frequency;
  if (wavelength > context / low) return frequency / factor;
  if (wavelength < context / high) return frequency;
  const float smooth = (context / wavelength - low) / (high - low);
  return (1.0F - smooth) * frequency / factor + smooth * frequency;
}

}  // namespace

std::vector<float> rope_frequencies(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < config.head_dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    const auto power = static_cast<float>(std::pow(config.rope_theta, exponent));
    float frequency = 1.0F / power;
    if (!scaling.divisors.empty()) {
      frequency /= scaling.divisors[static_cast<std::size_t>(i)];
    } else if (scaling.kind == RopeScaling::Kind::kLlama3) {
      frequency = llama3_frequency(frequency, scaling);
    } else if (scaling.kind == RopeScaling::Kind::kLinear) {
      frequency /= static_cast<float>(scaling.factor);
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

void rope_angles(std::span<const float> frequencies, std::int64_t position, std::span<float> cos,
                 std::span<float> sin) {
  TG_CHECK(cos.size() == frequencies.size() && sin.size() == frequencies.size());
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float angle = static_cast<float>(position) * frequencies[i];
    cos[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
    sin[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

}  // namespace tg
