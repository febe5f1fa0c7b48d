// What: the body of a request as JSON, and typed look-ups in one object of it whose errors name the
//   field. Strict about bytes (UTF-8, nothing behind the document) and bounded in depth before
//   anything deep exists; a byte-order mark is ignored. Nothing of the body shows in an error but
//   short, printable texts.
// Who owns: refers to the caller's document. Thread: any.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "server/api_error.h"

namespace tg {

// Keys in their order: templates and grammars show it. Of equal keys the first one counts.
using RequestJson = nlohmann::ordered_json;

// Nested containers of a body. Tools with large schemas have about 15.
inline constexpr int kMostJsonDepth = 64;

// One JSON object. kBadInput with the byte at which it fails.
Result<RequestJson> parse_request_json(std::string_view body);
// The same for a document inside of the body, of any kind.
Result<RequestJson> parse_inner_json(std::string_view text);

// A value for an error message: short, on one line.
std::string shown_value(const RequestJson& value);

// Fields of one object; a null counts as absent. Errors are kBadInput about the field.
class RequestFields {
 public:
  // `place`: of the object in the body, e.g. "messages[1]"; empty for the body itself.
  explicit RequestFields(const RequestJson& object, std::string place = {})
      : object_(&object), place_(std::move(place)) {}

  const RequestJson* find(const char* key) const;
  // How errors call a field.
  std::string path(const char* key) const {
    return place_.empty() ? std::string(key) : place_ + "." + key;
  }

  Result<std::optional<std::int64_t>> whole(const char* key, std::int64_t least,
                                            std::int64_t most) const;
  Result<std::optional<double>> number(const char* key, double least, double most) const;
  Result<bool> flag(const char* key, bool otherwise) const;
  Result<std::optional<std::string>> text(const char* key) const;

  [[nodiscard]] tl::unexpected<Error> wrong(const char* key, const RequestJson& value,
                                            std::string_view wanted) const {
    return field_error(path(key), "{} is {}, not {}", path(key), shown_value(value), wanted);
  }

 private:
  const RequestJson* object_;
  std::string place_;
};

// A whole number that fits 64 bits; 16.0 and 1.6e1 are 16, as to JSON schemas.
std::optional<std::int64_t> whole_number(const RequestJson& value);

}  // namespace tg
