// What: the ModelRunner that runs a Llama model with this machine's kernels: checks a step, runs
// the
//   layers, and answers what its rows ask for.
// Who owns: it owns weights, KV memory and activations; the thread team is borrowed and must
// outlive
//   it. Thread: one caller at a time.
#pragma once

#include <memory>
#include <vector>

#include "model/llama_forward.h"
#include "model/model_runner.h"
#include "model/sampler.h"

namespace tg {

struct RunnerOptions {
  const KernelTable* kernels = nullptr;  // choose_kernels()
  ComputeDType dtype = ComputeDType::kBf16;
  KvCapacity capacity;
  std::int64_t max_context = 0;  // positions of a sequence; 0: as many as the model has
};

class LlamaRunner : public ModelRunner {
 public:
  // kBadArgument for a capacity that makes no sense, kOutOfCapacity when memory is refused.
  static Result<std::unique_ptr<LlamaRunner>> create(LlamaWeights weights, ThreadTeam& team,
                                                     const RunnerOptions& options);

  std::int64_t vocab() const override { return weights_.config.vocab; }
  std::int64_t max_context() const override { return weights_.config.max_context; }
  KvCapacity kv_capacity() const override { return capacity_; }
  std::int32_t kv_domains() const override { return 1; }
  Result<StepResult> step(const StepBatch& batch) override;

  // Empty: none.
  void set_probe(HiddenProbe probe) { probe_ = std::move(probe); }
  const ModelConfig& config() const { return weights_.config; }

 private:
  // An ask, and where its row is among all rows.
  struct Question {
    const RowAsk* ask = nullptr;
    std::int64_t row = 0;
  };

  LlamaRunner(LlamaWeights weights, ThreadTeam& team);
  Status check(const StepBatch& batch) const;
  Status check(const StepSequence& sequence) const;
  void list_questions(const StepBatch& batch);
  RowAnswer answer(const RowAsk& ask, std::span<float> logits, SamplerScratch& scratch) const;

  LlamaWeights weights_;
  ThreadTeam* team_;
  KvCapacity capacity_;
  KvCache kv_;
  std::unique_ptr<LlamaForward> forward_;
  HiddenProbe probe_;
  std::vector<Question> questions_;      // of the step being run
  std::vector<SamplerScratch> scratch_;  // per thread
};

}  // namespace tg
