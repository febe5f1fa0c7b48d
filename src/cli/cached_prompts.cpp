#include "cli/cached_prompts.h"

#include <utility>

namespace tg {

Result<StepResult> CachedPrompts::step(const StepBatch& batch) {
  sequences_.clear();
  asks_.clear();
  asks_.reserve(batch.sequences.size());  // the sequences point into it
  sequences_.reserve(batch.sequences.size());
  for (const StepSequence& sequence : batch.sequences) {
    const auto last = static_cast<std::int64_t>(sequence.tokens.size()) - 1;
    if (last == 0) {
      sequences_.push_back(sequence);
      continue;
    }
    if (sequence.asks.empty()) continue;
    std::vector<RowAsk>& asks = asks_.emplace_back(sequence.asks.begin(), sequence.asks.end());
    for (RowAsk& ask : asks) {
      if (ask.row != last) {
        return error(ErrorCode::kBadArgument,
                     "asks row {} of a prompt chunk of {} taken for cached", ask.row, last + 1);
      }
      ask.row = 0;
    }
    StepSequence& one = sequences_.emplace_back(sequence);
    one.tokens = sequence.tokens.last(1);
    one.first_position += last;
    one.asks = asks;
  }
  if (sequences_.empty()) return StepResult{};
  return runner_.step({sequences_});
}

}  // namespace tg
