// What: one client's socket, plain or TLS, with the deadline of whatever is being waited for. What
//   the client sends is read as it comes, whatever else is going on, so that a hang-up is seen at
//   once; no read is ever cancelled, so pipelined bytes cannot be lost. Shows Boost: included by
//   http_*.cpp only.
// Who owns: its connection, whose two coroutines (one reads, one answers) call it.
// Thread: the server's.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/http_shared.h"

namespace tg {

class HttpSocket {
 public:
  HttpSocket(HttpShared& shared, boost::asio::ip::tcp::socket socket);
  const std::string& remote() const { return remote_; }  // "127.0.0.1:4711"
  bool is_tls() const { return tls_ != nullptr; }

  // Waits for the next notify(). Whoever waits looks again at what has changed.
  HttpTask<> changed();
  void notify() { changed_.cancel(); }

  // When the deadline comes, what is being sent is cut, and everybody else is notified of
  // expired(). send() sets one of its own and leaves none.
  void set_deadline(double seconds);
  void no_deadline();
  bool expired() const { return expired_; }
  void check_deadline(HttpShared::Clock::time_point now);

  // Ends it now, whatever it is doing. What the client has not taken by now is dropped.
  void cut();
  bool is_cut() const { return cut_; }
  // The same in good order: what was sent arrives.
  void close();

  HttpTask<bool> shake_hands(double seconds);
  // False: the client is gone, or took no byte for so long that it was cut off.
  HttpTask<bool> send(std::string_view bytes);
  // Tells the client that nothing more comes.
  HttpTask<> say_goodbye();

  // Appends to input() what comes, until nothing more does; has_ended() from then on.
  HttpTask<> receive_all();
  // Behind receive_all(): until the client is gone for reading, too. It shows when we send.
  HttpTask<> wait_for_reset();
  // Received and not yet parsed. Whoever has taken something from it says so.
  std::string& input() { return input_; }
  void made_room();
  // So much is read ahead, and no more until there is room.
  void set_input_limit(std::size_t bytes) { input_limit_ = bytes; }
  // Nobody parses any more: what comes is dropped.
  void discard_input();
  bool has_ended() const { return end_ != End::kNone; }
  // Sends no more, but may still read: shutdown() by its side.
  bool is_half_closed() const { return end_ == End::kHalf && !cut_; }

 private:
  using Code = boost::system::error_code;
  using TlsStream = boost::asio::ssl::stream<boost::asio::ip::tcp::socket&>;
  enum class End : std::uint8_t { kNone, kHalf, kGone };

  HttpTask<std::size_t> receive(Code& code);

  HttpShared& shared_;
  boost::asio::ip::tcp::socket socket_;
  std::unique_ptr<TlsStream> tls_;
  boost::asio::steady_timer changed_;  // never expires: its cancellation is the signal
  std::string remote_;

  std::string input_;
  std::size_t input_limit_ = 0;
  std::vector<char> tls_buffer_;  // a read of TLS in progress needs memory of its own
  End end_ = End::kNone;
  bool reader_waits_ = false;  // for room in input_
  bool discard_ = false;

  HttpShared::Clock::time_point deadline_ = HttpShared::Clock::time_point::max();
  bool expired_ = false;
  bool sending_ = false;
  bool cut_ = false;
};

}  // namespace tg
