// What: the answers to what a step's rows are asked, from the logits of the model's head. Where the
//   vocabulary lies in shards, each process looks through its own, and only a few numbers per row
//   and shard cross (shard_sampler.h); rows that need it are gathered whole. All ranks do this
//   alike, as what crosses follows from the asks and from numbers that all of them have.
// Who owns: the runner; mesh and forward pass are borrowed. Thread: one caller at a time; it works
//   on all members of the mesh's team.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "model/llama_forward.h"
#include "model/op_times.h"
#include "model/shard_sampler.h"

namespace tg {

class RowAnswerer {
 public:
  // An ask, and where its row is among all rows of the step.
  struct Question {
    const RowAsk* ask = nullptr;
    std::int64_t row = 0;
  };

  RowAnswerer(Mesh& mesh, LlamaForward& forward, std::int64_t vocab);

  // nullptr: nobody measures.
  void set_op_times(OpTimes* times) { times_ = times; }

  // Rank 0's are the answers; the other ranks' are not whole. They stay until the next call.
  std::span<RowAnswer> answer(std::span<const Question> questions);

 private:
  // A question of the head() being answered, and the place of its slot among a shard's.
  struct Row {
    const RowAsk* ask = nullptr;
    std::optional<ShardQuery> query;  // none: the whole row is needed
    std::int64_t slot = 0;
  };

  void answer_some(std::span<const Question> questions, std::span<RowAnswer> answers);
  void look_through_shards();
  void merge_shards(std::span<RowAnswer> answers);
  void answer_whole_rows(std::span<RowAnswer> answers);
  RowAnswer answer_whole(const RowAsk& ask, std::span<float> logits, SamplerScratch& scratch) const;
  void mark(const char* what) {
    if (times_ != nullptr) times_->mark("SAMPLING", what);
  }
  SamplerScratch& scratch(int member) { return scratch_[static_cast<std::size_t>(member)]; }

  Mesh* mesh_;
  LlamaForward* forward_;
  std::int64_t vocab_;
  OpTimes* times_ = nullptr;
  std::vector<RowAnswer> answers_;
  std::vector<Row> rows_;
  std::vector<std::int64_t> places_;     // of rows_ in the step
  std::vector<std::int64_t> picked_;     // those of rows_ that are answered from the whole row
  std::int64_t shard_floats_ = 0;        // of a shard's slots, all rows together
  std::vector<float> slots_;             // [shards, shard_floats_]
  std::vector<SamplerScratch> scratch_;  // per thread
};

}  // namespace tg
