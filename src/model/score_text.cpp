#include "model/score_text.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace tg {
namespace {

// The rows [first, first + count) of a window, in one step.
Status score_rows(ModelRunner& runner, std::span<const TokenId> window, std::size_t first,
                  std::size_t count, std::span<const PageId> pages, TextScore& score) {
  std::vector<RowAsk> asks;
  for (std::size_t i = first; i < first + count && i + 1 < window.size(); ++i) {
    asks.push_back({.kind = RowAsk::Kind::kScore,
                    .row = static_cast<std::int64_t>(i - first),
                    .next = window[i + 1]});
  }
  if (asks.empty()) return {};
  StepSequence sequence;
  sequence.tokens = window.subspan(first, count);
  sequence.first_position = static_cast<std::int64_t>(first);
  sequence.pages = pages;
  sequence.asks = asks;
  TG_ASSIGN(const StepResult result, runner.step({{&sequence, 1}}));
  for (const RowAnswer& answer : result.answers) score.negative_logs -= answer.token.logprob;
  score.scored += static_cast<std::int64_t>(result.answers.size());
  return {};
}

}  // namespace

Result<TextScore> score_text(ModelRunner& runner, std::span<const TokenId> ids,
                             std::int64_t window) {
  const KvCapacity capacity = runner.kv_capacity();
  const std::int64_t most = std::min(runner.max_context(), capacity.block * capacity.blocks);
  if (window < 2 || window > most) {
    return error(ErrorCode::kBadArgument, "a window of {} tokens; 2 to {} are possible", window,
                 most);
  }
  std::vector<PageId> pages(static_cast<std::size_t>(capacity.blocks));
  std::iota(pages.begin(), pages.end(), 0);
  const auto rows = static_cast<std::size_t>(capacity.max_rows);
  TextScore score;
  for (std::size_t begin = 0; begin < ids.size(); begin += static_cast<std::size_t>(window)) {
    const auto part =
        ids.subspan(begin, std::min(static_cast<std::size_t>(window), ids.size() - begin));
    for (std::size_t first = 0; first < part.size(); first += rows) {
      TG_RETURN_IF_ERROR(
          score_rows(runner, part, first, std::min(rows, part.size() - first), pages, score));
    }
  }
  return score;
}

}  // namespace tg
