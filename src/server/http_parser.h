// What: one HTTP request read from bytes that come in any pieces, with its limits. Shows Boost:
//   included by http_*.cpp only.
// Who owns: the connection; one parser per request.
// Thread: the server's.
#pragma once

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "server/http_server.h"
#include "server/http_text.h"

namespace tg {

// Why a request is not taken: an answer that the server gives on its own.
struct HttpRejection {
  int status = 400;
  std::string message = {};
  std::optional<HttpResponse> answer = {};  // the whole of it, where it is not the server's own
};

class HttpParser final : public boost::beast::http::basic_parser<true> {
 public:
  explicit HttpParser(const HttpOptions& options)
      : max_header_bytes_(static_cast<std::size_t>(options.max_header_bytes)),
        max_body_bytes_(options.max_body_bytes) {
    body_limit(static_cast<std::uint64_t>(options.max_body_bytes));
    header_limit(static_cast<std::uint32_t>(options.max_header_bytes));
    eager(false);  // the header first: what the client expects is decided on it
  }

  // Takes what it can from the front of `input`, which must not be empty; more of it may be usable
  // when it returns right behind the header.
  std::optional<HttpRejection> feed(std::string& input) {
    const bool in_header = !is_header_done();
    // The end of a chunked body has at least five bytes ("0\r\n\r\n"), and Beast's parser counts on
    // them once it has seen the zero.
    if (!in_header && chunked() && input.size() < 5) return std::nullopt;
    boost::beast::error_code code;
    const std::size_t used = put(boost::asio::const_buffer(input.data(), input.size()), code);
    input.erase(0, used);
    if (in_header) header_bytes_ += used;
    if (code && code != boost::beast::http::error::need_more) return rejection_of(code);
    if (!is_header_done()) {
      if (header_bytes_ + input.size() > max_header_bytes_) return header_too_long();
    } else if (in_header) {
      eager(true);
      return check_head();
    } else if (used == 0 && input.size() > max_header_bytes_) {
      return HttpRejection{.status = 400,
                           .message = "a chunk's header is longer than a header may be"};
    }
    return std::nullopt;
  }

  bool expects_continue() const { return expects_continue_; }
  bool http_1_0() const { return version_ < 11; }

  HttpRequest request;  // without remote and id

 private:
  using Code = boost::beast::error_code;
  using View = boost::beast::string_view;

  HttpRejection header_too_long() const {
    return {
        .status = 431,
        .message = fmt::format("the request's header is longer than {} bytes", max_header_bytes_)};
  }

  HttpRejection rejection_of(const Code& code) const {
    using boost::beast::http::error;
    if (code == error::header_limit) return header_too_long();
    if (code == error::body_limit || code == error::buffer_overflow) {
      return {
          .status = 413,
          .message = fmt::format("the request's body is longer than {} bytes", max_body_bytes_)};
    }
    return {.status = 400, .message = "malformed HTTP request: " + code.message()};
  }

  std::optional<HttpRejection> check_head() {
    auto target = parse_http_target(target_);
    if (!target) return HttpRejection{.status = 400, .message = target.error().message};
    request.path = std::move(target->path);
    request.query = std::move(target->query);
    if (!http_1_0() && request.header("host").empty()) {
      return HttpRejection{.status = 400, .message = "an HTTP/1.1 request needs a Host header"};
    }
    if (auto rejection = check_framing()) return rejection;
    const std::string_view expected = request.header("expect");
    if (!expected.empty() && !http_1_0()) {
      if (!boost::beast::iequals(View(expected.data(), expected.size()), "100-continue")) {
        return HttpRejection{.status = 417, .message = "the only expectation met is 100-continue"};
      }
      expects_continue_ = true;
    }
    return std::nullopt;
  }

  // Where the request ends must be plain: whoever stands in front of this server and sees another
  // end would take what is sent behind it for somebody else's request.
  std::optional<HttpRejection> check_framing() const {
    int hosts = 0;
    int lengths = 0;
    for (const auto& [name, value] : request.headers) {
      if (name == "host" && ++hosts > 1) {
        return HttpRejection{.status = 400, .message = "there are several Host headers"};
      }
      // "5, 5" is a number to some.
      if (name == "content-length" && (++lengths > 1 || !all_digits(value))) {
        return HttpRejection{.status = 400, .message = "Content-Length is not one number"};
      }
      if (name != "transfer-encoding") continue;
      if (http_1_0()) {
        return HttpRejection{.status = 400, .message = "HTTP/1.0 has no Transfer-Encoding"};
      }
      // Other codings in front of "chunked", or none of them last: whose end would be a guess.
      if (!boost::beast::iequals(value, "chunked")) {
        return HttpRejection{.status = 501, .message = "the only transfer coding is \"chunked\""};
      }
    }
    return std::nullopt;
  }

  static bool all_digits(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  }

  void on_request_impl(boost::beast::http::verb /*verb*/, View method, View target, int version,
                       Code& /*code*/) override {
    request.method.assign(method.data(), method.size());
    target_.assign(target.data(), target.size());
    version_ = version;
  }
  void on_response_impl(int /*status*/, View /*reason*/, int /*version*/, Code& /*code*/) override {
  }
  void on_field_impl(boost::beast::http::field /*field*/, View name, View value,
                     Code& /*code*/) override {
    if (is_header_done()) return;  // a trailer says nothing that counts
    std::string key(name.data(), name.size());
    for (char& c : key) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    request.headers.emplace_back(std::move(key), std::string(value.data(), value.size()));
  }
  void on_header_impl(Code& /*code*/) override {}
  void on_body_init_impl(boost::optional<std::uint64_t> const& /*length*/,
                         Code& /*code*/) override {}
  std::size_t on_body_impl(View body, Code& /*code*/) override {
    request.body.append(body.data(), body.size());
    return body.size();
  }
  void on_chunk_header_impl(std::uint64_t /*size*/, View /*extensions*/, Code& /*code*/) override {}
  std::size_t on_chunk_body_impl(std::uint64_t /*remain*/, View body, Code& /*code*/) override {
    request.body.append(body.data(), body.size());
    return body.size();
  }
  void on_finish_impl(Code& /*code*/) override {}

  const std::size_t max_header_bytes_;
  const std::int64_t max_body_bytes_;
  std::size_t header_bytes_ = 0;
  std::string target_;
  int version_ = 11;
  bool expects_continue_ = false;
};

}  // namespace tg
