#include "server/http_server.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <condition_variable>
#include <initializer_list>
#include <mutex>
#include <thread>
#include <utility>

#include "server/http_connection.h"

// NOLINTBEGIN(bugprone-unused-return-value): asio returns the code that it was given to fill, too
namespace tg {
namespace {

namespace asio = boost::asio;
using Acceptor = asio::ip::tcp::acceptor;
using ErrorNumber = boost::system::error_code;

// Clients told 503 at a time; what comes on top of them is closed without a word.
constexpr std::int64_t kMostRefusing = 64;
// Unsent bytes that the kernel takes of a connection. What a client leaves unread beyond it waits
// in our own queue, where it counts.
constexpr int kUnsentInKernel = 128 << 10;
// Without a byte for so long, the kernel asks whether the client's host is still there.
constexpr int kKeepAliveSeconds = 60;

// A connection is a descriptor; the soft limit is often 1024.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Status check_options(const HttpOptions& options) {
  if (options.port < 0 || options.port > 65535) {
    return error(ErrorCode::kBadArgument, "port {} is not in 0..65535", options.port);
  }
  if (options.tls_certificate.empty() != options.tls_key.empty()) {
    return error(ErrorCode::kBadArgument, "TLS needs a certificate and a key; only one was given");
  }
  if (options.max_header_bytes < 1024 || options.max_header_bytes > 16 << 20) {
    return error(ErrorCode::kBadArgument, "a limit of {} bytes for headers is not in 1024..{}",
                 options.max_header_bytes, 16 << 20);
  }
  for (const std::int64_t limit : {options.max_body_bytes, options.max_bodies_bytes,
                                   options.stream_queue_bytes, options.max_connections}) {
    if (limit < 1) return error(ErrorCode::kBadArgument, "a limit of {} lets nothing in", limit);
  }
  for (const double seconds : {options.header_timeout_s, options.body_timeout_s,
                               options.idle_timeout_s, options.write_timeout_s}) {
    if (!(seconds > 0.0)) {
      return error(ErrorCode::kBadArgument, "a time-out of {} s leaves no time", seconds);
    }
  }
  return {};
}

Status load_tls(const HttpOptions& options, std::optional<asio::ssl::context>& tls) {
  if (options.tls_certificate.empty()) return {};
  tls.emplace(asio::ssl::context::tls_server);
  ErrorNumber code;
  tls->set_options(asio::ssl::context::no_sslv2 | asio::ssl::context::no_sslv3 |
                       asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1,
                   code);
  tls->use_certificate_chain_file(options.tls_certificate, code);
  if (code) {
    return error(ErrorCode::kBadArgument, "TLS certificate {}: {}", options.tls_certificate,
                 code.message());
  }
  tls->use_private_key_file(options.tls_key, asio::ssl::context::pem, code);
  if (code) {
    return error(ErrorCode::kBadArgument, "TLS key {}: {}", options.tls_key, code.message());
  }
  if (::SSL_CTX_check_private_key(tls->native_handle()) != 1) {
    return error(ErrorCode::kBadArgument, "TLS key {} does not belong to certificate {}",
                 options.tls_key, options.tls_certificate);
  }
  return {};
}

Status open_acceptor(const HttpOptions& options, asio::io_context& io, Acceptor& acceptor) {
  ErrorNumber code;
  asio::ip::tcp::resolver resolver(io);
  const auto found = resolver.resolve(options.host, fmt::to_string(options.port),
                                      asio::ip::resolver_base::passive, code);
  if (code || found.empty()) {
    return error(ErrorCode::kIo, "cannot find the address of host {}: {}", options.host,
                 code.message());
  }
  const asio::ip::tcp::endpoint endpoint = *found.begin();
  acceptor.open(endpoint.protocol(), code);
  if (!code) acceptor.set_option(Acceptor::reuse_address(true), code);
  if (!code) acceptor.bind(endpoint, code);
  if (!code) acceptor.listen(asio::socket_base::max_listen_connections, code);
  if (code) {
    return error(ErrorCode::kIo, "cannot listen on {}:{}: {}", options.host, options.port,
                 code.message());
  }
  return {};
}

void set_socket_options(asio::ip::tcp::socket& socket, double write_timeout_s) {
  ErrorNumber code;  // a socket without them works too
  socket.set_option(asio::ip::tcp::no_delay(true), code);
  socket.set_option(asio::socket_base::keep_alive(true), code);
  const int handle = socket.native_handle();
  ::setsockopt(handle, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kUnsentInKernel, sizeof(kUnsentInKernel));
  ::setsockopt(handle, IPPROTO_TCP, TCP_KEEPIDLE, &kKeepAliveSeconds, sizeof(kKeepAliveSeconds));
  // A host that is gone acknowledges nothing. Few bytes of a stream wait for it, so our own
  // time-out, which comes earlier, does not see that for long.
  const auto unheard_ms = static_cast<unsigned>(std::clamp(2e3 * write_timeout_s, 1e3, 1e9));
  ::setsockopt(handle, IPPROTO_TCP, TCP_USER_TIMEOUT, &unheard_ms, sizeof(unheard_ms));
}

class AsioHttpServer final : public HttpServer {
 public:
  AsioHttpServer(std::shared_ptr<HttpShared> shared, Acceptor acceptor)
      : shared_(std::move(shared)), acceptor_(std::move(acceptor)) {
    ErrorNumber code;
    port_ = acceptor_.local_endpoint(code).port();
  }
  AsioHttpServer(const AsioHttpServer&) = delete;
  AsioHttpServer& operator=(const AsioHttpServer&) = delete;
  // NOLINTNEXTLINE(bugprone-exception-escape): without memory for a message there is no orderly end
  ~AsioHttpServer() override {
    end(0.0);
    if (thread_.joinable()) thread_.join();
  }

