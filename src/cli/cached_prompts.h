// What: a ModelRunner in front of another that takes prompts for cached: of a prompt chunk only the
//   last token is run, and only if something is asked of it. So an engine can be measured while it
//   decodes at position 16384 without having computed what comes before; the time of a step does
//   not depend on what the KV memory holds.
// Who owns: the runner behind it is borrowed. Thread: one caller.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "model/model_runner.h"

namespace tg {

class CachedPrompts : public ModelRunner {
 public:
  // `max_rows`: rows of a step as the engine sees it; only the rows that are run need a place in
  // the runner's own.
  CachedPrompts(ModelRunner& runner, std::int64_t max_rows)
      : runner_(runner), max_rows_(max_rows) {}

  std::int64_t vocab() const override { return runner_.vocab(); }
  std::int64_t max_context() const override { return runner_.max_context(); }
  std::int32_t kv_domains() const override { return runner_.kv_domains(); }
  KvCapacity kv_capacity() const override {
    KvCapacity capacity = runner_.kv_capacity();
    capacity.max_rows = max_rows_;
    return capacity;
  }
  Result<StepResult> step(const StepBatch& batch) override;

 private:
  ModelRunner& runner_;
  std::int64_t max_rows_;
  std::vector<StepSequence> sequences_;    // of the step being run
  std::vector<std::vector<RowAsk>> asks_;  // theirs, with other row numbers
};

}  // namespace tg
