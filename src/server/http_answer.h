// What: the answer to one request on its way from whoever makes it, on any thread, to the
//   connection that sends it: what was said so far, what is still to be sent, and whether anybody
//   is there to read it. No sockets here.
// Who owns: shared by the connection and the HttpExchange that the handler got.
// Thread: respond() to abandon() from any; the rest on the server's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/http_server.h"

namespace tg {

// What a connection has to send next.
struct HttpWork {
  std::optional<HttpResponse> head;  // once; with the whole body if not streaming
  bool streaming = false;
  std::string data;        // of the stream, up to HttpAnswer::kBatchBytes
  bool complete = false;   // nothing comes behind it
  bool abandoned = false;  // nothing will come, though it is not complete
  bool cut_off = false;    // the client has left too much unread

  bool nothing() const { return !head && data.empty() && !complete && !abandoned && !cut_off; }
};

class HttpAnswer {
 public:
  // Bytes of a stream that are sent as one chunk: several tokens if the client is slow, and small
  // enough to see how far it is.
  static constexpr std::size_t kBatchBytes = 64 << 10;

  struct Ways {
    std::int64_t queue_bytes = 0;
    std::function<void()> wake;                       // the connection has work: any thread
    std::function<void(std::function<void()>)> post;  // runs it on the server's thread
  };
  explicit HttpAnswer(Ways ways) : ways_(std::move(ways)) {}

  void respond(HttpResponse response);
  void start_stream(HttpResponse head);
  bool write(std::string piece);
  void finish();
  void on_gone(std::function<void()> callback);
  // Nobody can say anything more.
  void abandon();

  bool has_work() const;  // take() would not be nothing()
  HttpWork take();
  // So many bytes of take() have been sent.
  void sent(std::size_t bytes);
  // The client is gone. False when the answer was complete, so that nobody needs to know.
  bool lose();
  bool complete() const;
  bool cut_off() const;

 private:
  // Under the mutex: whether the connection sleeps and must be woken.
  bool must_wake();

  const Ways ways_;
  mutable std::mutex mutex_;
  // The connection looks once after the handler has run, and sleeps only then.
  bool awake_ = true;
  bool started_ = false;  // respond() or start_stream() was called
  bool streaming_ = false;
  bool complete_ = false;
  bool abandoned_ = false;
  bool cut_off_ = false;
  bool lost_ = false;  // and on_gone_ was called, if there was one
  std::optional<HttpResponse> head_;
  std::string queue_;
  std::size_t in_flight_ = 0;  // taken and not sent
  std::function<void()> on_gone_;
};

// What the handler holds; when the last holder lets go, the answer is abandoned.
std::shared_ptr<HttpExchange> make_http_exchange(std::shared_ptr<HttpAnswer> answer);

}  // namespace tg
