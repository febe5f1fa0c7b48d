#include "cli/load_answer.h"

#include <algorithm>
#include <utility>

namespace tg {
namespace {

// Of a body that is no event stream, to find the message in it.
constexpr std::size_t kKeptBeginning = std::size_t{64} << 10;

}  // namespace

std::optional<double> LoadAnswer::tpot_s() const {
  if (output_tokens < 2) return std::nullopt;
  return (last_text_s - first_text_s) / static_cast<double>(output_tokens - 1);
}

AnswerReader::AnswerReader(double sent_s, std::optional<std::int64_t> prompt_tokens) {
  answer_.sent_s = sent_s;
  answer_.prompt_tokens = prompt_tokens;
}

bool AnswerReader::push(double at_s, std::string_view bytes) {
  if (done_) return true;
  if (!has_events_) {
    beginning_.append(
        bytes.substr(0, kKeptBeginning - std::min(kKeptBeginning, beginning_.size())));
  }
  std::vector<std::string> events;
  Status status = events_.push(bytes, events);
  for (const std::string& event : events) {
    if (const Status taken = take(at_s, event); !taken) {
      wrong_ = taken.error().message;
      return false;
    }
    if (done_) return true;
  }
  if (!status) wrong_ = status.error().message;
  return status.has_value();
}

Status AnswerReader::take(double at_s, const std::string& event) {
  has_events_ = true;
  TG_ASSIGN(const AnswerChunk chunk, read_answer_chunk(event));
  if (chunk.error) return error(ErrorCode::kIo, "an error in the stream: {}", *chunk.error);
  if (chunk.done) {
    done_ = true;
    answer_.end_s = at_s;
    return {};
  }
  if (chunk.prompt_tokens) answer_.prompt_tokens = chunk.prompt_tokens;
  if (chunk.completion_tokens) {
    answer_.output_tokens = *chunk.completion_tokens;
    answer_.has_usage = true;
  }
  if (chunk.text.empty()) return {};
  if (chunks_++ == 0) {
    answer_.first_text_s = at_s;
  } else {
    answer_.gaps_s.push_back(at_s - answer_.last_text_s);
  }
  answer_.last_text_s = at_s;
  answer_.text += chunk.text;
  return {};
}

std::string AnswerReader::failure_of(long status, const std::string& broken) const {
  if (status != 0 && status != kHttpOk) {
    return fmt::format("HTTP {}: {}", status, error_message_of(beginning_));
  }
  if (!wrong_.empty()) return wrong_;
  if (!done_) {
    if (!broken.empty()) return broken;
    if (!has_events_ && !beginning_.empty()) {
      return fmt::format("the answer is no event stream: {}", error_message_of(beginning_));
    }
    return "the connection closed without [DONE]";
  }
  return chunks_ == 0 ? "an answer without text" : "";
}

LoadAnswer AnswerReader::finish(double at_s, long status, const std::string& broken) {
  // Some servers end the stream right behind the word.
  if (!done_ && wrong_.empty() && events_.rest() == "[DONE]") done_ = true;
  if (answer_.end_s == 0.0) answer_.end_s = at_s;
  if (!answer_.has_usage) answer_.output_tokens = chunks_;
  answer_.failure = failure_of(status, broken);
  return std::move(answer_);
}

LoadAnswer AnswerReader::interrupt(double at_s) {
  answer_.end_s = at_s;
  answer_.interrupted = true;
  return std::move(answer_);
}

}  // namespace tg
