#include "server/http_connection.h"

#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <iterator>
#include <utility>

namespace tg {
namespace {

namespace asio = boost::asio;

// Read ahead of the request in progress: enough to see a hang-up behind some pipelined requests.
constexpr std::size_t kReadAheadBytes = 16 << 10;
// Bodies up to here are copied behind their head, to be one packet.
constexpr std::size_t kOnePieceBytes = 16 << 10;
// How long a refused client that is still sending may take to hear so. A socket closed with bytes
// unread is reset, and the client would see that instead of our answer.
constexpr double kLingerSeconds = 5.0;
// A client that has ended its side is asked so often whether it still reads.
constexpr double kProbeSeconds = 1.0;
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr std::string_view kEventComment = ":\n\n";

double seconds_between(HttpShared::Clock::time_point from, HttpShared::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

HttpConnection::HttpConnection(std::shared_ptr<HttpShared> shared, asio::ip::tcp::socket socket,
                               bool refuse)
    : shared_(std::move(shared)), socket_(*shared_, std::move(socket)), refuse_(refuse) {
  shared_->open.insert(this);
  shared_->connections = static_cast<std::int64_t>(shared_->open.size());
  if (refuse_) ++shared_->refusing;
}

void HttpConnection::start() {
  asio::co_spawn(shared_->io, run(shared_from_this()), asio::detached);
}

// `self` keeps the connection alive from before the coroutine's first step on.
HttpTask<> HttpConnection::run(std::shared_ptr<HttpConnection> self) {
  try {
    co_await serve();
  } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory; this connection ends, no other
  }
  self->end();
}

void HttpConnection::end() {
  if (answer_) {
    call_safely([this] { answer_->lose(); });
    end_record(false);
  }
  hold_body(0);
  socket_.close();
  if (refuse_) --shared_->refusing;
  shared_->open.erase(this);
  shared_->connections = static_cast<std::int64_t>(shared_->open.size());
  if (shared_->stopping && shared_->open.empty()) shared_->tick.cancel();
}

HttpTask<> HttpConnection::serve() {
  if (socket_.is_tls()) {
    // A client that is too many costs no handshake.
    if (refuse_ || !co_await socket_.shake_hands(shared_->options.header_timeout_s)) co_return;
  }
  socket_.set_input_limit(kReadAheadBytes);
  asio::co_spawn(shared_->io, receive(shared_from_this()), asio::detached);
  if (refuse_) {
    rejection_ = {
        .status = 503,
        .message = fmt::format("all {} connections are in use", shared_->options.max_connections)};
    co_await reject();
    co_return;
  }
  while (keep_alive_) {
    const Read outcome = co_await read_request();
    if (outcome == Read::kClosed) {
      // Says goodbye, or it looks like a fault.
      if (socket_.is_tls() && !socket_.has_ended()) co_await close_gently();
      co_return;
    }
    if (outcome == Read::kRejected) {
      co_await reject();
      co_return;
    }
    co_await answer();
    hold_body(0);
  }
  co_await close_gently();
}

HttpTask<> HttpConnection::receive(std::shared_ptr<HttpConnection> self) {
  co_await socket_.receive_all();
  self->look_for_hang_up();
  if (!socket_.is_half_closed()) co_return;
  co_await socket_.wait_for_reset();
  self->look_for_hang_up();
}

// The client sends no more. That is a hang-up, unless it can be asked whether it still reads.
void HttpConnection::look_for_hang_up() {
  bool incomplete = false;
  if (answer_ && !can_probe()) {
    call_safely([&] { incomplete = !answer_->complete() && answer_->lose(); });
  }
  if (incomplete) cut();
  notify();
}

void HttpConnection::begin_record() {
  const std::string_view sent_id = request_.header("x-request-id");
  if (is_harmless_request_id(sent_id)) {
    request_.id = sent_id;
  } else {
    request_.id = shared_->make_id();
  }
  request_.remote = socket_.remote();
  request_time_ = HttpShared::Clock::now();
  record_ = {.unix_time_s =
                 std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
                     .count(),
             .remote = request_.remote,
             .method = request_.method,
             .path = request_.path,
             .id = request_.id};
  const CorsRequest cors = {.method = request_.method,
                            .origin = request_.header("origin"),
                            .wanted_method = request_.header("access-control-request-method"),
                            .wanted_headers = request_.header("access-control-request-headers")};
  cors_ = cors_headers(shared_->options.cors_origins, cors);
  is_preflight_ = !shared_->options.cors_origins.empty() && is_preflight(cors);
  is_head_ = request_.method == "HEAD";
  sends_events_ = false;
}

void HttpConnection::end_record(bool complete) {
  record_.complete = complete;
  record_.seconds = seconds_between(request_time_, HttpShared::Clock::now());
  if (record_.status == 0) record_.status = 499;
  if (shared_->options.on_done) call_safely([this] { shared_->options.on_done(record_); });
}

void HttpConnection::hand_over() {
  begin_record();
  HttpAnswer::Ways ways;
  ways.queue_bytes = shared_->options.stream_queue_bytes;
  ways.post = [shared = shared_](std::function<void()> work) { shared->post(std::move(work)); };
  ways.wake = [shared = shared_, connection = weak_from_this()] {
    shared->post([connection] {
      if (const auto there = connection.lock()) there->look_at_answer();
    });
  };
  answer_ = std::make_shared<HttpAnswer>(std::move(ways));
  const auto exchange = make_http_exchange(answer_);
  if (is_preflight_) {
    exchange->respond({.status = 204});
    return;
  }
  if (is_head_) request_.method = "GET";
  try {
    shared_->handler(std::move(request_), exchange);
  } catch (...) {
    exchange->respond(own_answer(500, "the server failed to handle the request"));
  }
}

void HttpConnection::look_at_answer() {
  if (answer_ && answer_->cut_off()) cut();
  notify();
}

HttpResponse HttpConnection::own_answer(int status, const std::string& message) const {
  HttpResponse response{.status = status};
  const auto& error_body = shared_->options.error_body;
  call_safely([&] {
    response.body = error_body ? error_body(status, message) : plain_error_body(status, message);
  });
  if (status == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

HttpTask<> HttpConnection::answer() {
  socket_.set_input_limit(kReadAheadBytes);
  next_probe_ = {};
  hand_over();
  bool complete = false;
  while (!socket_.is_cut() && co_await still_reads()) {
    HttpWork work = answer_->take();
    if (work.cut_off) break;
    if (work.nothing()) {
      if (socket_.is_half_closed()) socket_.set_deadline(kProbeSeconds);
      co_await socket_.changed();
      socket_.no_deadline();
      continue;
    }
    if (work.abandoned && !record_.status && !work.head) {
      work.head = own_answer(500, "the server gave no answer");
      work.complete = true;
    }
    complete = work.complete;
    const bool broken_off = work.abandoned && !complete;
    if (broken_off) keep_alive_ = false;  // a stream without its end says that it has none
    const std::size_t queued = work.data.size();
    const bool ended_by_head = work.streaming && is_head_;
    if (!co_await send_work(std::move(work))) break;
    answer_->sent(queued);
    if (ended_by_head) {
      call_safely([this] { answer_->lose(); });
      complete = true;
    }
    if (complete || broken_off) {
      end_record(complete);
      answer_.reset();
      co_return;
    }
  }
  keep_alive_ = false;
  call_safely([this] { answer_->lose(); });
  end_record(false);
  answer_.reset();
  cut();
}

// Whether there is somebody to answer. A client that has ended its side may still read, and is
// asked now and then: where nobody does, the reply is a reset, which receive() sees.
HttpTask<bool> HttpConnection::still_reads() {
  if (!socket_.has_ended() || answer_->complete()) co_return true;
  if (!can_probe()) co_return false;
  const auto now = HttpShared::Clock::now();
  if (now < next_probe_ || answer_->has_work()) co_return true;
  next_probe_ = now + std::chrono::duration_cast<HttpShared::Clock::duration>(
                          std::chrono::duration<double>(kProbeSeconds));
  // By name: g++ 12 destroys a temporary of such an expression twice.
  const std::string words =
      record_.status == 0 ? std::string(kContinue) : framed(std::string(kEventComment));
  co_return co_await socket_.send(words);
}

// By words that say nothing: an interim answer in front of the head, a comment between events.
bool HttpConnection::can_probe() const {
  if (!socket_.is_half_closed()) return false;
  return record_.status == 0 ? !http_1_0_ : sends_events_;
}

std::string HttpConnection::framed(std::string piece) const {
  if (framing_ != HttpFraming::kChunked) return piece;
  return fmt::format("{:x}\r\n{}\r\n", piece.size(), piece);
}

HttpTask<bool> HttpConnection::send_work(HttpWork work) {
  std::string out;
  if (work.head) {
    out = compose_head(*work.head, work.streaming);
    if (!work.streaming && !is_head_ && framing_ == HttpFraming::kLength) {
      record_.bytes += static_cast<std::int64_t>(work.head->body.size());
      if (work.head->body.size() > kOnePieceBytes) {
        if (!co_await socket_.send(out)) co_return false;
        out = std::move(work.head->body);
      } else {
        out += work.head->body;
      }
    }
  }
  if (work.streaming && !is_head_) {
    if (!work.data.empty()) {
      record_.bytes += static_cast<std::int64_t>(work.data.size());
      out += framed(std::move(work.data));
    }
    if (work.complete && framing_ == HttpFraming::kChunked) out += "0\r\n\r\n";
  }
  co_return co_await socket_.send(out);
}

std::string HttpConnection::compose_head(const HttpResponse& head, bool streaming) {
  record_.status = head.status;
  framing_ = HttpFraming::kLength;
  if (head.status == 204 || head.status == 304) {
    framing_ = HttpFraming::kNoBody;
  } else if (streaming) {
    framing_ = http_1_0_ ? HttpFraming::kClose : HttpFraming::kChunked;
    sends_events_ = head.content_type.starts_with("text/event-stream");
  }
  if (wants_close(head) || framing_ == HttpFraming::kClose || shared_->stopping) {
    keep_alive_ = false;
  }
  return http_response_head(head, {.framing = framing_,
                                   .date = shared_->date(),
                                   .request_id = record_.id,
                                   .keep_alive = keep_alive_,
                                   .http_1_0 = http_1_0_,
                                   .cors = cors_});
}

HttpTask<> HttpConnection::reject() {
  begin_record();
  std::string().swap(request_.body);
  hold_body(0);
  keep_alive_ = false;
  still_sending_ = true;
  HttpWork work;
  work.head = rejection_.answer ? std::move(rejection_.answer)
                                : own_answer(rejection_.status, rejection_.message);
  work.complete = true;
  const bool sent = co_await send_work(std::move(work));
  end_record(sent);
  if (sent) co_await close_gently();
}

HttpTask<> HttpConnection::close_gently() {
  if (socket_.is_cut()) co_return;
  co_await socket_.say_goodbye();
  if (!still_sending_ && socket_.input().empty()) co_return;
  socket_.discard_input();
  socket_.set_deadline(kLingerSeconds);
  while (!socket_.has_ended() && !socket_.expired() && !socket_.is_cut() && !shared_->stopping) {
    co_await socket_.changed();
  }
}

}  // namespace tg
