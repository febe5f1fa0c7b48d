#include "grammar/schema_values.h"

#include <array>
#include <cmath>
#include <utility>

#include "grammar/regex_parser.h"
#include "text/utf8.h"

namespace tg {
namespace {

bool matches(const ByteAutomaton& automaton, std::string_view text) {
  ByteAutomaton::State state = automaton.start();
  for (const char c : text) {
    state = automaton.next(state, static_cast<std::uint8_t>(c));
    if (state == ByteAutomaton::kDead) return false;
  }
  return automaton.accepts(state);
}

}  // namespace

Result<std::optional<NumberBound>> bound_in(const PlacedSchema& placed, const char* inclusive,
                                            const char* exclusive, int sign) {
  const SchemaJson& schema = *placed.schema;
  const auto closed = schema.find(inclusive);
  const auto open = schema.find(exclusive);
  for (const auto& found : {closed, open}) {
    if (found != schema.end() && !found->is_number() && !(found == open && found->is_boolean())) {
      return schema_error(ErrorCode::kBadInput, placed.place, "\"{}\" is not a number",
                          found == closed ? inclusive : exclusive);
    }
  }
  std::optional<NumberBound> out;
  if (closed != schema.end()) out = NumberBound{closed->dump(), false};
  if (open == schema.end()) return out;
  if (open->is_boolean()) {  // as it was in draft 4
    if (out) out->exclusive = *open == true;
    return out;
  }
  const bool tighter =
      closed == schema.end() || *open == *closed || (sign > 0) == (*closed < *open);
  if (tighter) out = NumberBound{open->dump(), true};
  return out;
}

Result<std::optional<std::uint64_t>> count_in(const PlacedSchema& placed, const char* key) {
  const auto found = placed.schema->find(key);
  if (found == placed.schema->end()) return std::nullopt;
  const double number = found->is_number() ? found->get<double>() : -1.0;
  if (!(number >= 0) || number > 9e15 || number != std::floor(number)) {
    return schema_error(ErrorCode::kBadInput, placed.place, "\"{}\" is {}, not a whole number >= 0",
                        key, shown_text(found->dump()));
  }
  return static_cast<std::uint64_t>(number);
}

Result<bool> ValueRules::allow_size(std::uint64_t size, const char* least, const char* most) const {
  TG_ASSIGN(const std::optional<std::uint64_t> low, count_in(placed_, least));
  TG_ASSIGN(const std::optional<std::uint64_t> high, count_in(placed_, most));
  return size >= low.value_or(0) && (!high || size <= *high);
}

Result<bool> ValueRules::allow_string(const std::string& text) {
  TG_ASSIGN(const bool fits, allow_size(code_points(text).size(), "minLength", "maxLength"));
  const auto pattern = placed_.schema->find("pattern");
  if (!fits || pattern == placed_.schema->end()) return fits;
  if (!pattern_) {
    if (!pattern->is_string()) {
      return schema_error(ErrorCode::kBadInput, placed_.place, "\"pattern\" is not a text");
    }
    TG_ASSIGN(const Regex tree,
              parse_regex(pattern->get_ref<const std::string&>(), RegexUse::kSearch));
    if (tree->kind == RegexTree::Kind::kNothing) return false;
    TG_ASSIGN(pattern_, ByteAutomaton::compile(tree, budget_));
  }
  return matches(*pattern_, text);
}

Result<bool> ValueRules::allow_number(const SchemaJson& value) const {
  TG_ASSIGN(const auto least, bound_in(placed_, "minimum", "exclusiveMinimum", 1));
  TG_ASSIGN(const auto most, bound_in(placed_, "maximum", "exclusiveMaximum", -1));
  const auto inside = [&value](const std::optional<NumberBound>& bound, bool is_least) {
    if (!bound) return true;
    const SchemaJson limit = SchemaJson::parse(bound->decimal, nullptr, false);
    return value == limit ? !bound->exclusive : is_least == (limit < value);
  };
  return inside(least, true) && inside(most, false);
}

Result<bool> ValueRules::allow(const SchemaJson& value) {
  if (value.is_string()) return allow_string(value.get_ref<const std::string&>());
  if (value.is_number()) return allow_number(value);
  if (!value.is_structured()) return true;
  constexpr std::array kOfArrays = {"items", "prefixItems", "additionalItems"};
  constexpr std::array kOfObjects = {"properties", "required", "additionalProperties"};
  for (const char* keyword : value.is_array() ? kOfArrays : kOfObjects) {
    if (!placed_.schema->contains(keyword)) continue;
    return schema_error(ErrorCode::kUnsupported, placed_.place,
                        "\"{}\" beside \"enum\" or \"const\" of an array or an object is not "
                        "supported",
                        keyword);
  }
  if (value.is_object()) return true;
  return allow_size(value.size(), "minItems", "maxItems");
}

}  // namespace tg
