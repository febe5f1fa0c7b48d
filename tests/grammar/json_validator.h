// What: for the tests: whether a JSON value is valid by a schema, straight from the standard and
//   apart from the grammar's compiler. Knows what the tests' schemas use; "$ref" by JSON pointer.
// Who owns: pure function. Thread: any.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "text/utf8.h"

namespace tg {

class JsonValidator {
 public:
  using Json = nlohmann::json;
  explicit JsonValidator(const Json& root) : root_(root) {}

  bool valid(const Json& schema, const Json& value) const {
    if (schema.is_boolean()) return schema.get<bool>();
    if (schema.contains("$ref")) {
      const auto pointer = schema["$ref"].get<std::string>().substr(1);
      if (!valid(root_[Json::json_pointer(pointer)], value)) return false;
    }
    for (const Json& part : schema.value("allOf", Json::array())) {
      if (!valid(part, value)) return false;
    }
    for (const char* key : {"anyOf", "oneOf"}) {
      if (!schema.contains(key)) continue;
      bool any = false;
      for (const Json& part : schema[key]) any = any || valid(part, value);
      if (!any) return false;
    }
    if (schema.contains("const") && schema["const"] != value) return false;
    if (schema.contains("enum") && !has(schema["enum"], value)) return false;
    if (schema.contains("type") && !of_type(schema["type"], value)) return false;
    if (value.is_number()) return number(schema, value.get<double>());
    if (value.is_string()) return text(schema, value.get<std::string>());
    if (value.is_array()) return array(schema, value);
    return !value.is_object() || object(schema, value);
  }

 private:
  static bool has(const Json& list, const Json& value) {
    for (const Json& one : list) {
      if (one == value) return true;
    }
    return false;
  }

  static bool of_type(const Json& types, const Json& value) {
    if (types.is_array()) {
      for (const Json& type : types) {
        if (of_type(type, value)) return true;
      }
      return false;
    }
    const auto type = types.get<std::string>();
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    if (type == "null") return value.is_null();
    return type == value.type_name();
  }

  static bool number(const Json& schema, double value) {
    return value >= schema.value("minimum", -INFINITY) &&
           value <= schema.value("maximum", INFINITY) &&
           value > schema.value("exclusiveMinimum", -INFINITY) &&
           value < schema.value("exclusiveMaximum", INFINITY);
  }

  static bool text(const Json& schema, std::string_view value) {
    std::size_t length = 0;
    for (const char c : value) {
      if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) ++length;
    }
    return valid_utf8_prefix(value) == value.size() && length >= schema.value("minLength", 0U) &&
           length <= schema.value("maxLength", 1U << 30);
  }

  bool array(const Json& schema, const Json& value) const {
    if (value.size() < schema.value("minItems", 0U)) return false;
    if (value.size() > schema.value("maxItems", 1U << 30)) return false;
    const Json prefix = schema.value("prefixItems", Json::array());
    for (std::size_t i = 0; i < value.size(); ++i) {
      const Json& of_item = i < prefix.size() ? prefix[i] : schema.value("items", Json(true));
      if (!valid(of_item, value[i])) return false;
    }
    return true;
  }

  bool object(const Json& schema, const Json& value) const {
    for (const Json& name : schema.value("required", Json::array())) {
      if (!value.contains(name.get<std::string>())) return false;
    }
    const Json properties = schema.value("properties", Json::object());
    for (const auto& [name, member] : value.items()) {
      const Json of_member = properties.contains(name)
                                 ? properties[name]
                                 : schema.value("additionalProperties", Json(true));
      if (!valid(of_member, member)) return false;
    }
    return true;
  }

  const Json& root_;
};

}  // namespace tg
