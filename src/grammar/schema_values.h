// What: what keywords of a schema say in numbers, and whether a value of "enum" or "const" obeys
// the
//   rules that stand beside it.
// Who owns: pure functions. Thread: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "grammar/byte_automaton.h"
#include "grammar/number_range.h"
#include "grammar/schema_merge.h"

namespace tg {

// The tighter of two bounds; `sign` 1 when the greater one is. kBadInput for what is no number.
Result<std::optional<NumberBound>> bound_in(const PlacedSchema& placed, const char* inclusive,
                                            const char* exclusive, int sign);

// kBadInput unless it is a whole number >= 0.
Result<std::optional<std::uint64_t>> count_in(const PlacedSchema& placed, const char* key);

// The rules of a schema for its own values: all but "type", "enum", "const" and "format".
class ValueRules {
 public:
  // Refers to both.
  ValueRules(const PlacedSchema& placed, AutomatonBudget& budget)
      : placed_(placed), budget_(budget) {}

  // kUnsupported for an array or object beside rules about its members.
  Result<bool> allow(const SchemaJson& value);

 private:
  Result<bool> allow_string(const std::string& text);
  Result<bool> allow_number(const SchemaJson& value) const;
  Result<bool> allow_size(std::uint64_t size, const char* least, const char* most) const;

  const PlacedSchema& placed_;
  AutomatonBudget& budget_;
  std::optional<ByteAutomaton> pattern_;  // made for the first string
};

}  // namespace tg
