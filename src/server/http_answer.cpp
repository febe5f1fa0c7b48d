#include "server/http_answer.h"

#include <algorithm>
#include <utility>

namespace tg {
namespace {

class AnswerExchange final : public HttpExchange {
 public:
  explicit AnswerExchange(std::shared_ptr<HttpAnswer> answer) : answer_(std::move(answer)) {}
  AnswerExchange(const AnswerExchange&) = delete;
  AnswerExchange& operator=(const AnswerExchange&) = delete;
  ~AnswerExchange() override { answer_->abandon(); }
  void respond(HttpResponse response) override { answer_->respond(std::move(response)); }
  void start_stream(HttpResponse head) override { answer_->start_stream(std::move(head)); }
  bool write(std::string piece) override { return answer_->write(std::move(piece)); }
  void finish() override { answer_->finish(); }
  void on_gone(std::function<void()> callback) override { answer_->on_gone(std::move(callback)); }

 private:
  std::shared_ptr<HttpAnswer> answer_;
};

}  // namespace

bool HttpAnswer::must_wake() { return !std::exchange(awake_, true); }

void HttpAnswer::respond(HttpResponse response) {
  std::function<void()> dropped;  // destroyed without the mutex: it may hold the last exchange
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (started_ || lost_ || cut_off_ || abandoned_) return;
    started_ = complete_ = true;
    head_ = std::move(response);
    std::swap(dropped, on_gone_);
    wake = must_wake();
  }
  if (wake) ways_.wake();
}

void HttpAnswer::start_stream(HttpResponse head) {
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (started_ || lost_ || cut_off_ || abandoned_) return;
    started_ = streaming_ = true;
    queue_ = std::move(head.body);
    head.body.clear();
    head_ = std::move(head);
    wake = must_wake();
  }
  if (wake) ways_.wake();
}

bool HttpAnswer::write(std::string piece) {
  bool wake = false;
  bool taken = true;
  {
    const std::scoped_lock lock(mutex_);
    if (!streaming_ || complete_ || lost_ || cut_off_ || abandoned_) return false;
    if (static_cast<std::int64_t>(queue_.size() + in_flight_) > ways_.queue_bytes) {
      cut_off_ = true;
      taken = false;
      std::string().swap(queue_);
    } else if (queue_.empty()) {
      queue_ = std::move(piece);
    } else {
      queue_ += piece;
    }
    wake = must_wake() || !taken;  // the connection may be asleep in the middle of sending
  }
  if (wake) ways_.wake();
  return taken;
}

void HttpAnswer::finish() {
  std::function<void()> dropped;
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (!streaming_ || complete_ || lost_ || cut_off_ || abandoned_) return;
    complete_ = true;
    std::swap(dropped, on_gone_);
    wake = must_wake();
  }
  if (wake) ways_.wake();
}

void HttpAnswer::on_gone(std::function<void()> callback) {
  {
    const std::scoped_lock lock(mutex_);
    if (complete_ || abandoned_) return;
    if (!lost_) {
      std::swap(on_gone_, callback);  // the old one is destroyed without the mutex
      return;
    }
  }
  ways_.post(std::move(callback));
}

void HttpAnswer::abandon() {
  std::function<void()> dropped;
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (complete_ || lost_ || cut_off_) return;
    abandoned_ = true;
    std::swap(dropped, on_gone_);
    wake = must_wake();
  }
  if (wake) ways_.wake();
}

bool HttpAnswer::has_work() const {
  const std::scoped_lock lock(mutex_);
  return head_ || !queue_.empty() || complete_ || abandoned_ || cut_off_;
}

HttpWork HttpAnswer::take() {
  const std::scoped_lock lock(mutex_);
  HttpWork work;
  work.streaming = streaming_;
  work.cut_off = cut_off_;
  work.head = std::exchange(head_, std::nullopt);
  if (queue_.size() <= kBatchBytes) {
    work.data = std::exchange(queue_, {});
  } else {
    work.data = queue_.substr(0, kBatchBytes);
    queue_.erase(0, kBatchBytes);
  }
  in_flight_ += work.data.size();
  work.complete = complete_ && queue_.empty();
  work.abandoned = abandoned_ && queue_.empty();
  // With something to send the connection comes back by itself.
  awake_ = !work.nothing();
  return work;
}

void HttpAnswer::sent(std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  in_flight_ -= std::min(bytes, in_flight_);
}

bool HttpAnswer::lose() {
  std::function<void()> callback;
  {
    const std::scoped_lock lock(mutex_);
    if (complete_) return false;
    lost_ = true;
    std::string().swap(queue_);
    std::swap(callback, on_gone_);
  }
  if (callback) callback();
  return true;
}

bool HttpAnswer::complete() const {
  const std::scoped_lock lock(mutex_);
  return complete_;
}

bool HttpAnswer::cut_off() const {
  const std::scoped_lock lock(mutex_);
  return cut_off_;
}

std::shared_ptr<HttpExchange> make_http_exchange(std::shared_ptr<HttpAnswer> answer) {
  return std::make_shared<AnswerExchange>(std::move(answer));
}

}  // namespace tg
