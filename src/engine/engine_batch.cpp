// The middle of Engine::step(): proposals, the batch, the runner's step, and what becomes of its
// answers.
#include <algorithm>
#include <utility>

#include "engine/engine.h"
#include "engine/engine_sequence.h"

namespace tg {

void Engine::propose(const StepPlan& step_plan) {
  proposal_asks_.clear();
  for (const PlannedWork& work : step_plan.work) {
    if (work.proposals == 0) continue;
    Sequence& s = *sequences_.at(work.id);
    s.proposals.clear();
    proposal_asks_.push_back({s.id, s.known_tokens(), work.proposals, &s.proposals});
  }
  if (proposal_asks_.empty()) return;
  if (Status status = proposer_->propose(proposal_asks_); !status) {
    stats_.proposer_error = std::move(status).error();
    forget_all();
    proposer_ = nullptr;
    return;
  }
  for (const ProposalAsk& ask : proposal_asks_) keep_proposals(*sequences_.at(ask.id), ask.most);
}

// Up to the first that cannot be run or needs no row: after a stop id comes nothing.
void Engine::keep_proposals(Sequence& s, std::int64_t most) {
  for (const TokenId token : s.proposals) {
    if (s.drafted == most || token < 0 || token >= runner_.vocab() || s.stops_at(token)) return;
    s.tokens.push_back(token);
    ++s.drafted;
  }
}

void Engine::build_batch(const StepPlan& step_plan) {
  batch_->works.clear();
  batch_->members.clear();
  batch_->sequences.clear();
  for (const PlannedWork& work : step_plan.work) {
    Sequence& s = *sequences_.at(work.id);
    const Status status = build_asks(s, work);
    if (!status) {  // the request's own mask failed
      finish(s, FinishReason::kError, status.error());
      continue;
    }
    if (s.timing.started_s == 0.0) s.timing.started_s = last_step_.started_s;
    StepSequence step_sequence;
    step_sequence.tokens = std::span(s.tokens).subspan(
        static_cast<std::size_t>(s.cached), static_cast<std::size_t>(work.rows + s.drafted));
    step_sequence.first_position = s.cached;
    step_sequence.pages = s.pages;
    step_sequence.kv_domain = s.kv_domain;
    step_sequence.asks = s.asks;
    batch_->works.push_back(work);
    batch_->members.push_back(&s);
    batch_->sequences.push_back(step_sequence);
  }
}

Status Engine::build_asks(Sequence& s, const PlannedWork& work) {
  s.asks.clear();
  if (s.wants_scores()) {
    // A row that was scored before a preemption is not scored again.
    const auto scored = static_cast<std::int64_t>(s.prompt_scores.size());
    const std::int64_t end = std::min(s.cached + work.rows, s.prompt_tokens - 1);
    for (std::int64_t position = std::max(s.cached, scored); position < end; ++position) {
      RowAsk ask;
      ask.kind = RowAsk::Kind::kScore;
      ask.row = position - s.cached;
      ask.next = s.tokens[static_cast<std::size_t>(position + 1)];
      ask.top_n = s.request.prompt_top_n;
      s.asks.push_back(ask);
    }
  }
  if (!work.reaches_end || s.max_new == 0) return {};
  // Each proposed token's row is sampled as it will be in plain decoding, should it come to it.
  for (std::int64_t ahead = 0; ahead <= s.drafted; ++ahead) {
    add_sample_ask(s, work.rows - 1 + ahead, ahead);
  }
  if (s.request.mask != nullptr) {
    TG_ASSIGN(s.asks.back().context.allowed, s.request.mask->allowed_after(s.output()));
  }
  return {};
}

void Engine::add_sample_ask(Sequence& s, std::int64_t row, std::int64_t ahead) {
  RowAsk ask;
  ask.kind = RowAsk::Kind::kSample;
  ask.row = row;
  const std::int64_t index = s.sampled() + ahead;
  const bool before_min = index < s.request.min_new_tokens && !s.request.ignore_eos;
  ask.params = before_min ? &s.before_min : &s.request.sampling;
  ask.context.prompt = s.prompt();
  ask.context.output = s.output(ahead);
  ask.context.token_index = static_cast<std::uint64_t>(index);
  s.asks.push_back(ask);
}

void Engine::run_batch() {
  const double before = options_.clock();
  Result<StepResult> result = runner_.step(StepBatch{batch_->sequences});
  const double now = options_.clock();
  last_step_.runner_s = now - before;
  count_step();
  std::size_t asked = 0;
  for (const Sequence* s : batch_->members) asked += s->asks.size();
  if (result && result->answers.size() != asked) {
    result = error(ErrorCode::kInternal, "the runner gave {} answers to {} questions",
                   result->answers.size(), asked);
  }
  if (!result) {
    last_step_.failure = result.error();
    for (Sequence* s : batch_->members) finish(*s, FinishReason::kError, result.error());
    return;
  }
  std::size_t next_answer = 0;
  for (std::size_t i = 0; i < batch_->members.size(); ++i) {
    Sequence& s = *batch_->members[i];
    s.cached += batch_->works[i].rows;
    s.ever_cached = std::max(s.ever_cached, s.cached);
    const std::span<RowAnswer> answers =
        std::span(result->answers).subspan(next_answer, s.asks.size());
    next_answer += s.asks.size();
    deliver(s, batch_->works[i], answers, now);
    if (!s.finished) publish(s);
  }
}

void Engine::count_step() {
  ++stats_.steps;
  for (std::size_t i = 0; i < batch_->members.size(); ++i) {
    const Sequence& s = *batch_->members[i];
    const std::int64_t rows = batch_->works[i].rows;
    (batch_->works[i].decoding ? last_step_.decode_rows : last_step_.prefill_rows) += rows;
    stats_.recomputed_rows += std::clamp<std::int64_t>(s.ever_cached - s.cached, 0, rows);
    last_step_.proposals += s.drafted;
  }
  stats_.decode_rows += last_step_.decode_rows;
  stats_.prefill_rows += last_step_.prefill_rows;
  stats_.rows += last_step_.decode_rows + last_step_.prefill_rows + last_step_.proposals;
}

void Engine::deliver(Sequence& s, const PlannedWork& work, std::span<RowAnswer> answers,
                     double now) {
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (s.asks[i].kind == RowAsk::Kind::kScore) {
      s.prompt_scores.push_back(std::move(answers[i].token));
    }
  }
  if (!work.reaches_end) return;
  if (s.wants_scores()) {
    s.scores_delivered = true;
    s.sink->on_prompt_scores(s.id, std::move(s.prompt_scores));
  }
  if (s.max_new == 0) {
    finish(s, FinishReason::kLength);
  } else {
    deliver_samples(s, answers.last(static_cast<std::size_t>(s.drafted + 1)), now);
  }
}

