// Attributes, items, slices, elements and membership (declared in builtins.h).
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/objects.h"
#include "text/jinja/text_operations.h"
#include "text/jinja/unicode.h"
#include "text/jinja/value_text.h"

namespace tg::jinja {
namespace {

Value missing(const Value& value, const Value& key, Meter& meter) {
  const std::string owner = value.is_none() ? "None" : fmt::format("{} object", type_name(value));
  return Value::undefined(fmt::format(
      "'{}' has no {} {}", owner, key.is_string() ? "attribute" : "element", repr_of(key, meter)));
}

Value loop_attribute(const Value& self, const Loop& loop, std::string_view name, Meter& meter) {
  const List& items = loop.items->items;
  const auto index = static_cast<std::int64_t>(loop.index0);
  const auto length = static_cast<std::int64_t>(items.size());
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return length - index;
  if (name == "revindex0") return length - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == length;
  if (name == "length") return length;
  if (name == "depth") return loop.depth0 + 1;
  if (name == "depth0") return loop.depth0;
  if (name == "previtem") {
    return index == 0 ? Value::undefined("there is no previous item") : items[loop.index0 - 1];
  }
  if (name == "nextitem") {
    return index + 1 == length ? Value::undefined("there is no next item") : items[loop.index0 + 1];
  }
  return missing(self, Value(name), meter);
}

// The position that Python's index means, or nothing when it is outside.
bool position(std::int64_t index, std::size_t size, std::size_t& out) {
  const auto length = static_cast<std::int64_t>(size);
  if (index < 0) index += length;
  if (index < 0 || index >= length) return false;
  out = static_cast<std::size_t>(index);
  return true;
}

// What Python's slice(start, stop, step).indices(length) gives.
struct Range {
  std::int64_t start, stop, step;
};

Result<Range> slice_range(const Value& start, const Value& stop, const Value& step,
                          std::int64_t length) {
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->is_none() && !bound->is_integral()) {
      return error(ErrorCode::kBadInput, "slice indices must be integers or None, not {}",
                   type_name(*bound));
    }
  }
  Range range{0, 0, step.is_none() ? 1 : step.integral()};
  if (range.step == 0) return error(ErrorCode::kBadInput, "slice step cannot be zero");
  const bool backward = range.step < 0;
  const std::int64_t lowest = backward ? -1 : 0;
  const std::int64_t highest = backward ? length - 1 : length;
  const auto clamp = [&](const Value& bound, std::int64_t otherwise) {
    if (bound.is_none()) return otherwise;
    const std::int64_t i = bound.integral();
    return std::clamp(i < 0 ? std::max(i, -length - 1) + length : i, lowest, highest);
  };
  range.start = clamp(start, backward ? highest : lowest);
  range.stop = clamp(stop, backward ? lowest : highest);
  // Steps longer than everything reach one element only; the bound keeps the sums within 64 bits.
  range.step = std::clamp(range.step, -length - 1, length + 1);
  return range;
}

template <typename T>
std::vector<T> picked(const std::vector<T>& all, const Range& range) {
  std::vector<T> out;
  for (std::int64_t i = range.start; range.step > 0 ? i < range.stop : i > range.stop;
       i += range.step) {
    out.push_back(all[static_cast<std::size_t>(i)]);
  }
  return out;
}

}  // namespace

Result<Value> get_attribute(const Value& value, std::string_view name, Meter& meter) {
  if (value.is_undefined()) return error(ErrorCode::kBadInput, "{}", value.undefined_message());
  if (has_method(value, name)) return Value(ObjectPtr(std::make_shared<Method>(value, name)));
  if (value.is_dict()) {
    const Value* found = value.dict().find_text(name);
    if (found != nullptr) return *found;
  } else if (const auto* space = object_as<Namespace>(value, Object::Type::kNamespace)) {
    const Value* found = space->attributes.find_text(name);
    if (found != nullptr) return *found;
  } else if (const auto* loop = object_as<Loop>(value, Object::Type::kLoop)) {
    return loop_attribute(value, *loop, name, meter);
  }
  return missing(value, Value(name), meter);
}

Result<Value> get_item(const Value& value, const Value& key, Meter& meter) {
  if (value.is_undefined()) return error(ErrorCode::kBadInput, "{}", value.undefined_message());
  if (value.is_dict()) {
    const auto found = value.dict().find(key, meter);
    if (found && *found != nullptr) return **found;
  } else if (value.is_sequence() && value.sequence().is_indexed() && key.is_integral()) {
    const List& items = value.sequence().items;
    std::size_t at = 0;
    if (position(key.integral(), items.size(), at)) return items[at];
  } else if (value.is_string() && key.is_integral()) {
    const std::string& text = value.string();
    meter.spend_bytes(text.size());
    std::size_t at = 0;
    if (position(key.integral(), code_point_count(text), at)) {
      std::size_t start = byte_offset(text, at);
      const std::size_t first = start;
      next_code_point(text, start);
      return Value(text.substr(first, start - first));
    }
  }
  // Jinja tries x["name"] as x.name too.
  if (key.is_string()) return get_attribute(value, key.string(), meter);
  return missing(value, key, meter);
}

