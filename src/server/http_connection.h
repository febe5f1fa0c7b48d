// What: one client's connection: reads requests, runs the handler, sends the answers. Two
//   coroutines: one receives for as long as the socket lives, the other works through the requests.
//   Shows Boost: included by http_*.cpp only.
// Who owns: its own coroutines hold it; HttpShared lists it while it lives.
// Thread: the server's.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http_answer.h"
#include "server/http_parser.h"
#include "server/http_server.h"
#include "server/http_shared.h"
#include "server/http_socket.h"
#include "server/http_text.h"

namespace tg {

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  // `refuse`: there are too many already; this one hears so.
  HttpConnection(std::shared_ptr<HttpShared> shared, boost::asio::ip::tcp::socket socket,
                 bool refuse);
  void start();
  void notify() { socket_.notify(); }
  // Called every now and then: whatever takes too long ends.
  void check_deadline(HttpShared::Clock::time_point now) { socket_.check_deadline(now); }
  void cut() { socket_.cut(); }

 private:
  enum class Read : std::uint8_t { kRequest, kRejected, kClosed };

  HttpTask<> run(std::shared_ptr<HttpConnection> self);
  HttpTask<> receive(std::shared_ptr<HttpConnection> self);
  HttpTask<> serve();
  void end();
  void look_for_hang_up();

  // http_reading.cpp
  HttpTask<Read> read_request();
  HttpTask<Read> read_head(HttpParser& parser);
  HttpTask<Read> read_body(HttpParser& parser);
  bool refuses_head(HttpParser& parser);  // true: rejection_ says why, here and below
  bool feed(HttpParser& parser);
  bool hold_body(std::size_t bytes);
  HttpTask<Read> more_input(std::string_view part);

  void begin_record();
  void end_record(bool complete);
  void hand_over();
  void look_at_answer();
  HttpResponse own_answer(int status, const std::string& message) const;
  HttpTask<> answer();
  HttpTask<bool> still_reads();
  bool can_probe() const;
  HttpTask<> reject();
  std::string compose_head(const HttpResponse& head, bool streaming);
  HttpTask<bool> send_work(HttpWork work);
  std::string framed(std::string piece) const;
  HttpTask<> close_gently();

  std::shared_ptr<HttpShared> shared_;
  HttpSocket socket_;
  bool refuse_ = false;

  // The request in progress.
  std::shared_ptr<HttpAnswer> answer_;
  HttpRequest request_;
  HttpRejection rejection_;
  HttpRecord record_;
  HttpHeaders cors_;
  HttpFraming framing_ = HttpFraming::kLength;
  HttpShared::Clock::time_point request_time_;
  HttpShared::Clock::time_point next_probe_;
  std::int64_t body_bytes_ = 0;  // its part of HttpShared::body_bytes
  bool keep_alive_ = true;
  bool http_1_0_ = false;
  bool is_head_ = false;
  bool is_preflight_ = false;
  bool sends_events_ = false;
  bool still_sending_ = false;  // the client, perhaps: closed only when it has heard us
};

}  // namespace tg
