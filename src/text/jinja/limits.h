// What: what a rendering may cost, and the meter that it runs against. A meter that ran out stays
//   so: loops deep inside helpers see spend() fail and stop early, and the interpreter turns the
//   state into an error with the numbers at its next step.
// Who owns: one Meter per rendering. Thread: that of the rendering.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace tg::jinja {

struct RenderLimits {
  // One step is one evaluated node, one list element or 128 bytes of text made. A chat of 128k
  // tokens needs some 100 thousand; 2 million take a fraction of a second and less than 300 MB.
  std::int64_t steps = 2'000'000;
  // Of the output, and of any single string on the way to it.
  std::size_t output_bytes = std::size_t{16} << 20;
  // Nested expressions, statements and macro calls; 300 is about 60 macro calls within each other
  // and needs less than 2 MiB of stack (8 MiB with AddressSanitizer).
  int depth = 300;
};

// Lists, tuples and dicts nested in values may not go deeper: what walks them may recurse.
inline constexpr int kMaxValueDepth = 128;

class Meter {
 public:
  explicit Meter(const RenderLimits& limits) : limits_(limits), left_(limits.steps) {}

  // False when the steps are used up.
  bool spend(std::int64_t steps) {
    left_ -= steps;
    if (left_ < 0) out_of_steps_ = true;
    return ok();
  }
  // Pays for making a string of this many bytes; false when it is longer than any may be.
  bool spend_bytes(std::size_t bytes) {
    if (bytes > limits_.output_bytes) too_long_ = true;
    return !too_long_ && spend(static_cast<std::int64_t>(bytes / 128));
  }
  bool ok() const { return !out_of_steps_ && !too_long_; }

  // The error of a meter that is not ok().
  tl::unexpected<Error> exhausted() const {
    if (too_long_) {
      return error(ErrorCode::kOutOfCapacity, "the template makes more than {} bytes of text",
                   limits_.output_bytes);
    }
    return error(ErrorCode::kOutOfCapacity, "the template needs more than {} steps", limits_.steps);
  }
  const RenderLimits& limits() const { return limits_; }

  // Counts one level of recursion while it lives.
  class Level {
   public:
    explicit Level(Meter& meter) : meter_(meter) { ++meter_.depth_; }
    ~Level() { --meter_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    bool too_deep() const { return meter_.depth_ > meter_.limits_.depth; }
    tl::unexpected<Error> error() const {
      return tg::error(ErrorCode::kOutOfCapacity, "the template nests calls deeper than {}",
                       meter_.limits_.depth);
    }

   private:
    Meter& meter_;
  };

 private:
  RenderLimits limits_;
  std::int64_t left_;
  bool out_of_steps_ = false;
  bool too_long_ = false;
  int depth_ = 0;
};

}  // namespace tg::jinja
