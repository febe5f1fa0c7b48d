// What: how many tokens to propose for one user, from how the last proposals went. A window grows
//   to double where everything was right and shrinks to what was right; where nothing was, the user
//   decodes plainly for a while, the longer the more often that happens. So a text that repeats is
//   proposed in long runs, and one that does not costs two more rows in every sixteenth step.
// Who owns: the engine, one per user. Thread: the engine's.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tg {

class SpeculationWindow {
 public:
  // For this step; 0 while the user rests.
  std::int64_t size(std::int64_t most) const { return rest_ > 0 ? 0 : std::min(window_, most); }

  // A step with proposals, at least one.
  void record(std::int64_t proposed, std::int64_t accepted) {
    if (accepted == 0) {
      window_ = kNarrow;
      rest_ = next_rest_;
      next_rest_ = std::min(2 * next_rest_ + 1, kLongestRest);
      return;
    }
    next_rest_ = 0;
    // Fewer proposals than the window allows say nothing against a larger one.
    window_ =
        accepted == proposed ? std::max(window_, std::min(2 * proposed, kWidest)) : accepted + 1;
  }
  // A step without.
  void pass() { rest_ = std::max<std::int64_t>(rest_ - 1, 0); }

 private:
  // A wrong row costs a memory-bound step some 5 to 15 %: two in 16 steps are about 1 %.
  static constexpr std::int64_t kLongestRest = 15;
  // A first try that is cheap when it fails, and more than one token when it does not. (Recorded
  // answers with several policies: docs/measuring.md.)
  static constexpr std::int64_t kNarrow = 2;
  static constexpr std::int64_t kWidest = 64;  // beyond what any setting proposes at once

  std::int64_t window_ = kNarrow;
  std::int64_t rest_ = 0;  // steps of plain decoding still to come
  std::int64_t next_rest_ = 0;
};

}  // namespace tg
