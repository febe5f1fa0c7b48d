// What: one client's connection: reads requests, runs the handler, sends the answers. Two
//   coroutines: one reads for as long as the socket lives, so that a hang-up is seen whatever the
//   other, which works through the requests, is waiting for. No read is ever cancelled, so
//   pipelined bytes cannot be lost. Shows Boost: included by http_*.cpp only.
// Who owns: its own coroutines hold it; HttpShared lists it while it lives.
// Thread: the server's, but for HttpShared::post().
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "server/http_answer.h"
#include "server/http_parser.h"
#include "server/http_server.h"

namespace tg {

class HttpConnection;

// What the connections of a server have in common. Exchanges hold it too, so it may outlive both.
struct HttpShared {
  using Clock = std::chrono::steady_clock;

  boost::asio::io_context io{1};
  HttpOptions options;
  HttpHandler handler;
  std::optional<boost::asio::ssl::context> tls;
  std::unordered_set<HttpConnection*> open;
  std::atomic<std::int64_t> connections{0};  // open.size(), for other threads
  std::int64_t refusing = 0;                 // of them: only there to be told 503
  bool stopping = false;
  std::array<char, 64 << 10> scratch;  // what is read lands here first
  boost::asio::steady_timer tick{io};  // see http_server.cpp; cancelled when there is news

  // Runs `work` on the server's thread; here and now once that has ended.
  void post(std::function<void()> work);
  // The server's thread is about to end.
  void end_posts();
  const std::string& date();
  std::string make_id();

 private:
  std::uint64_t id_state_ = std::random_device()();
  std::mutex post_mutex_;
  bool ended_ = false;
  std::time_t date_time_ = 0;
  std::string date_;
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  // `refuse`: there are too many already; this one hears so.
  HttpConnection(std::shared_ptr<HttpShared> shared, boost::asio::ip::tcp::socket socket,
                 bool refuse);
  void start();
  // Whoever waits looks again at what has changed.
  void notify() { changed_.cancel(); }
  // Called every now and then: whatever takes too long ends.
  void check_deadline(HttpShared::Clock::time_point now);
  // Ends it now, whatever it is doing.
  void cut();

 private:
  using Code = boost::system::error_code;
  template <typename T = void>
  using Task = boost::asio::awaitable<T>;
  using TlsStream = boost::asio::ssl::stream<boost::asio::ip::tcp::socket&>;
  enum class Read { kRequest, kRejected, kClosed };

  Task<> run(std::shared_ptr<HttpConnection> self);
  Task<> serve();
  Task<bool> shake_hands();
  void end();
  Task<> changed();
  void set_deadline(double seconds);
  void no_deadline();

  Task<> read_for_ever(std::shared_ptr<HttpConnection> self);
  Task<std::size_t> receive(Code& code);
  void receive_ended();
  std::size_t input_limit() const;
  Task<Read> read_request();
  Task<Read> read_head(HttpParser& parser);
  Task<Read> read_body(HttpParser& parser);
  bool feed(HttpParser& parser);  // true: rejection_ says why not
  Task<Read> more_input(std::string_view part);

  void begin_record();
  void end_record(bool complete);
  void hand_over();
  void look_at_answer();
  HttpResponse own_answer(int status, const std::string& message) const;
  Task<> answer();
  Task<> reject();
  std::string compose_head(const HttpResponse& head, bool streaming);
  Task<bool> send_work(HttpWork work);
  Task<bool> send(std::string_view bytes);
  Task<> close_gently();

  std::shared_ptr<HttpShared> shared_;
  boost::asio::ip::tcp::socket socket_;
  std::unique_ptr<TlsStream> tls_;
  boost::asio::steady_timer changed_;  // never expires: its cancellation is the signal
  std::string remote_;

  std::string input_;             // received and not yet parsed
  std::vector<char> tls_buffer_;  // a read of TLS in progress needs memory of its own
  bool input_ended_ = false;
  bool reader_waits_ = false;  // for room in input_
  bool discard_ = false;       // nobody parses any more

  HttpShared::Clock::time_point deadline_ = HttpShared::Clock::time_point::max();
  bool expired_ = false;
  bool sending_ = false;
  bool refuse_ = false;
  bool cut_ = false;

  // The request in progress.
  std::shared_ptr<HttpAnswer> answer_;
  HttpRequest request_;
  HttpRejection rejection_;
  HttpRecord record_;
  HttpHeaders cors_;
  HttpFraming framing_ = HttpFraming::kLength;
  HttpShared::Clock::time_point request_time_;
  bool keep_alive_ = true;
  bool http_1_0_ = false;
  bool is_head_ = false;
  bool is_preflight_ = false;
  bool still_sending_ = false;  // the client, perhaps: closed only when it has heard us
};

}  // namespace tg
