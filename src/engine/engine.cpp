#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "engine/speculation_window.h"

namespace tg {
namespace {

// More users than this per step is beyond what the page tables and row counts were sized for.
constexpr std::int64_t kMostUsers = 256;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

struct Engine::Sequence {
  RequestId id = 0;
  Request request;  // prompt_ids moved to tokens
  TokenSink* sink = nullptr;
  std::vector<TokenId> tokens;  // the prompt, what was sampled, then `drafted` proposals
  std::int64_t prompt_tokens = 0;
  std::int64_t max_new = 0;

  bool running = false;  // has its place in kv_domain
  std::int32_t kv_domain = 0;
  PageTable pages;
  std::int64_t cached = 0;       // tokens whose keys and values are in the pages
  std::int64_t ever_cached = 0;  // the most of `cached`: less is done again after a preemption

  SamplingParams before_min;  // sampling, with the stop ids forbidden
  std::vector<SampledToken> prompt_scores;
  bool scores_delivered = false;
  std::vector<RowAsk> asks;  // of the step in progress

  SpeculationWindow window;
  SpeculationCounts speculation;
  std::vector<TokenId> proposals;  // the proposer's, of the step in progress
  std::int64_t drafted = 0;        // 0 between steps

  bool cancelled = false;
  bool finished = false;
  std::int64_t preemptions = 0;
  RequestTiming timing;

