// What: one batch of the decode demo on a loaded model: runs the loop, prints its iterations and
//   its report, and checks speed and memory.
// Who owns: the command; everything given to it is borrowed. Thread: the main thread.
#pragma once

#include <cstdint>
#include <vector>

#include "cli/answer.h"
#include "cli/decode_plan.h"

namespace tg {

class DecodeRun {
 public:
  DecodeRun(const DecodeDemoOptions& options, const DecodePlan& plan, const OpenedModel& model,
            const ContextPlan& context, LoadedModel& loaded)
      : o_(options), plan_(plan), model_(model), context_(context), loaded_(loaded) {}

  // True when every check held: the target speed, and in a stress run the memory.
  Result<bool> run_batch(const std::vector<DemoPrompt>& prompts, std::int64_t batch);

  // Of all batches so far, if an output file was asked for.
  const std::vector<std::vector<UserAnswer>>& answers() const { return answers_; }

 private:
  std::vector<DecodeUser> users_of(const std::vector<DemoPrompt>& prompts,
                                   std::int64_t batch) const;
  void watch(MemoryGrowth& memory, std::int64_t longest_prompt, std::int64_t iteration) const;
  void print_sampled(const DecodeIteration& iteration) const;
  void keep_answers(const std::vector<DecodeUser>& users, const std::vector<DemoPrompt>& prompts,
                    std::int64_t batch, const DecodeOutcome& outcome,
                    const std::vector<double>& seconds);
  bool check(const DecodeReport& report, const MemoryGrowth& memory) const;

  const DecodeDemoOptions& o_;
  const DecodePlan& plan_;
  const OpenedModel& model_;
  const ContextPlan& context_;
  LoadedModel& loaded_;
  std::int64_t steps_ = 0;
  std::vector<std::vector<UserAnswer>> answers_;
};

}  // namespace tg