// The tokens of a step: the first always counts, each other one if its row's input was right, that
// is if the token before it is the one that was proposed.
void Engine::deliver_samples(Sequence& s, std::span<const RowAnswer> answers, double now) {
  const std::int64_t proposed = s.drafted;
  if (proposed > 0) {
    const SpeculationCounts counts = {1, proposed, 0};
    s.speculation += counts;
    stats_.speculation += counts;
  }
  std::int64_t accepted = 0;
  while (deliver_token(s, answers[static_cast<std::size_t>(accepted)].token, now)) {
    ++accepted;
    if (s.cancelled) break;  // by a sink: nothing comes after that
  }
  s.drop_drafted();
  // What the rows behind a wrong token have written lies at positions that are not `cached`: they
  // are written again before anything reads them.
  s.cached += accepted;
  s.ever_cached = std::max(s.ever_cached, s.cached);
  if (proposed > 0) {
    s.window.record(proposed, accepted);
  } else {
    s.window.pass();
  }
}

// True when the token is the one that was proposed and the answer goes on: the next row counts.
bool Engine::deliver_token(Sequence& s, const SampledToken& sampled, double now) {
  if (sampled.logprob ==
      Sequence::kMinusInfinity) {  // the sampler's sign that nothing could be chosen
    finish(s, FinishReason::kError,
           Error{ErrorCode::kBadArgument,
                 fmt::format("mask and bias leave no token to choose after {} tokens", s.sampled()),
                 {}});
    return false;
  }
  if (sampled.token < 0 || sampled.token >= runner_.vocab()) {
    finish(s, FinishReason::kError,
           Error{ErrorCode::kInternal,
                 fmt::format("the runner chose token {} of a vocabulary of {}", sampled.token,
                             runner_.vocab()),
                 {}});
    return false;
  }
  const std::int64_t index = s.sampled();
  const bool proposed = s.take(sampled.token);
  if (proposed) {
    ++s.speculation.accepted;
    ++stats_.speculation.accepted;
  }
  s.timing.token_times_s.push_back(now);
  ++stats_.sampled_tokens;
  ++last_step_.sampled_tokens;
  const bool is_stop_id = s.stops_at(sampled.token);
  const bool last = is_stop_id || s.sampled() == s.max_new;
  const bool go_on = s.sink->on_token({s.id, index, sampled, is_stop_id, last, now});
  if (is_stop_id || !go_on) {
    finish(s, FinishReason::kStop);
  } else if (last) {
    finish(s, FinishReason::kLength);
  }
  return proposed && !s.finished;
}

}  // namespace tg