  std::int64_t known() const { return static_cast<std::int64_t>(tokens.size()) - drafted; }
  std::span<const TokenId> known_tokens() const {
    return std::span(tokens).first(static_cast<std::size_t>(known()));
  }
  std::int64_t sampled() const { return known() - prompt_tokens; }
  std::span<const TokenId> prompt() const {
    return std::span(tokens).first(static_cast<std::size_t>(prompt_tokens));
  }
  // As it is when `ahead` proposals turn out right.
  std::span<const TokenId> output(std::int64_t ahead = 0) const {
    return std::span(tokens).subspan(static_cast<std::size_t>(prompt_tokens),
                                     static_cast<std::size_t>(sampled() + ahead));
  }
  // Room for the longest that it can become, so that its steps ask for no memory: 16 bytes a token
  // at most, which the system gives when they are written.
  void reserve(std::int64_t block, std::int64_t most_proposals) {
    const std::int64_t longest = prompt_tokens + max_new + most_proposals;
    tokens.reserve(static_cast<std::size_t>(longest));
    pages.reserve(static_cast<std::size_t>(pages_for(longest, block)));
    timing.token_times_s.reserve(static_cast<std::size_t>(max_new));
  }
  void drop_drafted() {
    tokens.resize(static_cast<std::size_t>(known()));
    drafted = 0;
  }
  // Adds a sampled token; true when it was the next proposal, so that the row after it counts.
  bool take(TokenId token) {
    if (drafted > 0 && tokens[static_cast<std::size_t>(known())] == token) {
      --drafted;
      return true;
    }
    drop_drafted();
    tokens.push_back(token);
    return false;
  }
  bool stops_at(TokenId token) const {
    return !request.ignore_eos && contains(request.stop_ids, token);
  }
  bool wants_scores() const { return request.score_prompt && !scores_delivered; }
};

// The step in progress, in the order of the StepBatch.
struct Engine::Batch {
  std::vector<PlannedWork> works;
  std::vector<Sequence*> members;
  std::vector<StepSequence> sequences;
};

Result<std::unique_ptr<Engine>> Engine::create(ModelRunner& runner, EngineOptions options) {
  const KvCapacity capacity = runner.kv_capacity();
  if (options.max_users < 1 || options.max_users > kMostUsers) {
    return error(ErrorCode::kBadArgument, "{} users at once: 1..{} are possible", options.max_users,
                 kMostUsers);
  }
  if (capacity.block < 1 || capacity.blocks < 1 || runner.kv_domains() < 1) {
    return error(ErrorCode::kBadArgument,
                 "a page pool of {} pages of {} positions in {} domains holds nothing",
                 capacity.blocks, capacity.block, runner.kv_domains());
  }
  if (options.prefill_chunk < 0 || options.max_rows < 0) {
    return error(ErrorCode::kBadArgument,
                 "prefill chunk {} and rows per step {} must be 0 (no limit) or more",
                 options.prefill_chunk, options.max_rows);
  }
  const std::int64_t rows =
      options.max_rows > 0 ? std::min(options.max_rows, capacity.max_rows) : capacity.max_rows;
  if (rows < options.max_users) {
    return error(ErrorCode::kBadArgument,
                 "{} users need {} rows in a step of decoding, but it has {}", options.max_users,
                 options.max_users, rows);
  }
  const SpeculationOptions& speculation = options.speculation;
  if (speculation.proposer != nullptr && (speculation.tokens < 1 || speculation.max_rows < 2)) {
    return error(ErrorCode::kBadArgument,
                 "{} proposed tokens of a user and {} rows of a step that has proposals: 1 and 2 "
                 "are the least",
                 speculation.tokens, speculation.max_rows);
  }
  options.max_rows = rows;
  if (!options.clock) options.clock = steady_seconds;
  return std::unique_ptr<Engine>(new Engine(runner, std::move(options)));
}

Engine::Engine(ModelRunner& runner, EngineOptions options)
    : runner_(runner),
      options_(std::move(options)),
      capacity_(runner.kv_capacity()),
      limits_{options_.max_users, options_.max_rows, options_.prefill_chunk, capacity_.block,
              options_.speculation.max_rows},
      batch_(std::make_unique<Batch>()),
      proposer_(options_.speculation.proposer) {
  for (std::int32_t domain = 0; domain < runner.kv_domains(); ++domain) {
    std::optional<std::uint64_t> seed = options_.shuffle_pages;
    if (seed) *seed += static_cast<std::uint64_t>(domain);
    pools_.emplace_back(capacity_.blocks, seed);
  }
}

Engine::~Engine() { forget_all(); }

// Another engine's requests may have the same ids.
void Engine::forget_all() {
  if (proposer_ == nullptr) return;
  for (const auto& [id, sequence] : sequences_) proposer_->forget(id);
}

std::int64_t Engine::max_tokens_per_request() const {
  return admission_limits().max_tokens_per_request();
}

AdmissionLimits Engine::admission_limits() const {
  return {runner_.vocab(), runner_.max_context(), capacity_.block, capacity_.blocks};
}

Result<RequestId> Engine::submit(Request request, TokenSink* sink) {
  TG_CHECK(sink != nullptr);
  const Status status = check_request(request, admission_limits());
  if (!status) {
    ++stats_.refused;
    return tl::unexpected<Error>(status.error());
  }
  auto sequence = std::make_unique<Sequence>();
  sequence->id = ++last_id_;
  sequence->sink = sink;
  sequence->tokens = std::move(request.prompt_ids);
  sequence->prompt_tokens = sequence->known();
  sequence->max_new =
      request.max_new_tokens.value_or(max_tokens_per_request() - sequence->prompt_tokens);
  sequence->request = std::move(request);
  if (sequence->request.min_new_tokens > 0 && !sequence->request.ignore_eos) {
    sequence->before_min = sequence->request.sampling;
    for (const TokenId id : sequence->request.stop_ids) {
      sequence->before_min.logit_bias.emplace_back(id, kMinusInfinity);
    }
  }
  sequence->timing.submitted_s = options_.clock();
  ++stats_.submitted;
  sequences_.emplace(last_id_, std::move(sequence));
  return last_id_;
}

bool Engine::cancel(RequestId id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end() || found->second->finished) return false;
  found->second->cancelled = true;
  return true;
}

void Engine::finish(Sequence& sequence, FinishReason reason, Error error) {
  if (sequence.finished) return;
  sequence.finished = true;
  sequence.drop_drafted();
  if (proposer_ != nullptr) proposer_->forget(sequence.id);
  pools_[static_cast<std::size_t>(sequence.kv_domain)].release(sequence.pages);
  sequence.timing.finished_s = options_.clock();
  ++stats_.finished;
  const FinishEvent event{sequence.id,          reason,
                          std::move(error),     sequence.prompt_tokens,
                          sequence.sampled(),   sequence.preemptions,
                          sequence.speculation, sequence.timing};
  sequence.sink->on_finish(event);  // the last use of the sink: it may be gone afterwards
}

void Engine::drop_finished() {
  std::erase_if(sequences_, [](const auto& entry) { return entry.second->finished; });
}

bool Engine::step() {
  TG_CHECK(!in_step_);  // a sink called step()
  in_step_ = true;
  last_step_ = StepReport{};
  last_step_.started_s = options_.clock();
  for (auto& [id, sequence] : sequences_) {
    if (sequence->cancelled) finish(*sequence, FinishReason::kCancelled);
  }
  drop_finished();
  if (!sequences_.empty()) {
    list_state();
    const StepPlan& step_plan = scheduler_.plan(state_);
    TG_CHECK(!step_plan.work.empty());
    take_pages(step_plan);
    propose(step_plan);
    build_batch(step_plan);
    if (!batch_->sequences.empty()) run_batch();
    drop_finished();
  }
  last_step_.total_s = options_.clock() - last_step_.started_s;
  in_step_ = false;
  return !sequences_.empty();
}

// How many tokens the proposer has for a user, as far as they could be of use.
std::int64_t Engine::proposals_for(Sequence& s) {
  const bool decoding = s.running && s.sampled() > 0 && s.known() - s.cached == 1;
  if (proposer_ == nullptr || !decoding || s.request.mask != nullptr) return 0;
  // With proposals a step samples one token more than it has of them.
  const std::int64_t room = std::min(options_.speculation.tokens, s.max_new - s.sampled() - 1);
  const std::int64_t most = s.window.size(room);
  if (most < 1) return 0;
  return std::clamp<std::int64_t>(proposer_->count(s.id, s.known_tokens(), most), 0, most);
}

void Engine::list_state() {
  SchedulerState& state = state_;
  state.limits = limits_;
  state.free_pages.clear();
  state.running.clear();
  state.waiting.clear();
  for (const PagePool& pool : pools_) state.free_pages.push_back(pool.free_pages());
  for (const auto& [id, sequence] : sequences_) {
    Sequence& s = *sequence;
    // A plan never looks further into the queue than there are users.
    if (!s.running && static_cast<std::int64_t>(state.waiting.size()) >= limits_.max_users) {
      continue;
    }
    ScheduledSequence scheduled;
    scheduled.id = id;
    scheduled.known = s.known();
    scheduled.cached = s.cached;
    scheduled.longest = s.prompt_tokens + std::max<std::int64_t>(s.max_new - 1, 0);
    scheduled.pages = static_cast<std::int64_t>(s.pages.size());
    scheduled.kv_domain = s.kv_domain;
    scheduled.proposals = proposals_for(s);
    (s.running ? state.running : state.waiting).push_back(scheduled);
  }
}

void Engine::take_pages(const StepPlan& step_plan) {
  for (const RequestId id : step_plan.preempted) {
    Sequence& s = *sequences_.at(id);
    pools_[static_cast<std::size_t>(s.kv_domain)].release(s.pages);
    if (proposer_ != nullptr) proposer_->forget(id);
    s.running = false;
    s.cached = 0;
    ++s.preemptions;
    ++stats_.preemptions;
  }
  for (const PlannedWork& work : step_plan.work) {
    Sequence& s = *sequences_.at(work.id);
    if (work.admitted) {
      s.running = true;
      s.kv_domain = work.kv_domain;
      s.reserve(capacity_.block, options_.speculation.tokens);
    }
    PagePool& pool = pools_[static_cast<std::size_t>(s.kv_domain)];
    TG_CHECK(pool.allocate(work.new_pages, s.pages));
  }
}

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
  if (sampled.logprob == kMinusInfinity) {  // the sampler's sign that nothing could be chosen
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

std::int64_t Engine::running() const {
  return std::count_if(sequences_.begin(), sequences_.end(),
                       [](const auto& entry) { return entry.second->running; });
}

std::int64_t Engine::waiting() const {
  return static_cast<std::int64_t>(sequences_.size()) - running();
}

std::int64_t Engine::free_pages() const {
  std::int64_t sum = 0;
  for (const PagePool& pool : pools_) sum += pool.free_pages();
  return sum;
}

std::int64_t Engine::total_pages() const {
  std::int64_t sum = 0;
  for (const PagePool& pool : pools_) sum += pool.size();
  return sum;
}

}  // namespace tg
