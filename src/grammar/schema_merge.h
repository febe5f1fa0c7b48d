// What: JSON Schemas as documents: read with limits, references looked up, and "$ref" and "allOf"
//   worked in, so that the compiler sees schemas of their own keywords only.
// Who owns: one SchemaDocument per grammar being made. Thread: one.
#pragma once

#include <deque>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"

namespace tg {

using SchemaJson = nlohmann::ordered_json;  // properties keep their order

// A schema and where it stands, as a pointer: "#/properties/a".
struct PlacedSchema {
  const SchemaJson* schema = nullptr;
  std::string place;
};

class SchemaDocument {
 public:
  // kBadInput with what is wrong with it; kOutOfCapacity beyond 1 MiB, 64 levels or 2000 members
  // of one object.
  Status read(std::string_view text);

  PlacedSchema root() const { return {&root_, "#"}; }

  // The same schema without "$ref" and "allOf" at its top; true is {}, and false {"enum": []}.
  // Merged ones are kept: equal ones are the same object. kBadInput for a reference that leads
  // nowhere or to itself, kUnsupported for what does not merge.
  Result<PlacedSchema> resolved(const PlacedSchema& placed);

  // The schema that both stand for.
  Result<PlacedSchema> both(const PlacedSchema& a, const PlacedSchema& b);

  // Kept as long as this document.
  const SchemaJson* keep(SchemaJson schema);

 private:
  Result<PlacedSchema> target(std::string_view reference, const std::string& place) const;
  Result<SchemaJson> flat(const PlacedSchema& placed, int depth);

  SchemaJson root_;
  std::deque<SchemaJson> kept_;
  std::unordered_map<std::string, const SchemaJson*> by_text_;
  std::unordered_map<const SchemaJson*, PlacedSchema> resolved_;
  std::size_t work_ = 0;  // of all merges
};

// Whether a keyword says nothing about what is valid ("title", "$defs", "x-anything", ...): neither
// a rule nor a keyword that the compiler refuses.
bool is_annotation(std::string_view keyword);

// A place one step, or two, further down; clipped when it becomes long.
std::string schema_place(const std::string& place, std::string_view step);
std::string schema_place(const std::string& place, std::string_view step, std::size_t number);

template <typename... Args>
[[nodiscard]] tl::unexpected<Error> schema_error(ErrorCode code, const std::string& place,
                                                 fmt::format_string<Args...> format,
                                                 Args&&... args) {
  return tl::unexpected<Error>(
      Error{code, fmt::format(format, std::forward<Args>(args)...), "schema " + place});
}

}  // namespace tg
