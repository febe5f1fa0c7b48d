#include "model/row_plan.h"

#include <algorithm>
#include <tuple>

#include "kernels/kernel_table.h"

namespace tg {

RowPlan::RowPlan(std::int64_t cols, std::int64_t cols_per_rank, const DeviceBlock& block,
                 std::int64_t kv_heads, const AttentionDivision& division)
    : cols_(cols),
      cols_per_rank_(cols_per_rank),
      block_(block),
      kv_heads_(kv_heads),
      division_(division) {}

void RowPlan::make(std::span<const StepSequence> sequences) {
  sequences_ = sequences;
  cut_into_runs();
  place_rows();
  list_tasks();
  divide_tasks();
}

void RowPlan::cut_into_runs() {
  runs_.clear();
  std::int64_t batch_row = 0;
  for (std::size_t s = 0; s < sequences_.size(); ++s) {
    const auto count = static_cast<std::int64_t>(sequences_[s].tokens.size());
    const std::int64_t domain = sequences_[s].kv_domain;
    const std::int64_t columns = cols_per_rank_;
    const auto sequence = static_cast<std::int64_t>(s);
    // Less than a task for each chunk is not worth the spreading.
    if (columns == 1 || count < 2 * columns * kAttentionRows) {
      runs_.push_back({sequence, 0, count, domain, batch_row});
    } else {
      const std::int64_t first_column = domain / columns * columns;
      for (std::int64_t chunk = 0; chunk < 2 * columns; ++chunk) {
        const std::int64_t begin = count * chunk / (2 * columns);
        const std::int64_t end = count * (chunk + 1) / (2 * columns);
        const std::int64_t column = first_column + std::min(chunk, 2 * columns - 1 - chunk);
        runs_.push_back({sequence, begin, end - begin, column, batch_row + begin});
      }
    }
    batch_row += count;
  }
  std::sort(runs_.begin(), runs_.end(), [](const Run& a, const Run& b) {
    return a.column != b.column ? a.column < b.column : a.batch_row < b.batch_row;
  });
  places_.resize(static_cast<std::size_t>(batch_row));
}

void RowPlan::place_rows() {
  rows_.clear();
  cuts_.assign(static_cast<std::size_t>(cols_ + 1), 0);
  for (const Run& run : runs_) {
    const StepSequence& sequence = sequences_[static_cast<std::size_t>(run.sequence)];
    for (std::int64_t i = 0; i < run.count; ++i) {
      places_[static_cast<std::size_t>(run.batch_row + i)] = size();
      rows_.push_back({run.sequence, sequence.tokens[static_cast<std::size_t>(run.first + i)],
                       sequence.first_position + run.first + i});
    }
    cuts_[static_cast<std::size_t>(run.column + 1)] += run.count;
  }
  for (std::size_t c = 1; c < cuts_.size(); ++c) cuts_[c] += cuts_[c - 1];
}

void RowPlan::list_tasks() {
  tasks_.clear();
  std::int64_t first_row = 0;
  for (const Run& run : runs_) {
    if (run.column >= block_.col_begin && run.column < block_.col_end) {
      for (std::int64_t row = 0; row < run.count; row += kAttentionRows) {
        for (std::int64_t head = 0; head < kv_heads_; ++head) {
          tasks_.push_back(
              {run.sequence, head, first_row + row, std::min(kAttentionRows, run.count - row)});
        }
      }
    }
    first_row += run.count;
  }
}

// Pairs of query and key, about: rows times what the last of them sees of the task's spans.
std::int64_t RowPlan::cost(const AttentionTask& task) const {
  const std::int64_t end = row(task.first_row).position + task.rows;
  if (task.divided < 0) return task.rows * end;
  return task.rows *
         (std::min(end, task.span_end * kAttentionSpan) - task.span_begin * kAttentionSpan);
}

// Cuts contexts that are more than a fair piece of the step's work, as far as there is room for the
// states of their spans, and puts long work first, so that the threads end together.
void RowPlan::divide_tasks() {
  const auto longer = [this](const AttentionTask& a, const AttentionTask& b) {
    return std::tuple(-cost(a), a.first_row, a.kv_head, a.span_begin) <
           std::tuple(-cost(b), b.first_row, b.kv_head, b.span_begin);
  };
  std::sort(tasks_.begin(), tasks_.end(), longer);
  parts_.clear();
  if (division_.threads == 1) return;
  // As many as there can be, so that a context that grows asks for no memory: each task may be cut,
  // and its parts are pieces of `fair` and one more.
  const std::size_t most =
      2 * tasks_.size() + static_cast<std::size_t>(kDivisions * division_.threads);
  tasks_.reserve(most);
  whole_.reserve(most);
  parts_.reserve(tasks_.size());
  std::int64_t total = 0;
  for (const AttentionTask& task : tasks_) total += cost(task);
  const std::int64_t fair = std::max<std::int64_t>(1, total / (kDivisions * division_.threads));
  whole_.swap(tasks_);
  tasks_.clear();
  std::int64_t next_state = 0;
  for (const AttentionTask& task : whole_) {
    const std::int64_t spans = attention_spans(row(task.first_row).position + task.rows - 1);
    const std::int64_t states = task.rows * division_.group * spans;
    const std::int64_t parts = std::min(spans, (cost(task) + fair - 1) / fair);
    if (parts <= 1 || next_state + states > division_.states) {
      tasks_.push_back(task);
      continue;
    }
    for (std::int64_t part = 0; part < parts; ++part) {
      AttentionTask& cut = tasks_.emplace_back(task);
      cut.divided = static_cast<std::int64_t>(parts_.size());
      cut.span_begin = spans * part / parts;
      cut.span_end = spans * (part + 1) / parts;
      cut.first_state = next_state;
    }
    parts_.push_back(parts);
    next_state += states;
  }
  std::sort(tasks_.begin(), tasks_.end(), longer);
}

}  // namespace tg
