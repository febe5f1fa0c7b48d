#include "server/http_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <tuple>
#include <utility>

// NOLINTBEGIN(bugprone-unused-return-value): asio returns the code that it was given to fill, too
namespace tg {
namespace {

namespace asio = boost::asio;
constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

// Read ahead of the request in progress: enough to see a hang-up behind some pipelined requests.
constexpr std::size_t kReadAheadBytes = 16 << 10;
// A read of a TLS connection; every one of them keeps such a buffer.
constexpr std::size_t kTlsReadBytes = 4 << 10;
// Bodies up to here are copied behind their head, to be one packet.
constexpr std::size_t kOnePieceBytes = 16 << 10;
// How long a refused client that is still sending may take to hear so. A socket closed with bytes
// unread is reset, and the client would see that instead of our answer.
constexpr double kLingerSeconds = 5.0;
constexpr double kTlsGoodbyeSeconds = 1.0;

std::string remote_name(const asio::ip::tcp::socket& socket) {
  boost::system::error_code code;
  const auto endpoint = socket.remote_endpoint(code);
  if (code) return "unknown";
  const std::string host = endpoint.address().to_string(code);
  const bool bracket = endpoint.address().is_v6();
  return fmt::format("{}{}{}:{}", bracket ? "[" : "", host, bracket ? "]" : "", endpoint.port());
}

double seconds_between(HttpShared::Clock::time_point from, HttpShared::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// Whatever a caller's function throws stays here.
template <typename F>
void call_safely(F&& function) {
  try {
    function();
  } catch (...) {  // NOLINT(bugprone-empty-catch): there is nobody to tell
  }
}

}  // namespace

HttpConnection::HttpConnection(std::shared_ptr<HttpShared> shared, asio::ip::tcp::socket socket,
                               bool refuse)
    : shared_(std::move(shared)),
      socket_(std::move(socket)),
      changed_(shared_->io, HttpShared::Clock::time_point::max()),
      remote_(remote_name(socket_)),
      refuse_(refuse) {
  Code code;
  socket_.non_blocking(true, code);
  if (shared_->tls) {
    tls_ = std::make_unique<TlsStream>(socket_, *shared_->tls);
    tls_buffer_.resize(kTlsReadBytes);
  }
  shared_->open.insert(this);
  shared_->connections = static_cast<std::int64_t>(shared_->open.size());
  if (refuse_) ++shared_->refusing;
}

void HttpConnection::start() {
  asio::co_spawn(shared_->io, run(shared_from_this()), asio::detached);
}

void HttpConnection::set_deadline(double seconds) {
  expired_ = false;
  deadline_ =
      HttpShared::Clock::now() + std::chrono::duration_cast<HttpShared::Clock::duration>(
                                     std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e6)));
}

void HttpConnection::no_deadline() {
  expired_ = false;
  deadline_ = HttpShared::Clock::time_point::max();
}

void HttpConnection::check_deadline(HttpShared::Clock::time_point now) {
  if (now < deadline_) return;
  deadline_ = HttpShared::Clock::time_point::max();
  expired_ = true;
  if (sending_) {
    cut();
  } else {
    notify();
  }
}

void HttpConnection::cut() {
  if (cut_) return;
  cut_ = true;
  Code code;
  // What the client has not taken by now is dropped, in the kernel too.
  socket_.set_option(asio::socket_base::linger(true, 0), code);
  socket_.close(code);
  notify();
}

HttpConnection::Task<> HttpConnection::changed() {
  Code code;
  co_await changed_.async_wait(asio::redirect_error(asio::use_awaitable, code));
}

// `self` keeps the connection alive from before the coroutine's first step on.
HttpConnection::Task<> HttpConnection::run(std::shared_ptr<HttpConnection> self) {
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
  Code code;
  cut_ = true;
  socket_.close(code);
  notify();
  if (refuse_) --shared_->refusing;
  shared_->open.erase(this);
  shared_->connections = static_cast<std::int64_t>(shared_->open.size());
  if (shared_->stopping && shared_->open.empty()) shared_->tick.cancel();
}

HttpConnection::Task<> HttpConnection::serve() {
  if (tls_) {
    // A client that is too many costs no handshake.
    if (refuse_ || !co_await shake_hands()) co_return;
  }
  asio::co_spawn(shared_->io, read_for_ever(shared_from_this()), asio::detached);
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
      if (tls_ && !input_ended_) co_await close_gently();  // says goodbye, or it looks like a fault
      co_return;
    }
    if (outcome == Read::kRejected) {
      co_await reject();
      co_return;
    }
    co_await answer();
  }
  co_await close_gently();
}

