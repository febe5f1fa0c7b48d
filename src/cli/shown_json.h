// What: a JSON value as an error message shows it: short, on one line, however large or deep it is.
// Who owns: nothing. Thread: any.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "text/utf8.h"

namespace tg {

inline std::string shown_json(const nlohmann::json& value) {
  if (value.is_string()) return shown_text(value.get_ref<const std::string&>());
  if (value.is_object()) return "an object";
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  return value.dump();
}

}  // namespace tg
