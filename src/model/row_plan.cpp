#include "model/row_plan.h"

#include <algorithm>
#include <tuple>

namespace tg {

RowPlan::RowPlan(std::int64_t cols, std::int64_t cols_per_rank, const DeviceBlock& block,
                 std::int64_t kv_heads)
    : cols_(cols), cols_per_rank_(cols_per_rank), block_(block), kv_heads_(kv_heads) {}

void RowPlan::make(std::span<const StepSequence> sequences) {
  sequences_ = sequences;
  cut_into_runs();
  place_rows();
  list_tasks();
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
  // Long work first, so that the threads end together; equals in a fixed order.
  const auto cost = [this](const AttentionTask& t) {
    return t.rows * (row(t.first_row).position + t.rows);
  };
  std::sort(tasks_.begin(), tasks_.end(), [&](const AttentionTask& a, const AttentionTask& b) {
    return std::tuple(-cost(a), a.first_row, a.kv_head) <
           std::tuple(-cost(b), b.first_row, b.kv_head);
  });
}

}  // namespace tg
