// What: which rows a step has and which column of the mesh attends for each: a pure function of the
//   batch. A sequence's keys and values live on its column (its KV domain); the few rows of a
//   decode or a short chunk attend there too. The queries of a long chunk are spread over all
//   columns that can see those pages, in pairs of chunks (i and 2n-1-i of 2n), whose causal work is
//   equal for each i, so no column computes what another does.
// Who owns: the forward pass. Thread: its.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mesh/mesh_shape.h"
#include "model/model_runner.h"

namespace tg {

// Rows of a sequence in one attention task: enough to share each load of keys and values, few
// enough that a prompt of one user keeps every thread busy.
inline constexpr std::int64_t kAttentionRows = 32;

struct PlannedRow {
  std::int64_t sequence = 0;
  TokenId token = 0;
  std::int64_t position = 0;
};

// Rows [first_row, first_row + rows) of the plan: neighbours in one sequence, for one kv head; or a
// part of their context.
struct AttentionTask {
  std::int64_t sequence = 0;
  std::int64_t kv_head = 0;  // among those of this process
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  // Of a context in parts: which of the divided tasks this belongs to (-1: it is whole), its spans,
  // and where the states of all parts lie, counted in states.
  std::int64_t divided = -1;
  std::int64_t span_begin = 0;
  std::int64_t span_end = 0;
  std::int64_t first_state = 0;
};

// How far contexts may be divided. Which are does not show in a result: see docs/decisions,
// number 6.
struct AttentionDivision {
  std::int64_t threads = 1;
  std::int64_t group = 1;   // query heads of a kv head
  std::int64_t states = 0;  // room for so many states of a (row, query head, span)
};

class RowPlan {
 public:
  // For a process that owns `block` of a mesh of so many columns, with kv_heads heads on the
  // block's rows together. Where ranks share a row of the mesh, a domain's pages can be seen by the
  // columns of its own rank: `cols_per_rank`.
  RowPlan() = default;
  RowPlan(std::int64_t cols, std::int64_t cols_per_rank, const DeviceBlock& block,
          std::int64_t kv_heads, const AttentionDivision& division = {});

  void make(std::span<const StepSequence> sequences);

  std::span<const StepSequence> sequences() const { return sequences_; }
  std::int64_t size() const { return static_cast<std::int64_t>(rows_.size()); }
  // Ordered by the column that attends.
  const PlannedRow& row(std::int64_t i) const { return rows_[static_cast<std::size_t>(i)]; }
  // Column c attends for rows [column_cuts()[c], column_cuts()[c + 1]).
  std::span<const std::int64_t> column_cuts() const { return cuts_; }
  // Where the i-th row of the batch (sequence by sequence) is.
  std::int64_t place_of(std::int64_t batch_row) const {
    return places_[static_cast<std::size_t>(batch_row)];
  }
  // Of the columns of this process, the longest first.
  std::span<const AttentionTask> attention_tasks() const { return tasks_; }
  // The parts of each divided task, at most kDivisions * threads of these.
  std::span<const std::int64_t> parts_of_divided() const { return parts_; }

  // Pieces of work per thread that are worth having, so that the threads end together.
  static constexpr std::int64_t kDivisions = 4;

 private:
  struct Run {  // rows [first, first + count) of a sequence's tokens
    std::int64_t sequence = 0;
    std::int64_t first = 0;
    std::int64_t count = 0;
    std::int64_t column = 0;
    std::int64_t batch_row = 0;
  };
  void cut_into_runs();
  void place_rows();
  void list_tasks();
  void divide_tasks();
  std::int64_t cost(const AttentionTask& task) const;

  std::int64_t cols_ = 1;
  std::int64_t cols_per_rank_ = 1;
  DeviceBlock block_;
  std::int64_t kv_heads_ = 1;
  AttentionDivision division_;
  std::span<const StepSequence> sequences_;
  std::vector<Run> runs_;
  std::vector<PlannedRow> rows_;
  std::vector<std::int64_t> cuts_ = {0, 0};
  std::vector<std::int64_t> places_;
  std::vector<AttentionTask> tasks_;
  std::vector<AttentionTask> whole_;  // the tasks before they are divided
  std::vector<std::int64_t> parts_;
};

}  // namespace tg
