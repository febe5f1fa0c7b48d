// What: one regular expression that cuts text into pieces, and the limit on the work it may do.
//   PCRE2 with its compiler (JIT) where the machine has one. A hostile pattern from a file can be
//   exponential, so every step of a match is counted (a callout before each item of the pattern
//   plus the bytes that the item moved over) against a budget that is linear in the text. The
//   budget is in steps, not seconds: a slow or busy machine gives the same pieces.
// Who owns: the pre-tokenizer; fixed after construction. Thread: const from any, each with its own
//   SplitWork.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tg {

// The steps that may still be taken for one text: shared by its parts and by all patterns, or a
// text of many parts could take many times as long.
class SplitWork {
 public:
  explicit SplitWork(std::size_t text_bytes);
  ~SplitWork();
  SplitWork(const SplitWork&) = delete;
  SplitWork& operator=(const SplitWork&) = delete;

  bool exhausted() const { return steps_left_ < 0; }

 private:
  friend class SplitPattern;
  struct Matching;  // PCRE2's per-match state, made once per text

  std::int64_t steps_left_;
  std::int64_t price_ = 1;    // of one step of the pattern that is matching now
  std::size_t position_ = 0;  // where in the text its last step was
  std::unique_ptr<Matching> matching_;
};

class SplitPattern {
 public:
  // kBadInput with PCRE2's own sentence and the offset for what it cannot take, kUnsupported for
  // what is too long or means something else in the engine that tokenizer.json is written for
  // (Oniguruma), and for a pattern that spends its budget on a run of a few thousand equal
  // characters.
  static Result<SplitPattern> compile(std::string_view regex);

  // Appends the matches in `text` and the stretches between them, in order; together they are the
  // text. When the work is used up, the rest of the text is one piece. `text` is valid UTF-8.
  void split(std::string_view text, SplitWork& work, std::vector<std::string_view>& pieces) const;

 private:
  struct Compiled;
  explicit SplitPattern(std::shared_ptr<const Compiled> compiled);

  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace tg
