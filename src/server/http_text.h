// What: the text side of HTTP without a socket: targets, heads of answers, CORS headers, request
//   ids and dates.
// Who owns: pure functions. Thread: any.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/http_server.h"

namespace tg {

struct HttpTarget {
  std::string path;   // percent-decoded, valid UTF-8, starts with '/' (or is "*")
  std::string query;  // as sent
};

// Of a request line: "/path?query", "http://host/path?query" or "*". kBadInput: anything else, a
// broken percent escape, a NUL or bytes that are not UTF-8 in the path.
Result<HttpTarget> parse_http_target(std::string_view target);

// 1 to 128 letters, digits and "-_.:/+=@": what may go back into a header and a log as it is.
bool is_harmless_request_id(std::string_view id);

// "Not Found" of 404; "Unknown" of a status that has no name here.
std::string_view http_reason(int status);

// "Sat, 28 Nov 2026 12:00:00 GMT"
std::string http_date(std::time_t time);

enum class HttpFraming : std::uint8_t {
  kLength,   // Content-Length says where the body ends
  kChunked,  // its pieces do
  kClose,    // the end of the connection does (HTTP/1.0)
  kNoBody,   // 204 and 304
};

struct HttpHeadFacts {
  HttpFraming framing = HttpFraming::kLength;
  std::string_view date = {};
  std::string_view request_id = {};
  bool keep_alive = true;
  bool http_1_0 = false;  // such a client wants to be told that the connection stays
  HttpHeaders cors = {};
};

// Status line and headers with the empty line behind them. Control characters in header values are
// left out; a header of the response that this server decides on itself (length, framing,
// connection, date) is too.
std::string http_response_head(const HttpResponse& response, const HttpHeadFacts& facts);

// Whether a response asks for the connection to be closed behind it.
bool wants_close(const HttpResponse& response);

// A request's CORS facts: empty strings for headers that were not sent.
struct CorsRequest {
  std::string_view method = {};
  std::string_view origin = {};
  std::string_view wanted_method = {};   // Access-Control-Request-Method
  std::string_view wanted_headers = {};  // Access-Control-Request-Headers
};
bool is_preflight(const CorsRequest& request);
// What the answer says to a page of that origin; empty when no origin is allowed at all.
HttpHeaders cors_headers(const std::vector<std::string>& allowed_origins,
                         const CorsRequest& request);

// {"error":{"message":...}}: for servers without HttpOptions::error_body.
std::string plain_error_body(int status, const std::string& message);

}  // namespace tg
