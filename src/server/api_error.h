// What: refusals as clients of the OpenAI API read them: a status and
//   {"error": {"message", "type", "param", "code"}}.
//   Inside the server an Error's `place` is the field that is to blame (the "param").
// Who owns: plain values. Thread: any.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "server/http_server.h"

namespace tg {

struct ApiError {
  int status = 400;
  std::string message;
  std::string param = {};  // empty: null
  std::string code = {};   // empty: null
};

// 400 for what the caller can mend, 404 for a name that does not exist, 429 for a full queue, 500
// for our own mistakes.
ApiError api_error(const Error& error);

// 503: for new requests, and for answers that the end cuts off.
ApiError shutting_down_error();

// "type" is invalid_request_error below 500, server_error above.
std::string error_body(const ApiError& error);
// 429 and 503 say after how many seconds to come back.
HttpResponse error_response(const ApiError& error);
inline HttpResponse error_response(const Error& error) { return error_response(api_error(error)); }

// Makes the failing side of a Result about a field of the request.
template <typename... Args>
[[nodiscard]] tl::unexpected<Error> field_error(std::string_view field,
                                                fmt::format_string<Args...> format,
                                                Args&&... args) {
  return tl::unexpected<Error>(Error{
      ErrorCode::kBadInput, fmt::format(format, std::forward<Args>(args)...), std::string(field)});
}

}  // namespace tg
