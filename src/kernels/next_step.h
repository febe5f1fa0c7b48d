// What: internal to the kernels layer: the groups of positions that a step of attention looks at,
//   and the prefetching of those of the step after it.
// Who owns: nothing; a walk has one of its own per step. Thread: any.
#pragma once

#include <xmmintrin.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/kernel_table.h"
#include "kernels/tables.h"

namespace tg {

inline constexpr std::size_t kGroupsPerStep = kAttentionStep / kKeyGroup;
using StepGroups = std::array<KeyGroup, kGroupsPerStep>;

// While codes are expanded, a line is asked for every so many of them: in all as often as while
// bf16 is multiplied.
inline constexpr std::int64_t kAskCodes = 256;

// Asks for the memory of the next step, little by little while this one is computed. Lines are
// taken from all keys and values of the step in turn: the processor's own prefetching sees several
// streams and runs ahead in each, which reaches more of the memory's speed than one stream.
class NextStep {
 public:
  NextStep() = default;
  NextStep(const StepGroups& groups, std::int64_t count, const KvLayer& kv)
      : lines_(kKeyGroup * kv_vector_bytes(kv.format, kv.dtype, kv.head_dim) / 64),
        askable_(kv.format == KvFormat::kCompute ? lines_ : 2 * lines_of_bf16(kv)),
        taken_per_asked_((lines_ << kFraction) / std::max<std::int64_t>(1, askable_)),
        parts_(static_cast<std::size_t>(2 * count)) {
    for (std::size_t g = 0; g < parts_ / 2; ++g) {
      from_[g] = groups[g].keys;
      from_[parts_ / 2 + g] = groups[g].values;
    }
  }

  // Lines to ask for until all of the step has been asked for.
  std::int64_t left() const { return askable_ - asked_; }

  // So many lines of each part. Kernels ask in lines of bf16, and expanding codes asks for as many
  // again; but codes are half as many lines, so that then one is taken for every four asked for.
  void ask(std::int64_t lines) {
    asked_ = std::min(asked_ + lines, askable_);
    const std::int64_t end = asked_ == askable_ ? lines_ : (asked_ * taken_per_asked_) >> kFraction;
    for (; next_ < end; ++next_) {
      for (std::size_t p = 0; p < parts_; ++p) {
        _mm_prefetch(reinterpret_cast<const char*>(from_[p] + 64 * next_), _MM_HINT_T0);
      }
    }
  }

 private:
  static constexpr int kFraction = 16;
  static std::int64_t lines_of_bf16(const KvLayer& kv) { return kKeyGroup * kv.head_dim * 2 / 64; }

  std::array<const std::byte*, 2 * kGroupsPerStep> from_{};
  std::int64_t lines_ = 0;  // of a group's keys, and of its values
  std::int64_t askable_ = 0;
  std::int64_t taken_per_asked_ = 0;  // in 2^-kFraction
  std::int64_t asked_ = 0;
  std::size_t parts_ = 0;
  std::int64_t next_ = 0;
};

}  // namespace tg