  int port() const override { return port_; }
  std::int64_t connections() const override { return shared_->connections; }

  void start(HttpHandler handler) override {
    shared_->handler = std::move(handler);
    running_ = true;
    thread_ = std::thread([this] { run(); });
  }

  void stop(double grace_s) override { end(grace_s); }

 private:
  using Clock = HttpShared::Clock;
  using Task = asio::awaitable<void>;

  void end(double grace_s);
  void run();
  Task accept_for_ever();
  Task watch_deadlines();
  void begin_stop(Clock::time_point cut_at);
  Clock::duration tick_length() const;

  std::shared_ptr<HttpShared> shared_;
  Acceptor acceptor_;
  int port_ = 0;
  std::thread thread_;
  Clock::time_point cut_at_ = Clock::time_point::max();  // the server's thread only

  std::mutex mutex_;
  std::condition_variable ended_;
  bool running_ = false;
};

void AsioHttpServer::end(double grace_s) {
  std::unique_lock lock(mutex_);
  if (!running_) {
    if (!thread_.joinable()) {  // never started
      ErrorNumber code;
      acceptor_.close(code);
    }
    return;
  }
  const std::chrono::duration<double> grace(std::clamp(grace_s, 0.0, 1e6));
  const auto cut_at = Clock::now() + std::chrono::duration_cast<Clock::duration>(grace);
  asio::post(shared_->io, [this, cut_at] { begin_stop(cut_at); });
  ended_.wait(lock, [this] { return !running_; });
}

void AsioHttpServer::run() {
  // Signals are for the thread that waits for them.
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  asio::co_spawn(shared_->io, accept_for_ever(), asio::detached);
  asio::co_spawn(shared_->io, watch_deadlines(), asio::detached);
  for (bool done = false; !done;) {
    try {
      shared_->io.run();
      done = true;
    } catch (...) {  // NOLINT(bugprone-empty-catch): a caller's callback; the others go on
    }
  }
  try {
    shared_->end_posts();
  } catch (...) {  // NOLINT(bugprone-empty-catch): likewise
  }
  // An exchange that somebody still holds would keep what the handler holds.
  shared_->handler = nullptr;
  const std::scoped_lock lock(mutex_);
  running_ = false;
  ended_.notify_all();
}

AsioHttpServer::Task AsioHttpServer::accept_for_ever() {
  asio::steady_timer pause(shared_->io);
  for (;;) {
    auto [code, socket] = co_await acceptor_.async_accept(asio::as_tuple(asio::use_awaitable));
    if (shared_->stopping || !acceptor_.is_open()) co_return;
    if (code) {
      // Out of descriptors or of memory; the connection waits in the kernel.
      pause.expires_after(std::chrono::milliseconds(50));
      ErrorNumber ignored;
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      continue;
    }
    const auto open = static_cast<std::int64_t>(shared_->open.size());
    const bool refuse = open - shared_->refusing >= shared_->options.max_connections;
    if (refuse && shared_->refusing >= kMostRefusing) continue;
    try {
      set_socket_options(socket, shared_->options.write_timeout_s);
      std::make_shared<HttpConnection>(shared_, std::move(socket), refuse)->start();
    } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory; the socket is closed
    }
    if (open == 0) shared_->tick.cancel();  // deadlines to watch
  }
}

AsioHttpServer::Clock::duration AsioHttpServer::tick_length() const {
  const HttpOptions& options = shared_->options;
  // A time-out is late by a tenth at most, and ten thousand comparisons a second are nothing.
  const double shortest = std::min({options.header_timeout_s, options.body_timeout_s,
                                    options.idle_timeout_s, options.write_timeout_s});
  return std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(std::clamp(shortest / 10.0, 0.01, 0.25)));
}

AsioHttpServer::Task AsioHttpServer::watch_deadlines() {
  while (!shared_->stopping || !shared_->open.empty()) {
    auto next = shared_->open.empty() ? Clock::time_point::max() : Clock::now() + tick_length();
    next = std::min(next, cut_at_);
    shared_->tick.expires_at(next);
    ErrorNumber ignored;
    co_await shared_->tick.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    const auto now = Clock::now();
    for (HttpConnection* connection : shared_->open) {
      connection->check_deadline(now);
      if (now >= cut_at_) connection->cut();
    }
  }
}

void AsioHttpServer::begin_stop(Clock::time_point cut_at) {
  cut_at_ = std::min(cut_at_, cut_at);
  shared_->stopping = true;
  ErrorNumber code;
  acceptor_.close(code);
  for (HttpConnection* connection : shared_->open) connection->notify();
  shared_->tick.cancel();
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::listen(HttpOptions options) {
  TG_RETURN_IF_ERROR(check_options(options));
  raise_descriptor_limit();
  auto shared = std::make_shared<HttpShared>();
  TG_RETURN_IF_ERROR(load_tls(options, shared->tls));
  Acceptor acceptor(shared->io);
  TG_RETURN_IF_ERROR(open_acceptor(options, shared->io, acceptor));
  shared->options = std::move(options);
  return std::make_unique<AsioHttpServer>(std::move(shared), std::move(acceptor));
}

}  // namespace tg
// NOLINTEND(bugprone-unused-return-value)
