// What: typed look-ups in one JSON object that give errors with the key and the value in them, for
//   the config readers. Calls nothing of the JSON library that throws.
// Who owns: refers to the caller's JSON value. Thread: any. Only for .cpp files of this folder.
#pragma once

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "checkpoint/file_kind.h"

namespace tg {

class JsonFields {
 public:
  explicit JsonFields(const nlohmann::json& object) : object_(&object) {}

  // Parses a file's text; kBadInput unless it is one JSON object.
  static Result<nlohmann::json> parse_object(std::string_view text) {
    nlohmann::json value =
        nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded() || !value.is_object()) {
      return error(ErrorCode::kBadInput, "not a JSON object: it starts with \"{}\"",
                   printable(text.substr(0, 40)));
    }
    return value;
  }

  // nullptr when the key is absent or null, which all these files use alike.
  const nlohmann::json* find(const char* key) const {
    const auto found = object_->find(key);
    return found == object_->end() || found->is_null() ? nullptr : &*found;
  }

  // A whole number that fits 53 bits; "8192.0" counts as one. nullopt when absent.
  Result<std::optional<std::int64_t>> integer(const char* key) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return std::nullopt;
    constexpr double kMost = 9007199254740992.0;  // 2^53: exact as a double
    const double number = value->is_number() ? value->get<double>() : std::nan("");
    if (!(std::fabs(number) <= kMost) || number != std::floor(number)) {
      return wrong(key, *value, "a whole number");
    }
    return static_cast<std::int64_t>(number);
  }

  Result<std::int64_t> required_integer(const char* key) const {
    TG_ASSIGN(const std::optional<std::int64_t> value, integer(key));
    if (!value) return error(ErrorCode::kBadInput, "\"{}\" is missing", key);
    return *value;
  }

  Result<std::optional<double>> number(const char* key) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number()) return wrong(key, *value, "a number");
    return value->get<double>();
  }

  Result<double> number_or(const char* key, double otherwise) const {
    TG_ASSIGN(const std::optional<double> value, number(key));
    return value.value_or(otherwise);
  }

  Result<bool> boolean_or(const char* key, bool otherwise) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) return wrong(key, *value, "true or false");
    return value->get<bool>();
  }

  Result<std::string> text_or(const char* key, std::string_view otherwise) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return std::string(otherwise);
    if (!value->is_string()) return wrong(key, *value, "a string");
    return value->get<std::string>();
  }

  static tl::unexpected<Error> wrong(const char* key, const nlohmann::json& value,
                                     std::string_view wanted) {
    return error(ErrorCode::kBadInput, "\"{}\" is {}, not {}", key, shown(value), wanted);
  }

 private:
  // Numbers and strings as they are, containers by their kind: a message stays one short line.
  static std::string shown(const nlohmann::json& value) {
    if (value.is_string()) {
      return fmt::format("\"{}\"", printable(value.get_ref<const std::string&>()));
    }
    if (value.is_number_unsigned()) return fmt::format("{}", value.get<std::uint64_t>());
    if (value.is_number_integer()) return fmt::format("{}", value.get<std::int64_t>());
    if (value.is_number()) return fmt::format("{}", value.get<double>());
    return value.type_name();
  }

  const nlohmann::json* object_;
};

}  // namespace tg
