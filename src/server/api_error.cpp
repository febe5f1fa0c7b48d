#include "server/api_error.h"

#include "server/json_text.h"

namespace tg {
namespace {

// Long enough that a crowd of clients does not come back at once, short beside an answer.
constexpr const char* kRetryAfterSeconds = "2";

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kBusy:
      return 429;
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      return 500;
    default:
      return 400;
  }
}

const char* code_of(ErrorCode code) {
  if (code == ErrorCode::kOutOfCapacity) return "context_length_exceeded";
  if (code == ErrorCode::kBusy) return "rate_limit_exceeded";
  return "";
}

}  // namespace

ApiError api_error(const Error& error) {
  return {status_of(error.code), error.message, error.place, code_of(error.code)};
}

ApiError shutting_down_error() { return {503, "the server is shutting down", {}, "shutting_down"}; }

std::string error_body(const ApiError& error) {
  std::string body = R"({"error":{"message":)";
  append_json_string(body, error.message);
  body += R"(,"type":")";
  body += error.status < 500 ? "invalid_request_error" : "server_error";
  body += R"(","param":)";
  append_json_or_null(body, error.param);
  body += R"(,"code":)";
  append_json_or_null(body, error.code);
  body += "}}";
  return body;
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = error_body(error)};
  if (error.status == 429 || error.status == 503) {
    response.headers.emplace_back("Retry-After", kRetryAfterSeconds);
  }
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace tg
