// What: the rotary position embedding's frequencies, plain or stretched as the checkpoint says, and
//   the cosines and sines of a position.
// Who owns: plain value. Thread: const from any.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/model_config.h"

namespace tg {

// Angle per position of each pair of a head: [head_dim / 2], in f32 with the roundings of the
// reference implementations (Meta's and transformers' agree): at position 100000 another rounding
// of a frequency would turn a pair by a visible angle. Rule "llama3": Meta's release of Llama 3.1.
std::vector<float> rope_frequencies(const ModelConfig& config);

// cos and sin of position * frequency, all [head_dim / 2]. The angle is an f32 product, as in the
// references; its cosine and sine are correct to the last f32 bit.
void rope_angles(std::span<const float> frequencies, std::int64_t position, std::span<float> cos,
                 std::span<float> sin);

}  // namespace tg
