#include "server/http_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "text/utf8.h"

namespace tg {
namespace {

bool is_letter_or_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

std::optional<int> hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

Result<std::string> percent_decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const auto high = i + 1 < text.size() ? hex_digit(text[i + 1]) : std::nullopt;
    const auto low = i + 2 < text.size() ? hex_digit(text[i + 2]) : std::nullopt;
    if (!high || !low) {
      return error(ErrorCode::kBadInput, "broken percent escape at byte {} of the path", i);
    }
    out += static_cast<char>(*high * 16 + *low);
    i += 2;
  }
  return out;
}

bool same_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    const auto lower = [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    return lower(x) == lower(y);
  });
}

bool is_servers_own_header(std::string_view name) {
  for (const std::string_view own :
       {"content-length", "transfer-encoding", "connection", "date", "x-request-id"}) {
    if (same_ignoring_case(name, own)) return true;
  }
  return false;
}

// A value that came from a client must not begin a header, or an answer, of its own.
void append_header(std::string& head, std::string_view name, std::string_view value) {
  head += name;
  head += ": ";
  for (const char c : value) {
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) head += c;
  }
  head += "\r\n";
}

// Names of headers and methods, separated by commas: nothing that could not be in a header's name.
bool is_name_list(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return is_letter_or_digit(c) ||
           std::string_view("!#$%&'*+-.^_`|~, ").find(c) != std::string_view::npos;
  });
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

Result<HttpTarget> parse_http_target(std::string_view target) {
  if (target == "*") return HttpTarget{.path = "*", .query = {}};
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!same_ignoring_case(target.substr(0, scheme.size()), scheme)) continue;
    const auto path = target.find_first_of("/?", scheme.size());
    target = path == std::string_view::npos ? std::string_view("/") : target.substr(path);
    break;
  }
  std::string rooted;  // "http://host?query" has no path, which means "/"
  if (target.starts_with('?')) {
    rooted = "/" + std::string(target);
    target = rooted;
  }
  if (!target.starts_with('/')) {
    return error(ErrorCode::kBadInput, "the request's target starts with neither '/' nor http://");
  }
  target = target.substr(0, target.find('#'));
  const auto question = target.find('?');
  HttpTarget out;
  TG_ASSIGN(out.path, percent_decoded(target.substr(0, question)));
  if (question != std::string_view::npos) out.query = target.substr(question + 1);
  if (out.path.find('\0') != std::string::npos || valid_utf8_prefix(out.path) != out.path.size()) {
    return error(ErrorCode::kBadInput, "the request's path has a NUL or is not valid UTF-8");
  }
  return out;
}

bool is_harmless_request_id(std::string_view id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](char c) {
    return is_letter_or_digit(c) || std::string_view("-_.:/+=@").find(c) != std::string_view::npos;
  });
}

std::string_view http_reason(int status) {
  static constexpr std::pair<int, std::string_view> kReasons[] = {
      {100, "Continue"},
      {200, "OK"},
      {201, "Created"},
      {202, "Accepted"},
      {204, "No Content"},
      {301, "Moved Permanently"},
      {302, "Found"},
      {304, "Not Modified"},
      {307, "Temporary Redirect"},
      {308, "Permanent Redirect"},
      {400, "Bad Request"},
      {401, "Unauthorized"},
      {403, "Forbidden"},
      {404, "Not Found"},
      {405, "Method Not Allowed"},
      {408, "Request Timeout"},
      {411, "Length Required"},
      {413, "Content Too Large"},
      {415, "Unsupported Media Type"},
      {417, "Expectation Failed"},
      {422, "Unprocessable Content"},
      {429, "Too Many Requests"},
      {431, "Request Header Fields Too Large"},
      {499, "Client Closed Request"},
      {500, "Internal Server Error"},
      {501, "Not Implemented"},
      {503, "Service Unavailable"},
      {504, "Gateway Timeout"},
  };
  for (const auto& [code, reason] : kReasons) {
    if (code == status) return reason;
  }
  return "Unknown";
}

std::string http_date(std::time_t time) {
  // Names written out: strftime's depend on the locale.
  static constexpr std::string_view kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::string_view kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm utc{};
  if (::gmtime_r(&time, &utc) == nullptr) return {};
  return fmt::format("{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday,
                     kMonths[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

std::string http_response_head(const HttpResponse& response, const HttpHeadFacts& facts) {
  const int status = response.status >= 100 && response.status <= 999 ? response.status : 500;
  std::string head;
  head.reserve(512);
  fmt::format_to(std::back_inserter(head), "HTTP/1.1 {} {}\r\n", status, http_reason(status));
  append_header(head, "Date", facts.date);
  append_header(head, "Server", "llama-tg");
  switch (facts.framing) {
    case HttpFraming::kLength:
      append_header(head, "Content-Length", fmt::to_string(response.body.size()));
      break;
    case HttpFraming::kChunked:
      append_header(head, "Transfer-Encoding", "chunked");
      break;
    case HttpFraming::kClose:
    case HttpFraming::kNoBody:
      break;
  }
  if (facts.framing != HttpFraming::kNoBody && !response.content_type.empty()) {
    append_header(head, "Content-Type", response.content_type);
  }
  if (!facts.request_id.empty()) append_header(head, "X-Request-Id", facts.request_id);
  if (!facts.keep_alive) {
    append_header(head, "Connection", "close");
  } else if (facts.http_1_0) {
    append_header(head, "Connection", "keep-alive");
  }
  for (const auto& [name, value] : facts.cors) append_header(head, name, value);
  for (const auto& [name, value] : response.headers) {
    if (!is_servers_own_header(name)) append_header(head, name, value);
  }
  head += "\r\n";
  return head;
}

bool wants_close(const HttpResponse& response) {
  return std::any_of(response.headers.begin(), response.headers.end(), [](const auto& header) {
    return same_ignoring_case(header.first, "connection") &&
           same_ignoring_case(header.second, "close");
  });
}

bool is_preflight(const CorsRequest& request) {
  return request.method == "OPTIONS" && !request.origin.empty() && !request.wanted_method.empty();
}

HttpHeaders cors_headers(const std::vector<std::string>& allowed_origins,
                         const CorsRequest& request) {
  if (allowed_origins.empty()) return {};
  const auto allows = [&](std::string_view origin) {
    return std::find(allowed_origins.begin(), allowed_origins.end(), origin) !=
           allowed_origins.end();
  };
  const bool any = allows("*");
  HttpHeaders out;
  // A cache must not give one origin's answer to another, a refusal included.
  if (!any) out.emplace_back("Vary", "Origin");
  if (request.origin.empty() || (!any && !allows(request.origin))) return out;
  out.emplace_back("Access-Control-Allow-Origin", any ? "*" : std::string(request.origin));
  if (is_preflight(request)) {
    out.emplace_back("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
    // Clients send headers of their own (x-stainless-...); what they name is what they may send.
    if (!request.wanted_headers.empty() && is_name_list(request.wanted_headers)) {
      out.emplace_back("Access-Control-Allow-Headers", std::string(request.wanted_headers));
    }
    out.emplace_back("Access-Control-Max-Age", "600");
  } else {
    out.emplace_back("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
  }
  return out;
}

std::string plain_error_body(int status, const std::string& message) {
  const nlohmann::ordered_json body = {
      {"error",
       {{"message", message},
        {"type", status < 500 ? "invalid_request_error" : "server_error"},
        {"param", nullptr},
        {"code", nullptr}}}};
  return body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace tg