HttpConnection::Task<bool> HttpConnection::shake_hands() {
  set_deadline(shared_->options.header_timeout_s);
  sending_ = true;  // too slow: cut
  const auto [code] = co_await tls_->async_handshake(asio::ssl::stream_base::server, kTuple);
  sending_ = false;
  no_deadline();
  co_return !code && !cut_;
}

// ---- Reading

HttpConnection::Task<std::size_t> HttpConnection::receive(Code& code) {
  std::size_t count = 0;
  const char* from = nullptr;
  if (tls_) {
    std::tie(code, count) = co_await tls_->async_read_some(
        asio::buffer(tls_buffer_.data(), tls_buffer_.size()), kTuple);
    from = tls_buffer_.data();
  } else {
    // Waiting without a buffer: thousands of silent connections need none.
    std::tie(code) = co_await socket_.async_wait(asio::ip::tcp::socket::wait_read, kTuple);
    if (code) co_return 0;
    count = socket_.read_some(asio::buffer(shared_->scratch), code);
    if (code == asio::error::would_block || code == asio::error::interrupted) code = {};
    from = shared_->scratch.data();
  }
  if (!code && !discard_) input_.append(from, count);
  co_return count;
}

HttpConnection::Task<> HttpConnection::read_for_ever(std::shared_ptr<HttpConnection> self) {
  try {
    Code code;
    while (!code && !cut_) {
      if (!discard_ && input_.size() >= input_limit()) {
        reader_waits_ = true;
        co_await changed();
        reader_waits_ = false;
        continue;
      }
      if (co_await receive(code) > 0) notify();
    }
  } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory; the same as a hang-up
  }
  self->receive_ended();
}

void HttpConnection::receive_ended() {
  input_ended_ = true;
  bool incomplete = false;
  if (answer_) {
    call_safely([&] { incomplete = !answer_->complete() && answer_->lose(); });
  }
  if (incomplete) cut();
  notify();
}

std::size_t HttpConnection::input_limit() const {
  if (answer_) return kReadAheadBytes;
  // More than a header, or nothing would ever be too long.
  return static_cast<std::size_t>(shared_->options.max_header_bytes) + kReadAheadBytes;
}

HttpConnection::Task<HttpConnection::Read> HttpConnection::read_request() {
  HttpParser parser(shared_->options);
  Read outcome = co_await read_head(parser);
  if (outcome == Read::kRequest) outcome = co_await read_body(parser);
  no_deadline();
  request_ = std::move(parser.request);
  http_1_0_ = parser.http_1_0();
  keep_alive_ = outcome == Read::kRequest && parser.keep_alive();
  co_return outcome;
}

HttpConnection::Task<HttpConnection::Read> HttpConnection::read_head(HttpParser& parser) {
  set_deadline(shared_->options.idle_timeout_s);
  if (input_.empty()) std::string().swap(input_);  // an idle connection keeps no memory of a body
  for (;;) {
    std::size_t blank = 0;  // lines: some clients end a body so
    while (input_.compare(blank, 2, "\r\n") == 0) blank += 2;
    input_.erase(0, blank);
    if (!input_.empty() && input_ != "\r") break;
    if (input_ended_ || cut_ || expired_ || shared_->stopping) co_return Read::kClosed;
    co_await changed();
  }
  set_deadline(shared_->options.header_timeout_s);
  for (;;) {
    if (feed(parser)) co_return Read::kRejected;
    if (parser.is_header_done()) co_return Read::kRequest;
    const Read more = co_await more_input("header");
    if (more != Read::kRequest) co_return more;
  }
}

HttpConnection::Task<HttpConnection::Read> HttpConnection::read_body(HttpParser& parser) {
  if (parser.expects_continue() && !parser.is_done() && input_.empty()) {
    if (!co_await send("HTTP/1.1 100 Continue\r\n\r\n")) co_return Read::kClosed;
  }
  while (!parser.is_done()) {
    if (!input_.empty()) {
      if (feed(parser)) co_return Read::kRejected;
      if (parser.is_done()) break;
    }
    set_deadline(shared_->options.body_timeout_s);
    const Read more = co_await more_input("body");
    if (more != Read::kRequest) co_return more;
  }
  co_return Read::kRequest;
}

bool HttpConnection::feed(HttpParser& parser) {
  auto rejection = parser.feed(input_);
  if (reader_waits_) notify();
  if (!rejection) return false;
  rejection_ = std::move(*rejection);
  return true;
}

HttpConnection::Task<HttpConnection::Read> HttpConnection::more_input(std::string_view part) {
  const std::size_t had = input_.size();
  while (input_.size() <= had) {
    if (input_ended_ || cut_) co_return Read::kClosed;
    if (expired_) {
      rejection_ = {.status = 408,
                    .message = fmt::format("the request's {} did not come in time", part)};
      co_return Read::kRejected;
    }
    co_await changed();
  }
  co_return Read::kRequest;
}

