// What: errors as values. Result<T> holds a T or an Error; nothing below cli/ throws on bad input.
// Who owns: whoever holds the value. Thread: any.
//
//   Result<int> parse(std::string_view s) {
//     if (s.empty()) return error(ErrorCode::kBadInput, "empty number");
//     ...
//   }
//   TG_ASSIGN(int n, parse(text));          // returns the error to the caller
//   TG_RETURN_IF_ERROR(write(n));
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace tg {

enum class ErrorCode {
  kBadArgument,    // a flag or parameter is wrong; the user can fix the call
  kBadInput,       // a file or a request is malformed
  kUnsupported,    // well formed, but something this program does not do
  kNotFound,       // a file, tensor or name is missing
  kOutOfCapacity,  // memory, pages or context do not suffice; the message has the arithmetic
  kIo,             // the operating system refused; the message has errno's text
  kBusy,           // a queue is full or the program is about to end; later it may work
  kInternal,       // our own mistake
};

// One sentence with the numbers in it, and the place it is about (file, tensor, argument, request).
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  std::string place;

  // "place: message", or the message alone when there is no place. One line.
  std::string text() const { return place.empty() ? message : place + ": " + message; }
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = tl::expected<void, Error>;

// error(code, format, args...) makes the failing side of any Result.
template <typename... Args>
[[nodiscard]] tl::unexpected<Error> error(ErrorCode code, fmt::format_string<Args...> format,
                                          Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...), {}});
}

// Names what a failing step was about, unless a deeper layer already did ("FILE" in front of
// "tensor x").
[[nodiscard]] inline tl::unexpected<Error> at_place(Error e, std::string_view place) {
  e.place = e.place.empty() ? std::string(place) : std::string(place) + ": " + e.place;
  return tl::unexpected<Error>(std::move(e));
}

// Ends the program: only for broken invariants of our own; no input may reach it.
[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace tg

#define TG_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::tg::check_failed(#condition, __FILE__, __LINE__))

#define TG_CONCAT_INNER(a, b) a##b
#define TG_CONCAT(a, b) TG_CONCAT_INNER(a, b)

#define TG_RETURN_IF_ERROR(expression)                                                \
  do {                                                                                \
    auto tg_status = (expression);                                                    \
    if (!tg_status) return tl::unexpected<::tg::Error>(std::move(tg_status).error()); \
  } while (false)

#define TG_ASSIGN_INNER(tmp, target, expression)                        \
  auto tmp = (expression);                                              \
  if (!tmp) return tl::unexpected<::tg::Error>(std::move(tmp).error()); \
  target = std::move(*tmp)
#define TG_ASSIGN(target, expression) \
  TG_ASSIGN_INNER(TG_CONCAT(tg_result_, __LINE__), target, expression)
