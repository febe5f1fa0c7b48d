#include "model/llama_runner.h"

#include <algorithm>
#include <utility>

namespace tg {

LlamaRunner::LlamaRunner(LlamaWeights weights, ThreadTeam& team)
    : weights_(std::move(weights)), team_(&team), scratch_(static_cast<std::size_t>(team.size())) {}

Result<std::unique_ptr<LlamaRunner>> LlamaRunner::create(LlamaWeights weights, ThreadTeam& team,
                                                         const RunnerOptions& options) {
  TG_CHECK(options.kernels != nullptr);
  const KvCapacity& capacity = options.capacity;
  if (capacity.max_rows < 1 || capacity.max_rows > 65536) {
    return error(ErrorCode::kBadArgument, "{} rows per step: need 1..65536", capacity.max_rows);
  }
  if (options.max_context < 0 || options.max_context > weights.config.max_context) {
    return error(ErrorCode::kBadArgument, "a context of {}: the model has {}", options.max_context,
                 weights.config.max_context);
  }
  std::unique_ptr<LlamaRunner> runner(new LlamaRunner(std::move(weights), team));
  if (options.max_context > 0) runner->weights_.config.max_context = options.max_context;
  runner->capacity_ = capacity;
  const ModelConfig& config = runner->weights_.config;
  TG_ASSIGN(runner->kv_, KvCache::allocate(config, options.dtype, capacity));
  TG_ASSIGN(LlamaForward forward,
            LlamaForward::create(runner->weights_, runner->kv_, team,
                                 {options.kernels, options.dtype, capacity.max_rows}));
  runner->forward_ = std::make_unique<LlamaForward>(std::move(forward));
  return runner;
}

Result<StepResult> LlamaRunner::step(const StepBatch& batch) {
  TG_RETURN_IF_ERROR(check(batch));
  forward_->run(batch, probe_);
  list_questions(batch);

  StepResult result;
  result.answers.resize(questions_.size());
  std::vector<std::int64_t> rows;
  for (std::size_t first = 0; first < questions_.size(); first += LlamaForward::kHeadRows) {
    const std::size_t count =
        std::min<std::size_t>(LlamaForward::kHeadRows, questions_.size() - first);
    rows.clear();
    for (std::size_t i = 0; i < count; ++i) rows.push_back(questions_[first + i].row);
    const std::span<float> logits = forward_->head(rows);
    const auto vocab = static_cast<std::size_t>(this->vocab());
    team_->for_pieces_by_member(
        static_cast<std::int64_t>(count), 1, [&](int member, std::int64_t begin, std::int64_t) {
          const auto i = static_cast<std::size_t>(begin);
          result.answers[first + i] =
              answer(*questions_[first + i].ask, logits.subspan(i * vocab, vocab),
                     scratch_[static_cast<std::size_t>(member)]);
        });
  }
  return result;
}

RowAnswer LlamaRunner::answer(const RowAsk& ask, std::span<float> logits,
                              SamplerScratch& scratch) const {
  RowAnswer answer;
  switch (ask.kind) {
    case RowAsk::Kind::kSample:
      answer.token = sample(logits, *ask.params, ask.context, scratch);
      break;
    case RowAsk::Kind::kScore:
      answer.token = score(logits, ask.next, ask.top_n, scratch);
      break;
    case RowAsk::Kind::kLogits:
      answer.logits.assign(logits.begin(), logits.end());
      break;
  }
  return answer;
}

void LlamaRunner::list_questions(const StepBatch& batch) {
  questions_.clear();
  std::int64_t first_row = 0;
  for (const StepSequence& sequence : batch.sequences) {
    for (const RowAsk& ask : sequence.asks) questions_.push_back({&ask, first_row + ask.row});
    first_row += static_cast<std::int64_t>(sequence.tokens.size());
  }
}

// Everything that would otherwise be an access outside of something.
Status LlamaRunner::check(const StepBatch& batch) const {
  std::int64_t rows = 0;
  for (std::size_t s = 0; s < batch.sequences.size(); ++s) {
    Status status = check(batch.sequences[s]);
    if (!status) {
      return at_place(std::move(status).error(), fmt::format("sequence {} of the step", s));
    }
    rows += static_cast<std::int64_t>(batch.sequences[s].tokens.size());
  }
  if (rows > capacity_.max_rows) {
    return error(ErrorCode::kBadArgument, "{} rows in a step made for {}", rows,
                 capacity_.max_rows);
  }
  return {};
}

Status LlamaRunner::check(const StepSequence& sequence) const {
  const auto count = static_cast<std::int64_t>(sequence.tokens.size());
  const std::int64_t end = sequence.first_position + count;
  if (count == 0) return error(ErrorCode::kBadArgument, "no tokens");
  if (sequence.kv_domain != 0) {
    return error(ErrorCode::kBadArgument, "kv domain {}: there is only 0", sequence.kv_domain);
  }
  if (sequence.first_position < 0 || end > max_context()) {
    return error(ErrorCode::kBadArgument, "positions {}..{}: the model has 0..{}",
                 sequence.first_position, end - 1, max_context() - 1);
  }
  const std::int64_t pages = (end + capacity_.block - 1) / capacity_.block;
  if (static_cast<std::int64_t>(sequence.pages.size()) < pages) {
    return error(ErrorCode::kBadArgument, "{} pages of {} positions for {} positions: need {}",
                 sequence.pages.size(), capacity_.block, end, pages);
  }
  for (const PageId page : sequence.pages.first(static_cast<std::size_t>(pages))) {
    if (page < 0 || page >= capacity_.blocks) {
      return error(ErrorCode::kBadArgument, "page id {}: the pool has 0..{}", page,
                   capacity_.blocks - 1);
    }
  }
  for (const TokenId token : sequence.tokens) {
    if (token < 0 || token >= vocab()) {
      return error(ErrorCode::kBadArgument, "token id {}: the vocabulary has 0..{}", token,
                   vocab() - 1);
    }
  }
  for (const RowAsk& ask : sequence.asks) {
    if (ask.row < 0 || ask.row >= count) {
      return error(ErrorCode::kBadArgument, "asks row {} of {}", ask.row, count);
    }
    if (ask.kind == RowAsk::Kind::kSample && ask.params == nullptr) {
      return error(ErrorCode::kBadArgument, "asks for a sample without parameters");
    }
    if (ask.kind == RowAsk::Kind::kScore && (ask.next < 0 || ask.next >= vocab())) {
      return error(ErrorCode::kBadArgument, "asks for the score of id {} of {}", ask.next, vocab());
    }
  }
  return {};
}

}  // namespace tg
