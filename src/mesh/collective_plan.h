// What: for each collective of the model, which algorithm it takes and in which number format its
//   values cross the links.
// Who owns: plain values, made from options by the command line. Thread: any.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "mesh/hop_schedule.h"
#include "mesh/payload.h"

namespace tg {

// What a collective is for, by the original's names. kFf3 also gathers the input of w2; kSampling
// sums the LM head and gathers the vocabulary.
enum class Use : std::uint8_t { kQkv, kWo, kFf1, kFf3, kFf2, kLayerNorm, kSdpa, kSampling };
inline constexpr std::size_t kUses = 8;

const char* name(Use use);  // "QKV", "WO", "FF1", "FF3", "FF2", "LAYERNORM", "SDPA", "SAMPLING"
std::span<const Use> all_uses();
Result<Use> parse_use(std::string_view text);

struct CollectivePlan {
  std::array<HopAlgorithm, kUses> reduce_scatter{};  // [Use]; ring unless said otherwise
  std::array<HopAlgorithm, kUses> all_gather{};      // [Use]
  PayloadDType payload = PayloadDType::kF32;
  std::int64_t links = 4;  // per neighbour; for the cost model only

  HopAlgorithm algorithm(HopWork work, Use use) const {
    const auto& table = work == HopWork::kReduceScatter ? reduce_scatter : all_gather;
    return table[static_cast<std::size_t>(use)];
  }
  // Statistics and logits always cross as f32: the first are one number per row, and of the second
  // the sampler promises exact choices.
  PayloadDType payload_of(Use use) const {
    return use == Use::kLayerNorm || use == Use::kSampling ? PayloadDType::kF32 : payload;
  }
  void set_all(HopAlgorithm algorithm) {
    reduce_scatter.fill(algorithm);
    all_gather.fill(algorithm);
  }
};

}  // namespace tg
