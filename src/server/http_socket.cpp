#include "server/http_socket.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <tuple>
#include <utility>

// NOLINTBEGIN(bugprone-unused-return-value): asio returns the code that it was given to fill, too
namespace tg {
namespace {

namespace asio = boost::asio;
constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

// A read of a TLS connection; every one of them keeps such a buffer.
constexpr std::size_t kTlsReadBytes = 4 << 10;
constexpr double kTlsGoodbyeSeconds = 1.0;

std::string remote_name(const asio::ip::tcp::socket& socket) {
  boost::system::error_code code;
  const auto endpoint = socket.remote_endpoint(code);
  if (code) return "unknown";
  const std::string host = endpoint.address().to_string(code);
  const bool bracket = endpoint.address().is_v6();
  return fmt::format("{}{}{}:{}", bracket ? "[" : "", host, bracket ? "]" : "", endpoint.port());
}

}  // namespace

HttpSocket::HttpSocket(HttpShared& shared, asio::ip::tcp::socket socket)
    : shared_(shared),
      socket_(std::move(socket)),
      changed_(shared.io, HttpShared::Clock::time_point::max()),
      remote_(remote_name(socket_)) {
  Code code;
  socket_.non_blocking(true, code);
  if (shared.tls) {
    tls_ = std::make_unique<TlsStream>(socket_, *shared.tls);
    tls_buffer_.resize(kTlsReadBytes);
  }
}

HttpTask<> HttpSocket::changed() {
  Code code;
  co_await changed_.async_wait(asio::redirect_error(asio::use_awaitable, code));
}

void HttpSocket::set_deadline(double seconds) {
  expired_ = false;
  deadline_ =
      HttpShared::Clock::now() + std::chrono::duration_cast<HttpShared::Clock::duration>(
                                     std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e6)));
}

void HttpSocket::no_deadline() {
  expired_ = false;
  deadline_ = HttpShared::Clock::time_point::max();
}

void HttpSocket::check_deadline(HttpShared::Clock::time_point now) {
  if (now < deadline_) return;
  deadline_ = HttpShared::Clock::time_point::max();
  expired_ = true;
  if (sending_) {
    cut();
  } else {
    notify();
  }
}

void HttpSocket::cut() {
  if (cut_) return;
  cut_ = true;
  Code code;
  socket_.set_option(asio::socket_base::linger(true, 0), code);
  socket_.close(code);
  notify();
}

void HttpSocket::close() {
  cut_ = true;
  Code code;
  socket_.close(code);
  notify();
}

HttpTask<bool> HttpSocket::shake_hands(double seconds) {
  set_deadline(seconds);
  sending_ = true;  // too slow: cut
  const auto [code] = co_await tls_->async_handshake(asio::ssl::stream_base::server, kTuple);
  sending_ = false;
  no_deadline();
  co_return !code && !cut_;
}

HttpTask<bool> HttpSocket::send(std::string_view bytes) {
  bool sent = true;
  while (!bytes.empty() && sent) {
    if (cut_) co_return false;
    set_deadline(shared_.options.write_timeout_s);
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

HttpTask<> HttpSocket::say_goodbye() {
  if (tls_) {
    set_deadline(kTlsGoodbyeSeconds);
    sending_ = true;  // too slow: cut
    co_await tls_->async_shutdown(kTuple);
    sending_ = false;
  }
  Code code;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, code);
}

HttpTask<std::size_t> HttpSocket::receive(Code& code) {
  const std::size_t room = discard_ ? shared_.scratch.size() : input_limit_ - input_.size();
  std::size_t count = 0;
  const char* from = nullptr;
  if (tls_) {
    std::tie(code, count) = co_await tls_->async_read_some(
        asio::buffer(tls_buffer_.data(), std::min(room, tls_buffer_.size())), kTuple);
    from = tls_buffer_.data();
  } else {
    // Waiting without a buffer: thousands of silent connections need none.
    std::tie(code) = co_await socket_.async_wait(asio::ip::tcp::socket::wait_read, kTuple);
    if (code) co_return 0;
    count = socket_.read_some(
        asio::buffer(shared_.scratch.data(), std::min(room, shared_.scratch.size())), code);
    if (code == asio::error::would_block || code == asio::error::interrupted) code = {};
    from = shared_.scratch.data();
  }
  if (!code && !discard_) input_.append(from, count);
  co_return count;
}

HttpTask<> HttpSocket::receive_all() {
  Code code;
  try {
    while (!code && !cut_) {
      if (!discard_ && input_.size() >= input_limit_) {
        reader_waits_ = true;
        co_await changed();
        reader_waits_ = false;
        continue;
      }
      if (co_await receive(code) > 0) notify();
    }
  } catch (...) {  // out of memory; the same as a hang-up
    code = asio::error::no_memory;
  }
  // What TLS says about its end is about both directions.
  end_ = code == asio::error::eof && !tls_ ? End::kHalf : End::kGone;
}

HttpTask<> HttpSocket::wait_for_reset() {
  co_await socket_.async_wait(asio::ip::tcp::socket::wait_error, kTuple);
  end_ = End::kGone;
}

void HttpSocket::made_room() {
  if (reader_waits_) notify();
}

void HttpSocket::discard_input() {
  discard_ = true;
  std::string().swap(input_);
  notify();
}

}  // namespace tg
// NOLINTEND(bugprone-unused-return-value)
