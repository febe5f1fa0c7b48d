// What: the ModelRunner that runs a Llama model with this machine's kernels on a mesh of devices:
//   checks a step, runs the layers, and answers what its rows ask for. With several ranks, rank 0's
//   step() tells the others what to run, and they are in serve().
// Who owns: it owns weights, KV memory and activations; thread team and transport are borrowed and
//   must outlive it. Thread: one caller at a time.
#pragma once

#include <memory>
#include <vector>

#include "mesh/mesh.h"
#include "model/llama_forward.h"
#include "model/model_runner.h"
#include "model/row_answerer.h"

namespace tg {

struct RunnerOptions {
  const KernelTable* kernels = nullptr;  // choose_kernels()
  ComputeDType dtype = ComputeDType::kBf16;
  KvCapacity capacity;           // pages per KV domain, that is per column of the mesh
  std::int64_t max_context = 0;  // positions of a sequence; 0: as many as the model has
  CollectivePlan collectives = {};
  Transport* transport = nullptr;  // nullptr: all devices are in this process
  KvFormat kv_format = KvFormat::kCompute;
};

class LlamaRunner : public ModelRunner {
 public:
  // The mesh is that of the weights' plan. kBadArgument for a capacity that makes no sense,
  // kOutOfCapacity when memory is refused.
  static Result<std::unique_ptr<LlamaRunner>> create(LlamaWeights weights, ThreadTeam& team,
                                                     const RunnerOptions& options);

  std::int64_t vocab() const override { return weights_.config.vocab; }
  std::int64_t max_context() const override { return weights_.config.max_context; }
  KvCapacity kv_capacity() const override { return capacity_; }
  std::int32_t kv_domains() const override {
    return static_cast<std::int32_t>(weights_.plan.mesh().cols);
  }
  Result<StepResult> step(const StepBatch& batch) override;

  // Ranks other than 0: runs rank 0's steps until it says stop().
  Status serve();
  // Rank 0: ends the others' serve(). Without other ranks nothing happens.
  void stop();

  // See KvCache::touch(): before a benchmark at a context that was never computed.
  void touch_kv() {
    for (KvCache& kv : kv_) kv.touch();
  }

  // Empty: none.
  void set_probe(HiddenProbe probe) { probe_ = std::move(probe); }
  // Marks the operations of the steps from now on; nullptr: none.
  void set_op_times(OpTimes* times);
  const ModelConfig& config() const { return weights_.config; }
  const WeightFormats& weight_formats() const { return weights_.formats; }
  // Whether the weights are a file's pages (weights_cache.h).
  bool has_mapped_weights() const { return weights_.mapped != nullptr; }
  const Mesh& mesh() const { return *mesh_; }

 private:
  explicit LlamaRunner(LlamaWeights weights);
  Status check(const StepBatch& batch) const;
  Status check(const StepSequence& sequence) const;
  std::span<RowAnswer> run(const StepBatch& batch);
  void list_questions(const StepBatch& batch);

  LlamaWeights weights_;
  KvCapacity capacity_;
  std::unique_ptr<Mesh> mesh_;
  std::vector<KvCache> kv_;  // per column of this process
  std::unique_ptr<LlamaForward> forward_;
  std::unique_ptr<RowAnswerer> answerer_;
  HiddenProbe probe_;
  OpTimes* times_ = nullptr;
  std::int64_t steps_ = 0;
  std::vector<std::byte> message_;                // a step on its way to the other ranks
  std::vector<RowAnswerer::Question> questions_;  // of the step being run
};

}  // namespace tg
