#include "server/answer_stream.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "server/metrics.h"

namespace tg {
namespace {

std::int64_t characters_in(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;  // not a byte inside of one
  });
}

}  // namespace

AnswerStream::AnswerStream(AnswerStreamOptions options, std::shared_ptr<AnswerReceiver> receiver)
    : options_(std::move(options)),
      receiver_(std::move(receiver)),
      decoder_(*options_.tokenizer, options_.skip_special),
      stops_(std::move(options_.stop), options_.keeps_stop_text) {}

void AnswerStream::add_token(TokenId id, const SampledToken* sampled) {
  if (!options_.logprobs) return;
  AnswerToken token;
  token.id = id;
  token.offset = characters_;
  token.has_logprob = sampled != nullptr;
  if (sampled != nullptr) {
    token.logprob = sampled->logprob;
    token.top = sampled->top;
  }
  tokens_.push_back(std::move(token));
}

void AnswerStream::add_shown(const std::string& text) {
  characters_ += characters_in(text);
  ready_ += text;
}

bool AnswerStream::add_watched(const std::string& text) {
  characters_ += characters_in(text);
  return stops_.push(text, ready_);
}

void AnswerStream::echo(const std::vector<SampledToken>& scores) {
  if (echoed_ || options_.echo_ids.empty()) return;
  echoed_ = true;
  if (options_.echo_special) decoder_ = StreamDecoder(*options_.tokenizer, false);
  for (std::size_t i = 0; i < options_.echo_ids.size(); ++i) {
    const TokenId id = options_.echo_ids[i];
    add_token(id, i > 0 && i <= scores.size() ? &scores[i - 1] : nullptr);
    if (i == 0 && options_.echo_hides_first) continue;
    add_shown(decoder_.push(id));
  }
  // A prompt that was a text ends with a whole character; one of ids may end inside of one, and
  // the answer goes on in it.
  if (options_.echo_special) decoder_ = StreamDecoder(*options_.tokenizer, options_.skip_special);
}

void AnswerStream::on_prompt_scores(RequestId /*id*/, std::vector<SampledToken> scores) {
  echo(scores);
}

AnswerPiece AnswerStream::take_piece() {
  AnswerPiece piece;
  shown_ += characters_in(ready_);
  piece.text = std::move(ready_);
  ready_.clear();
  const auto later = std::find_if(tokens_.begin(), tokens_.end(),
                                  [this](const AnswerToken& t) { return t.offset >= shown_; });
  piece.tokens.assign(std::make_move_iterator(tokens_.begin()), std::make_move_iterator(later));
  tokens_.erase(tokens_.begin(), later);
  return piece;
}

bool AnswerStream::on_token(const TokenEvent& event) {
  if (options_.metrics != nullptr) options_.metrics->on_token(event);
  echo({});
  add_token(event.sampled.token, &event.sampled);
  if (!event.is_stop_id) {
    const std::string text = decoder_.push(event.sampled.token);
    if (event.index + 1 <= options_.min_tokens) {
      add_shown(text);
    } else if (!add_watched(text)) {
      stopped_ = true;
      return false;
    }
  }
  if (event.last) return true;  // goes out with on_finish
  if (AnswerPiece piece = take_piece(); !piece.empty()) {
    receiver_->on_piece(options_.choice, std::move(piece));
  }
  return true;
}

void AnswerStream::on_finish(const FinishEvent& event) {
  echo({});
  if (!stopped_ && add_watched(decoder_.flush())) {
    stops_.flush(ready_);
  } else {
    stopped_ = true;
  }
  AnswerPiece rest = take_piece();
  // What a stop text cut off has no place in the text any more; a stop id at its end has.
  if (!stopped_) {
    rest.tokens.insert(rest.tokens.end(), std::make_move_iterator(tokens_.begin()),
                       std::make_move_iterator(tokens_.end()));
  }
  AnswerEnd end;
  end.reason =
      event.reason == FinishReason::kLength && stopped_ ? FinishReason::kStop : event.reason;
  end.error = event.error;
  end.prompt_tokens = event.prompt_tokens;
  end.completion_tokens = event.completion_tokens;
  end.cached_tokens = event.cached_tokens;
  // Before the client hears of the end: who asks for metrics then finds it in them.
  if (options_.metrics != nullptr) options_.metrics->on_finished(event, options_.counts_prompt);
  receiver_->on_end(options_.choice, std::move(rest), end);
}

}  // namespace tg
