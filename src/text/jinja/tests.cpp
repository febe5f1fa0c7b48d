// The tests, as in "x is defined" (declared in builtins.h).
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/objects.h"
#include "text/jinja/unicode.h"
#include "text/jinja/value_text.h"

namespace tg::jinja {
namespace {

// A test of the value alone.
template <bool (*kIs)(const Value&)>
Result<Value> simple(const Value& subject, const Arguments& arguments, Meter& /*meter*/) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  return Value(kIs(subject));
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is_none(); }
bool is_boolean(const Value& value) { return value.is_bool(); }
bool is_the_true(const Value& value) { return value.is_bool() && value.boolean(); }
bool is_the_false(const Value& value) { return value.is_bool() && !value.boolean(); }
bool is_integer(const Value& value) { return value.is_int(); }
bool is_float(const Value& value) { return value.is_float(); }
bool is_number(const Value& value) { return value.is_number(); }
bool is_string(const Value& value) { return value.is_string(); }
bool is_mapping(const Value& value) { return value.is_dict(); }
bool is_iterable(const Value& value) {
  return value.is_string() || value.is_sequence() || value.is_dict() || value.is_undefined();
}
bool is_sequence(const Value& value) {
  return is_iterable(value) && (!value.is_sequence() || value.sequence().is_indexed());
}
// Python can call an undefined value: that is where its error comes from.
bool is_callable(const Value& value) {
  if (value.is_undefined()) return true;
  return value.is_object() && (value.object()->type() == Object::Type::kMacro ||
                               value.object()->type() == Object::Type::kLoop ||
                               value.object()->type() == Object::Type::kMethod ||
                               value.object()->type() == Object::Type::kFunction);
}

Result<Value> parity(const Value& subject, Meter& meter, bool odd) {
  TG_ASSIGN(const Value rest, arithmetic("%", subject, Value(std::int64_t{2}), meter));
  return Value(rest.is_number() && rest.number() == (odd ? 1.0 : 0.0));
}
Result<Value> odd(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  return parity(subject, meter, true);
}
Result<Value> even(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  return parity(subject, meter, false);
}

Result<const Value*> other_of(const Arguments& arguments) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"other"}));
  if (bound.get(0) == nullptr) return error(ErrorCode::kBadInput, "needs a value to compare with");
  return bound.get(0);
}

Result<Value> divisible_by(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Value* other, other_of(arguments));
  TG_ASSIGN(const Value rest, arithmetic("%", subject, *other, meter));
  return Value(rest.is_number() && rest.number() == 0);
}

template <bool kEqual>
Result<Value> equal(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Value* other, other_of(arguments));
  return Value(equals(subject, *other, meter) == kEqual);
}

enum class Order { kLess, kLessOrEqual, kGreater, kGreaterOrEqual };
template <Order kOrder>
Result<Value> ordered(const Value& subject, const Arguments& arguments, Meter& meter) {
  static constexpr std::string_view kOperators[] = {"<", "<=", ">", ">="};
  TG_ASSIGN(const Value* other, other_of(arguments));
  TG_ASSIGN(const bool answer,
            compare(kOperators[static_cast<int>(kOrder)], subject, *other, meter));
  return Value(answer);
}

Result<Value> in(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Value* other, other_of(arguments));
  TG_ASSIGN(const bool found, contains(*other, subject, meter));
  return Value(found);
}

// Python's `is`. Equal scalars of one type count as the same.
Result<Value> same_as(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Value* other, other_of(arguments));
  if (subject.is_dict() && other->is_dict()) {
    return Value(subject.dict_pointer() == other->dict_pointer());
  }
  if (subject.is_sequence() && other->is_sequence()) {
    return Value(subject.sequence_pointer() == other->sequence_pointer());
  }
  return Value(type_name(subject) == type_name(*other) && equals(subject, *other, meter));
}

template <bool kUpper>
Result<Value> is_case(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  return call_method(Value(text_of(subject, meter)), kUpper ? "isupper" : "islower", {}, meter);
}

Result<Value> is_a_filter(const Value& subject, const Arguments& arguments, Meter& /*meter*/) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  return Value(subject.is_string() && find_filter(subject.string()) != nullptr);
}
Result<Value> is_a_test(const Value& subject, const Arguments& arguments, Meter& /*meter*/) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  return Value(subject.is_string() && find_test(subject.string()) != nullptr);
}

constexpr Builtin kTests[] = {
    {"!=", equal<false>},
    {"<", ordered<Order::kLess>},
    {"<=", ordered<Order::kLessOrEqual>},
    {"==", equal<true>},
    {">", ordered<Order::kGreater>},
    {">=", ordered<Order::kGreaterOrEqual>},
    {"boolean", simple<is_boolean>},
    {"callable", simple<is_callable>},
    {"defined", simple<is_defined>},
    {"divisibleby", divisible_by},
    {"eq", equal<true>},
    {"equalto", equal<true>},
    {"even", even},
    {"false", simple<is_the_false>},
    {"filter", is_a_filter},
    {"float", simple<is_float>},
    {"ge", ordered<Order::kGreaterOrEqual>},
    {"greaterthan", ordered<Order::kGreater>},
    {"gt", ordered<Order::kGreater>},
    {"in", in},
    {"integer", simple<is_integer>},
    {"iterable", simple<is_iterable>},
    {"le", ordered<Order::kLessOrEqual>},
    {"lessthan", ordered<Order::kLess>},
    {"lower", is_case<false>},
    {"lt", ordered<Order::kLess>},
    {"mapping", simple<is_mapping>},
    {"ne", equal<false>},
    {"none", simple<is_none>},
    {"number", simple<is_number>},
    {"odd", odd},
    {"sameas", same_as},
    {"sequence", simple<is_sequence>},
    {"string", simple<is_string>},
    {"test", is_a_test},
    {"true", simple<is_the_true>},
    {"undefined", simple<is_undefined>},
    {"upper", is_case<true>},
};

}  // namespace

const Builtin* find_test(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTests), std::end(kTests),
                                   [&](const Builtin& test) { return test.name == name; });
  return found == std::end(kTests) ? nullptr : found;
}

}  // namespace tg::jinja