Result<Value> get_slice(const Value& value, const Value& start, const Value& stop,
                        const Value& step, Meter& meter) {
  if (value.is_undefined()) return error(ErrorCode::kBadInput, "{}", value.undefined_message());
  if (value.is_string()) {
    const std::string& text = value.string();
    if (!meter.spend(static_cast<std::int64_t>(text.size()))) return meter.exhausted();
    const auto length = static_cast<std::int64_t>(code_point_count(text));
    TG_ASSIGN(const Range range, slice_range(start, stop, step, length));
    std::string out;
    for (const std::string_view one : picked(code_points(text), range)) out += one;
    return Value(std::move(out));
  }
  if (value.is_sequence() && value.sequence().is_indexed()) {
    const List& items = value.sequence().items;
    if (!meter.spend(static_cast<std::int64_t>(items.size()))) return meter.exhausted();
    TG_ASSIGN(const Range range,
              slice_range(start, stop, step, static_cast<std::int64_t>(items.size())));
    const bool is_tuple = value.sequence().flavour == Sequence::Flavour::kTuple;
    return make_sequence(is_tuple ? Sequence::Flavour::kTuple : Sequence::Flavour::kList,
                         picked(items, range));
  }
  return error(ErrorCode::kBadInput, "a value of type {} can not be sliced", type_name(value));
}

Result<SequencePtr> elements(const Value& value, Meter& meter) {
  if (value.is_sequence()) {
    meter.spend(static_cast<std::int64_t>(value.sequence().items.size()));
    return value.sequence_pointer();
  }
  List items;
  if (value.is_string()) {
    if (!meter.spend(static_cast<std::int64_t>(value.string().size()))) return meter.exhausted();
    for (const std::string_view one : code_points(value.string())) items.emplace_back(one);
  } else if (value.is_dict()) {
    meter.spend(static_cast<std::int64_t>(value.dict().size()));
    for (const auto& [key, item] : value.dict().entries()) items.push_back(key);
  } else if (!value.is_undefined()) {
    return error(ErrorCode::kBadInput, "'{}' object is not iterable", type_name(value));
  }
  TG_ASSIGN(const Value list, make_list(std::move(items)));
  return list.sequence_pointer();
}

Result<std::int64_t> length_of(const Value& value) {
  if (value.is_string()) return static_cast<std::int64_t>(code_point_count(value.string()));
  if (value.is_dict()) return static_cast<std::int64_t>(value.dict().size());
  if (value.is_undefined()) return 0;
  if (value.is_sequence() && !value.sequence().is_generator()) {
    return static_cast<std::int64_t>(value.sequence().items.size());
  }
  return error(ErrorCode::kBadInput, "object of type '{}' has no len()", type_name(value));
}

Result<bool> contains(const Value& haystack, const Value& needle, Meter& meter) {
  if (haystack.is_string()) {
    if (!needle.is_string()) {
      return error(ErrorCode::kBadInput, "'in <string>' requires string as left operand, not {}",
                   type_name(needle));
    }
    meter.spend_bytes(haystack.string().size());
    return find_part(haystack.string(), needle.string(), 0) != std::string::npos;
  }
  if (haystack.is_dict()) {
    TG_ASSIGN(const Value* found, haystack.dict().find(needle, meter));
    return found != nullptr;
  }
  TG_ASSIGN(const SequencePtr items, elements(haystack, meter));
  return std::any_of(items->items.begin(), items->items.end(),
                     [&](const Value& item) { return equals(item, needle, meter); });
}

Result<bool> compare(std::string_view op, const Value& a, const Value& b, Meter& meter) {
  if (op == "==") return equals(a, b, meter);
  if (op == "!=") return !equals(a, b, meter);
  if (op == "<") return less_than(a, b, meter);
  if (op == ">") return less_than(b, a, meter);
  if (op == "in") return contains(b, a, meter);
  if (op == "not in") {
    TG_ASSIGN(const bool found, contains(b, a, meter));
    return !found;
  }
  // <= and >=: "less or equal" and not "not greater", because NaN is neither.
  TG_ASSIGN(const bool strictly, op == "<=" ? less_than(a, b, meter) : less_than(b, a, meter));
  return strictly || equals(a, b, meter);
}

}  // namespace tg::jinja
