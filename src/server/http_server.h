// What: an HTTP/1.1 server for many slow streams: requests come to one handler, answers go out
//   whole or piece by piece (server-sent events). TLS, limits and time-outs are its own; what the
//   requests mean is not. Nothing of the library behind it shows here.
// Who owns: the caller owns the server; an exchange lives as long as somebody holds it.
// Thread: the server has one of its own, on which the handler runs and must not block. Everything
//   of HttpExchange may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace tg {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;   // as sent, but "GET" for a HEAD: its answer goes out without the body
  std::string path;     // of the target, percent-decoded, without the query: "/v1/models"
  std::string query;    // behind the '?', as sent
  HttpHeaders headers;  // names in lower case
  std::string body;
  std::string remote;  // "127.0.0.1:4711"
  std::string id;      // X-Request-Id if sent and harmless, else one of ours

  // The first of that name (lower case), or empty.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers = {};
  std::string body = {};
};

// How one request is answered: respond() once, or start_stream(), write()..., finish(). A call that
// comes too late (the client is gone, the answer is complete) has no effect. An exchange that
// nobody holds any more before its answer is complete answers 500, or breaks its stream off.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual void respond(HttpResponse response) = 0;
  // Status and headers go out at once; the body of `head` is the first piece, if not empty.
  virtual void start_stream(HttpResponse head) = 0;
  // False when nobody reads it any more. A client is cut off that has left more than
  // HttpOptions::stream_queue_bytes unread when a further piece comes.
  virtual bool write(std::string piece) = 0;
  virtual void finish() = 0;
  // Called once, on the server's thread, if the client hangs up or is cut off before the answer is
  // complete, which respond() and finish() make it. When that has happened already it is called
  // soon, and not inside this call; after the server's end, inside. A second callback takes the
  // place of the first. Dropped when the answer is complete. A client that has ended its side of
  // the connection only (shutdown) still gets its answer, unless there is no way of finding out
  // whether it reads: HTTP/1.0, TLS, and streams of anything but server-sent events.
  virtual void on_gone(std::function<void()> callback) = 0;
};

using HttpHandler = std::function<void(HttpRequest, std::shared_ptr<HttpExchange>)>;

// One exchange that has ended.
struct HttpRecord {
  double unix_time_s = 0.0;  // when its request was complete
  double seconds = 0.0;      // from then to the last byte
  std::string remote = {};
  std::string method = {};  // as sent: "HEAD"; empty when no request could be read
  std::string path = {};
  std::string id = {};
  int status = 0;          // 499: the client was gone before there was one
  std::int64_t bytes = 0;  // of the body, handed to the operating system
  bool complete = false;   // false: the client hung up or was cut off
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8000;                   // 0: a free one
  std::string tls_certificate = {};  // PEM files; both or none
  std::string tls_key = {};
  std::int64_t max_body_bytes = 32 << 20;
  std::int64_t max_bodies_bytes = 256 << 20;  // of all requests that have no answer yet; more: 503
  std::int64_t max_header_bytes = 64 << 10;
  double header_timeout_s = 10.0;  // from the first byte of a request to the end of its headers
  double body_timeout_s = 60.0;    // without a byte of the body; ten of them for a slow one
  double idle_timeout_s = 75.0;    // between the requests of a connection
  double write_timeout_s = 30.0;   // without the client taking a byte that waits
  std::int64_t stream_queue_bytes = 1 << 20;
  std::int64_t max_connections = 4096;         // further ones get 503 and are closed
  std::vector<std::string> cors_origins = {};  // "*": any; empty: no CORS headers
  // The body of an answer that the server gives on its own (400, 408, 413, 417, 431, 500, 501,
  // 503).
  std::function<std::string(int status, const std::string& message)> error_body = {};
  // Asked about a request without its body (a HEAD is one, too) before a long body, or one that the
  // client announced with Expect, is read: an answer refuses it. On the server's thread.
  std::function<std::optional<HttpResponse>(const HttpRequest& head)> check_head = {};
  // Every exchange that has ended, for logs and counters; on the server's thread.
  std::function<void(const HttpRecord& record)> on_done = {};
};

class HttpServer {
 public:
  // Listens; connections wait until start(). kBadArgument: certificate and key; kIo: the address.
  static Result<std::unique_ptr<HttpServer>> listen(HttpOptions options);
  virtual ~HttpServer() = default;  // stop(0)
  virtual int port() const = 0;
  virtual void start(HttpHandler handler) = 0;
  // Accepts no more, closes idle connections, waits up to `grace_s` for answers in progress and
  // then cuts them off; returns when the server's thread has ended. From any thread but the
  // server's own; a second call from another thread with less grace shortens the first.
  virtual void stop(double grace_s) = 0;
  virtual std::int64_t connections() const = 0;
};

}  // namespace tg
