#include "mesh/collective_plan.h"

#include <string>

namespace tg {
namespace {

constexpr std::array<Use, kUses> kAllUses = {Use::kQkv,  Use::kWo,      Use::kFf1,
                                             Use::kFf3,  Use::kFf2,     Use::kLayerNorm,
                                             Use::kSdpa, Use::kSampling};

}  // namespace

const char* name(Use use) {
  constexpr std::array<const char*, kUses> kNames = {"QKV", "WO",        "FF1",  "FF3",
                                                     "FF2", "LAYERNORM", "SDPA", "SAMPLING"};
  return kNames[static_cast<std::size_t>(use)];
}

std::span<const Use> all_uses() { return kAllUses; }

Result<Use> parse_use(std::string_view text) {
  std::string known;
  for (const Use use : kAllUses) {
    if (text == name(use)) return use;
    known += (known.empty() ? "" : ", ") + std::string(name(use));
  }
  return error(ErrorCode::kBadArgument, "'{}' is no use of a collective; known are {}", text,
               known);
}

}  // namespace tg
