// How a connection reads its requests: http_connection.h.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "server/http_connection.h"

namespace tg {
namespace {

// Read ahead of the header in progress.
constexpr std::size_t kReadBeyondHeader = 16 << 10;
// A body longer than this is not taken before HttpOptions::check_head has seen the request's head.
constexpr std::size_t kUncheckedBodyBytes = 64 << 10;
// A body that always comes just in time may take so many of its time-outs in all, and longer when
// it comes with so many bytes a second: nobody holds a connection for ever with a byte a minute.
constexpr double kBodyTimeouts = 10.0;
constexpr double kSlowestBodyBytes = 256.0;

}  // namespace

HttpTask<HttpConnection::Read> HttpConnection::read_request() {
  HttpParser parser(shared_->options);
  // More than a header, or nothing would ever be too long.
  socket_.set_input_limit(static_cast<std::size_t>(shared_->options.max_header_bytes) +
                          kReadBeyondHeader);
  socket_.made_room();
  Read outcome = co_await read_head(parser);
  if (outcome == Read::kRequest) outcome = co_await read_body(parser);
  socket_.no_deadline();
  request_ = std::move(parser.request);
  http_1_0_ = parser.http_1_0();
  keep_alive_ = outcome == Read::kRequest && parser.keep_alive();
  co_return outcome;
}

HttpTask<HttpConnection::Read> HttpConnection::read_head(HttpParser& parser) {
  std::string& input = socket_.input();
  socket_.set_deadline(shared_->options.idle_timeout_s);
  if (input.empty()) std::string().swap(input);  // an idle connection keeps no memory of a body
  for (;;) {
    std::size_t blank = 0;  // lines: some clients end a body so
    while (input.compare(blank, 2, "\r\n") == 0) blank += 2;
    input.erase(0, blank);
    if (!input.empty() && input != "\r") break;
    if (socket_.has_ended() || socket_.is_cut() || socket_.expired() || shared_->stopping) {
      co_return Read::kClosed;
    }
    co_await socket_.changed();
  }
  socket_.set_deadline(shared_->options.header_timeout_s);
  for (;;) {
    if (feed(parser)) co_return Read::kRejected;
    if (parser.is_header_done()) co_return Read::kRequest;
    const Read more = co_await more_input("header");
    if (more != Read::kRequest) co_return more;
  }
}

HttpTask<HttpConnection::Read> HttpConnection::read_body(HttpParser& parser) {
  bool unchecked = static_cast<bool>(shared_->options.check_head);
  if (parser.expects_continue() && !parser.is_done() && socket_.input().empty()) {
    if (std::exchange(unchecked, false) && refuses_head(parser)) co_return Read::kRejected;
    if (!co_await socket_.send("HTTP/1.1 100 Continue\r\n\r\n")) co_return Read::kClosed;
  }
  const auto begin = HttpShared::Clock::now();
  const double timeout = shared_->options.body_timeout_s;
  while (!parser.is_done()) {
    if (!socket_.input().empty()) {
      if (feed(parser)) co_return Read::kRejected;
      const std::size_t bytes = parser.request.body.size();
      if (hold_body(bytes)) co_return Read::kRejected;
      if (parser.is_done()) break;
      if (unchecked && bytes > kUncheckedBodyBytes) {
        unchecked = false;
        if (refuses_head(parser)) co_return Read::kRejected;
      }
    }
    const double taken = std::chrono::duration<double>(HttpShared::Clock::now() - begin).count();
    const double in_all = kBodyTimeouts * timeout +
                          static_cast<double>(parser.request.body.size()) / kSlowestBodyBytes;
    socket_.set_deadline(std::min(timeout, in_all - taken));
    const Read more = co_await more_input("body");
    if (more != Read::kRequest) co_return more;
  }
  co_return Read::kRequest;
}

bool HttpConnection::refuses_head(HttpParser& parser) {
  std::optional<HttpResponse> refusal;
  call_safely([&] { refusal = shared_->options.check_head(parser.request); });
  if (!refusal) return false;
  rejection_ = {.answer = std::move(refusal)};
  return true;
}

bool HttpConnection::feed(HttpParser& parser) {
  auto rejection = parser.feed(socket_.input());
  socket_.made_room();
  if (!rejection) return false;
  rejection_ = std::move(*rejection);
  return true;
}

// Counts the body's bytes among those of all connections.
bool HttpConnection::hold_body(std::size_t bytes) {
  shared_->body_bytes += static_cast<std::int64_t>(bytes) - body_bytes_;
  body_bytes_ = static_cast<std::int64_t>(bytes);
  const std::int64_t most = shared_->options.max_bodies_bytes;
  if (bytes == 0 || shared_->body_bytes <= most) return false;
  rejection_ = {.status = 503,
                .message = fmt::format("requests with {} bytes are being read already, the most "
                                       "that are held at once",
                                       most)};
  return true;
}

HttpTask<HttpConnection::Read> HttpConnection::more_input(std::string_view part) {
  const std::size_t had = socket_.input().size();
  while (socket_.input().size() <= had) {
    if (socket_.has_ended() || socket_.is_cut()) co_return Read::kClosed;
    if (socket_.expired()) {
      rejection_ = {.status = 408,
                    .message = fmt::format("the request's {} did not come in time", part)};
      co_return Read::kRejected;
    }
    co_await socket_.changed();
  }
  co_return Read::kRequest;
}

}  // namespace tg
