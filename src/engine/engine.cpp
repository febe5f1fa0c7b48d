#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/engine_sequence.h"

namespace tg {
namespace {

// More users than this per step is beyond what the page tables and row counts were sized for.
constexpr std::int64_t kMostUsers = 256;

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

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
  if (options.prefill_chunk < 0 || options.max_rows < 0 || options.prefill_rows < 0) {
    return error(ErrorCode::kBadArgument,
                 "prefill chunk {}, prefill rows {} and rows per step {} must be 0 (no limit) or "
                 "more",
                 options.prefill_chunk, options.prefill_rows, options.max_rows);
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
      limits_{options_.max_users,
              options_.max_rows,
              options_.prefill_chunk,
              capacity_.block,
              options_.speculation.max_rows,
              options_.prefill_rows > 0 ? options_.prefill_rows : options_.prefill_chunk},
      batch_(std::make_unique<Batch>()),
      proposer_(options_.speculation.proposer) {
  for (std::int32_t domain = 0; domain < runner.kv_domains(); ++domain) {
    std::optional<std::uint64_t> seed = options_.shuffle_pages;
    if (seed) *seed += static_cast<std::uint64_t>(domain);
    pages_.emplace_back(capacity_.blocks, capacity_.block, options_.prefix_cache, seed);
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
      sequence->before_min.logit_bias.emplace_back(id, Sequence::kMinusInfinity);
    }
  }
  sequence->timing.submitted_s = options_.clock();
  ++stats_.submitted;
  // The last of its priority.
  order_.insert(std::upper_bound(order_.begin(), order_.end(), sequence->request.priority,
                                 [](std::int32_t priority, const Sequence* s) {
                                   return priority < s->request.priority;
                                 }),
                sequence.get());
  sequences_.emplace(last_id_, std::move(sequence));
  return last_id_;
}

bool Engine::cancel(RequestId id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end() || found->second->finished) return false;
  found->second->cancelled = true;
  return true;
}

void Engine::fail_all(const Error& why) {
  TG_CHECK(!in_step_);
  in_step_ = true;
  // Not what the sinks submit meanwhile.
  for (const RequestId last = last_id_; auto& [id, sequence] : sequences_) {
    if (id <= last) finish(*sequence, FinishReason::kError, why);
  }
  drop_finished();
  in_step_ = false;
}

KvPages& Engine::pages_of(const Sequence& sequence) {
  return pages_[static_cast<std::size_t>(sequence.kv_domain)];
}

void Engine::finish(Sequence& sequence, FinishReason reason, Error error) {
  if (sequence.finished) return;
  sequence.finished = true;
  sequence.drop_drafted();
  publish(sequence);
  if (proposer_ != nullptr) proposer_->forget(sequence.id);
  pages_of(sequence).release(sequence.pages);
  sequence.timing.finished_s = options_.clock();
  ++stats_.finished;
  const FinishEvent event{sequence.id,
                          reason,
                          std::move(error),
                          sequence.prompt_tokens,
                          sequence.sampled(),
                          sequence.preemptions,
                          sequence.cached_tokens,
                          sequence.speculation,
                          sequence.timing};
  sequence.sink->on_finish(event);  // the last use of the sink: it may be gone afterwards
}

// All that is cached was computed from known tokens, by steps that succeeded.
void Engine::publish(Sequence& s) {
  s.published = pages_of(s).publish(std::span(s.tokens).first(static_cast<std::size_t>(s.cached)),
                                    s.published, s.pages);
}

void Engine::drop_finished() {
  std::erase_if(order_, [](const Sequence* s) { return s->finished; });
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
  note_pace();
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

// Two thirds of the rows that a goal leaves are for users, so that prompts always have some.
void Engine::limit_to_goal() {
  state_.limits = limits_;
  if (options_.step_goal_s <= 0.0) return;
  const std::int64_t rows = pace_.rows_within(options_.step_goal_s);
  const std::int64_t decodes = std::count_if(order_.begin(), order_.end(), [](const Sequence* s) {
    return s->running && s->sampled() > 0;
  });
  state_.limits.max_users = std::clamp<std::int64_t>(rows - rows / 3, 1, limits_.max_users);
  state_.limits.prefill_rows = std::clamp(
      rows - decodes, std::min(kLeastPrefillRows, limits_.prefill_rows), limits_.prefill_rows);
}

void Engine::note_pace() {
  if (options_.step_goal_s <= 0.0) return;
  const std::int64_t rows = last_step_.decode_rows + last_step_.proposals + last_step_.prefill_rows;
  if (last_step_.decode_rows > 0 && !last_step_.failure) pace_.add(rows, last_step_.total_s);
}

void Engine::list_state() {
  SchedulerState& state = state_;
  limit_to_goal();
  state.free_pages.clear();
  state.running.clear();
  state.waiting.clear();
  state.hits.clear();
  rows_listed_ = 0;
  for (KvPages& pages : pages_) {
    state.free_pages.push_back(pages.free_pages());
    pages.start_counting();
  }
  const std::int64_t slots = state.limits.max_users - running();
  for (Sequence* sequence : order_) {
    Sequence& s = *sequence;
    // A plan looks no further into the queue than there are slots and rows.
    if (!s.running && (static_cast<std::int64_t>(state.waiting.size()) >= slots ||
                       rows_listed_ >= limits_.max_rows)) {
      continue;
    }
    ScheduledSequence scheduled;
    scheduled.id = s.id;
    scheduled.known = s.known();
    scheduled.cached = s.cached;
    scheduled.longest = s.prompt_tokens + std::max<std::int64_t>(s.max_new - 1, 0);
    scheduled.pages = static_cast<std::int64_t>(s.pages.size());
    scheduled.kv_domain = s.kv_domain;
    if (s.running) {
      scheduled.shared = pages_of(s).seen_before(s.pages);
      scheduled.proposals = proposals_for(s);
      state.running.push_back(scheduled);
    } else {
      list_waiting(s, scheduled);
    }
  }
}

void Engine::list_waiting(Sequence& s, const ScheduledSequence& scheduled) {
  state_.waiting.push_back(scheduled);
  std::int64_t rows = s.known();
  for (const KvPages& pages : pages_) {
    state_.hits.push_back(pages.find(s.findable()));
    rows = std::min(rows, s.known() - state_.hits.back().pages * capacity_.block);
  }
  rows_listed_ += limits_.prefill_chunk > 0 ? std::min(rows, limits_.prefill_chunk) : rows;
}

void Engine::take_pages(const StepPlan& step_plan) {
  for (const RequestId id : step_plan.preempted) preempt(*sequences_.at(id));
  for (const PlannedWork& work : step_plan.work) {
    if (work.admitted) admit(*sequences_.at(work.id), work);
  }
  for (const PlannedWork& work : step_plan.work) {
    Sequence& s = *sequences_.at(work.id);
    TG_CHECK(pages_of(s).allocate(work.new_pages, s.pages));
  }
  stats_.prefix_evictions = 0;
  for (const KvPages& pages : pages_) stats_.prefix_evictions += pages.evictions();
}

void Engine::preempt(Sequence& s) {
  pages_of(s).release(s.pages);
  if (proposer_ != nullptr) proposer_->forget(s.id);
  s.running = false;
  s.cached = 0;
  s.published = 0;
  ++s.preemptions;
  ++stats_.preemptions;
}

void Engine::admit(Sequence& s, const PlannedWork& work) {
  s.running = true;
  s.kv_domain = work.kv_domain;
  s.reserve(capacity_.block, options_.speculation.tokens);
  pages_of(s).share(s.findable(), work.shared_pages, s.pages);
  s.published = work.shared_pages;
  s.cached = work.shared_pages * capacity_.block;
  if (s.preemptions > 0 || s.wants_scores() || !options_.prefix_cache) return;
  s.cached_tokens = s.cached;
  stats_.prefix_queries += s.prompt_tokens;
  stats_.prefix_hits += s.cached;
}

std::int64_t Engine::running() const {
  return std::count_if(order_.begin(), order_.end(), [](const Sequence* s) { return s->running; });
}

void Engine::list_running(std::vector<RunningUser>& users) const {
  users.clear();
  for (const Sequence* s : order_) {
    if (!s->running) continue;
    users.push_back({s->id, s->kv_domain, s->prompt_tokens, s->sampled(), s->cached,
                     static_cast<std::int64_t>(s->pages.size())});
  }
}

std::int64_t Engine::waiting() const {
  return static_cast<std::int64_t>(sequences_.size()) - running();
}

std::int64_t Engine::free_pages() const {
  std::int64_t sum = 0;
  for (const KvPages& pages : pages_) sum += pages.free_pages();
  return sum;
}

std::int64_t Engine::total_pages() const {
  std::int64_t sum = 0;
  for (const KvPages& pages : pages_) sum += pages.size();
  return sum;
}

}  // namespace tg
