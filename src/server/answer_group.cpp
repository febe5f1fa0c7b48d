#include "server/answer_group.h"

#include <iterator>
#include <utility>

namespace tg {
namespace {

// Tokens with log-probabilities from which on writing an answer as JSON takes more than about a
// millisecond, which the engine's thread should not spend.
constexpr std::size_t kManyTokens = 1000;

// The engine knows no fields. What it refuses is mostly the length, or an id of the prompt.
std::string field_to_blame(const Error& refused, const std::string& prompt_field) {
  constexpr std::string_view kBias = "logit_bias";
  if (refused.code == ErrorCode::kBusy) return {};
  return refused.message.starts_with(kBias) ? std::string(kBias) : prompt_field;
}

void gather(AnswerPiece& all, AnswerPiece piece) {
  all.text += piece.text;
  all.tokens.insert(all.tokens.end(), std::make_move_iterator(piece.tokens.begin()),
                    std::make_move_iterator(piece.tokens.end()));
}

}  // namespace

AnswerGroup::AnswerGroup(std::shared_ptr<HttpExchange> exchange,
                         std::unique_ptr<AnswerFormat> format, AnswerGroupOptions options)
    : exchange_(std::move(exchange)), format_(std::move(format)), options_(std::move(options)) {}

void AnswerGroup::start(EngineThread& engine, std::vector<AnswerTask> tasks) {
  {
    // Held until the head of the stream is out: the engine may have tokens before submit() returns.
    const std::lock_guard lock(mutex_);
    engine_ = &engine;
    gathered_.resize(tasks.size());
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      gathered_[i].counts_prompt = tasks[i].stream.counts_prompt;
    }
    const auto choices = static_cast<std::int64_t>(tasks.size());
    if (const Status status = submit(tasks); !status) {
      std::optional<ApiError> why;
      if (status.error().code == ErrorCode::kBusy) why = options_.unavailable();
      fail(why ? *why : api_error(status.error()));
      return;
    }
    if (options_.stream) {
      exchange_->start_stream({.content_type = "text/event-stream; charset=utf-8",
                               .headers = {{"Cache-Control", "no-cache"}},
                               .body = format_->opening(choices)});
    }
  }
  // Not under the lock: it may be called at once. Weak, as the exchange keeps the callback.
  exchange_->on_gone([weak = weak_from_this()] {
    if (const auto group = weak.lock()) group->client_is_gone();
  });
}

Status AnswerGroup::submit(std::vector<AnswerTask>& tasks) {
  for (AnswerTask& task : tasks) {
    auto stream = std::make_shared<AnswerStream>(std::move(task.stream), shared_from_this());
    task.request.mask = stream->mask();
    Result<RequestTicket> ticket = engine_->submit(std::move(task.request), std::move(stream));
    if (!ticket) {
      Error refused = std::move(ticket).error();
      refused.place = field_to_blame(refused, options_.prompt_field);
      return tl::unexpected<Error>(std::move(refused));
    }
    tickets_.push_back(*ticket);
  }
  return {};
}

void AnswerGroup::close() {
  closed_ = true;
  if (ended_ < gathered_.size()) {
    for (const RequestTicket ticket : tickets_) engine_->cancel(ticket);
  }
}

void AnswerGroup::client_is_gone() {
  const std::lock_guard lock(mutex_);
  if (!closed_) close();
}

void AnswerGroup::fail(const ApiError& error) {
  const bool streaming = options_.stream && tickets_.size() == gathered_.size();
  if (streaming) {
    exchange_->write("data: " + error_body(error) + "\n\ndata: [DONE]\n\n");
    exchange_->finish();
  } else {
    exchange_->respond(error_response(error));
  }
  close();
}

void AnswerGroup::on_piece(std::int64_t choice, AnswerPiece piece) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  if (!options_.stream) {
    gather(gathered_[static_cast<std::size_t>(choice)].answer.content, std::move(piece));
    return;
  }
  std::string events;
  format_->add_piece(events, choice, std::move(piece));
  // That nobody reads any more is on_gone()'s to say: it cancels.
  if (!events.empty()) exchange_->write(std::move(events));
}

void AnswerGroup::on_end(std::int64_t choice, AnswerPiece piece, const AnswerEnd& end) {
  const std::lock_guard lock(mutex_);
  ++ended_;
  if (closed_) return;
  if (end.reason == FinishReason::kError) return fail(api_error(end.error));
  // The client's own way out has closed the group before.
  if (end.reason == FinishReason::kCancelled) return fail(shutting_down_error());
  Gathered& own = gathered_[static_cast<std::size_t>(choice)];
  if (own.counts_prompt) {
    usage_.prompt_tokens += end.prompt_tokens;
    usage_.cached_tokens += end.cached_tokens;
  }
  usage_.completion_tokens += end.completion_tokens;
  const bool last = ended_ == gathered_.size();
  if (options_.stream) {
    std::string events;
    format_->add_end(events, choice, std::move(piece), end.reason);
    if (last) events += format_->closing(usage_);
    exchange_->write(std::move(events));
    if (last) exchange_->finish();
  } else {
    gather(own.answer.content, std::move(piece));
    own.answer.reason = end.reason;
    if (last) answer_whole();
  }
  if (last) closed_ = true;
}

void AnswerGroup::answer_whole() {
  std::vector<WholeAnswer> answers;
  std::size_t tokens = 0;
  for (Gathered& one : gathered_) {
    tokens += one.answer.content.tokens.size();
    answers.push_back(std::move(one.answer));
  }
  // Nobody else touches format and answers from here on.
  const auto shared = std::make_shared<std::vector<WholeAnswer>>(std::move(answers));
  const auto respond = [self = shared_from_this(), shared, usage = usage_] {
    self->exchange_->respond({.body = self->format_->whole(std::move(*shared), usage)});
  };
  if (tokens < kManyTokens || !options_.aside || !options_.aside(respond)) respond();
}

}  // namespace tg
