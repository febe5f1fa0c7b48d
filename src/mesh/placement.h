// What: how one logical tensor lies over one axis of the mesh (the terms of PyTorch's DTensor).
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>

namespace tg {

// The two dimensions of an activation.
enum class Dim : std::uint8_t { kTokens, kFeatures };

struct Placement {
  enum class Kind : std::uint8_t {
    kReplicate,  // every device along the axis has all of it
    kShard,      // device i has the i-th part of `dim`
    kPartial,    // every device has a summand of it
  };
  Kind kind = Kind::kReplicate;
  Dim dim = Dim::kFeatures;  // of kShard

  bool operator==(const Placement&) const = default;
};

inline constexpr Placement kReplicate{Placement::Kind::kReplicate, Dim::kFeatures};
inline constexpr Placement kPartial{Placement::Kind::kPartial, Dim::kFeatures};
inline constexpr Placement kShardFeatures{Placement::Kind::kShard, Dim::kFeatures};
inline constexpr Placement kShardTokens{Placement::Kind::kShard, Dim::kTokens};

}  // namespace tg