// ---- Answering

void HttpConnection::begin_record() {
  const std::string_view sent_id = request_.header("x-request-id");
  if (is_harmless_request_id(sent_id)) {
    request_.id = sent_id;
  } else {
    request_.id = shared_->make_id();
  }
  request_.remote = remote_;
  request_time_ = HttpShared::Clock::now();
  record_ = {.unix_time_s =
                 std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
                     .count(),
             .remote = remote_,
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

HttpConnection::Task<> HttpConnection::answer() {
  hand_over();
  bool complete = false;
  for (;;) {
    if (cut_ || (input_ended_ && !answer_->complete())) break;
    HttpWork work = answer_->take();
    if (work.cut_off) break;
    if (work.nothing()) {
      co_await changed();
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
    if (!co_await send_work(std::move(work))) {
      complete = false;
      break;
    }
    answer_->sent(queued);
    if (ended_by_head) {
      call_safely([this] { answer_->lose(); });
      complete = true;
    }
    if (complete || broken_off) {
      end_record(complete);
      answer_.reset();
      if (reader_waits_) notify();
      co_return;
    }
  }
  keep_alive_ = false;
  call_safely([this] { answer_->lose(); });
  end_record(false);
  answer_.reset();
  cut();
}

HttpConnection::Task<bool> HttpConnection::send_work(HttpWork work) {
  std::string out;
  if (work.head) {
    out = compose_head(*work.head, work.streaming);
    if (!work.streaming && !is_head_ && framing_ == HttpFraming::kLength) {
      record_.bytes += static_cast<std::int64_t>(work.head->body.size());
      if (work.head->body.size() > kOnePieceBytes) {
        if (!co_await send(out)) co_return false;
        out = std::move(work.head->body);
      } else {
        out += work.head->body;
      }
    }
  }
  if (work.streaming && !is_head_) {
    const bool chunked = framing_ == HttpFraming::kChunked;
    if (!work.data.empty()) {
      record_.bytes += static_cast<std::int64_t>(work.data.size());
      if (chunked) fmt::format_to(std::back_inserter(out), "{:x}\r\n", work.data.size());
      out += work.data;
      if (chunked) out += "\r\n";
    }
    if (work.complete && chunked) out += "0\r\n\r\n";
  }
  co_return co_await send(out);
}

std::string HttpConnection::compose_head(const HttpResponse& head, bool streaming) {
  record_.status = head.status;
  framing_ = HttpFraming::kLength;
  if (head.status == 204 || head.status == 304) {
    framing_ = HttpFraming::kNoBody;
  } else if (streaming) {
    framing_ = http_1_0_ ? HttpFraming::kClose : HttpFraming::kChunked;
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

HttpConnection::Task<> HttpConnection::reject() {
  begin_record();
  keep_alive_ = false;
  still_sending_ = true;
  HttpWork work;
  work.head = own_answer(rejection_.status, rejection_.message);
  work.complete = true;
  const bool sent = co_await send_work(std::move(work));
  end_record(sent);
  if (sent) co_await close_gently();
}

HttpConnection::Task<bool> HttpConnection::send(std::string_view bytes) {
  bool sent = true;
  while (!bytes.empty() && sent) {
    if (cut_) co_return false;
    set_deadline(shared_->options.write_timeout_s);
    sending_ = true;
    const auto buffer = asio::buffer(bytes.data(), bytes.size());
    Code code;
    std::size_t count = 0;
    if (tls_) {
      std::tie(code, count) = co_await tls_->async_write_some(buffer, kTuple);
    } else {
      std::tie(code, count) = co_await socket_.async_write_some(buffer, kTuple);
    }
    sending_ = false;
    sent = !code;
    bytes.remove_prefix(count);
  }
  no_deadline();
  co_return sent;
}

HttpConnection::Task<> HttpConnection::close_gently() {
  if (cut_) co_return;
  if (tls_) {
    set_deadline(kTlsGoodbyeSeconds);
    sending_ = true;  // too slow: cut
    co_await tls_->async_shutdown(kTuple);
    sending_ = false;
  }
  Code code;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, code);
  if (!still_sending_ && input_.empty()) co_return;
  discard_ = true;
  std::string().swap(input_);
  notify();
  set_deadline(kLingerSeconds);
  while (!input_ended_ && !expired_ && !cut_ && !shared_->stopping) co_await changed();
}

}  // namespace tg
// NOLINTEND(bugprone-unused-return-value)
