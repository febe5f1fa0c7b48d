// What: the text of a JSON Schema as a document, with limits that are checked before anything that
//   takes more than linear time sees it.
// Who owns: pure function. Thread: any.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/result.h"

namespace tg {

// kBadInput unless it is JSON and an object or a boolean; kOutOfCapacity with the limit and where.
Result<nlohmann::ordered_json> read_schema(std::string_view text);

}  // namespace tg
