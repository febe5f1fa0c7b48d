// The expressions of interpreter.h.
#include <algorithm>

#include "text/jinja/interpreter.h"
#include "text/jinja/text_operations.h"
#include "text/jinja/value_text.h"

namespace tg::jinja {
namespace {

// As Hugging Face's sandbox.
constexpr std::int64_t kMaxRange = 100'000;

Result<Value> make_range(const Arguments& arguments, Meter& meter) {
  if (arguments.positional.empty() || arguments.positional.size() > 3 || !arguments.named.empty()) {
    return error(ErrorCode::kBadInput, "range() takes 1 to 3 numbers");
  }
  std::int64_t numbers[3] = {0, 0, 1};
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    const Value& value = arguments.positional[i];
    if (!value.is_integral()) {
      return error(ErrorCode::kBadInput, "range(): {} is no integer", type_name(value));
    }
    numbers[arguments.positional.size() == 1 ? 1 : i] = value.integral();
  }
  const auto [start, stop, step] = numbers;
  if (step == 0) return error(ErrorCode::kBadInput, "range(): the step must not be zero");
  // In 128 bits nothing here overflows.
  const __int128 distance = static_cast<__int128>(stop) - start;
  const __int128 count = step > 0 ? (distance + step - 1) / step : (distance + step + 1) / step;
  auto range = std::make_shared<Sequence>();
  range->flavour = Sequence::Flavour::kRange;
  range->text = step == 1 ? fmt::format("range({}, {})", start, stop)
                          : fmt::format("range({}, {}, {})", start, stop, step);
  if ((step > 0) != (distance > 0) || distance == 0) return Value(SequencePtr(std::move(range)));
  if (count > kMaxRange) {
    return error(ErrorCode::kOutOfCapacity, "range() of more than {} numbers", kMaxRange);
  }
  if (!meter.spend(static_cast<std::int64_t>(count))) return meter.exhausted();
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(count); ++i) {
    range->items.emplace_back(start + i * step);
  }
  return Value(SequencePtr(std::move(range)));
}

constexpr std::string_view kFunctions[] = {"range", "dict", "namespace", "raise_exception"};

}  // namespace

Result<Value> Interpreter::evaluate(const Expression& expression) {
  const Meter::Level level(meter_);
  auto value = level.too_deep()   ? Result<Value>(level.error())
               : !meter_.spend(1) ? Result<Value>(meter_.exhausted())
                                  : evaluate_node(expression);
  if (!value && value.error().place.empty()) {
    value.error().place = fmt::format("line {}", expression.line);
  }
  return value;
}

Result<Value> Interpreter::evaluate_node(const Expression& expression) {
  using K = Expression::Kind;
  const auto& children = expression.children;
  switch (expression.kind) {
    case K::kConstant:
      return expression.constant;
    case K::kName:
      return look_up(expression.name);
    case K::kList: {
      TG_ASSIGN(List items, evaluate_children(expression));
      return make_list(std::move(items));
    }
    case K::kTuple: {
      TG_ASSIGN(List items, evaluate_children(expression));
      return make_tuple(std::move(items));
    }
    case K::kDict:
      return evaluate_dict(expression);
    case K::kAttribute: {
      TG_ASSIGN(const Value owner, evaluate(*children[0]));
      return get_attribute(owner, expression.name, meter_);
    }
    case K::kItem: {
      TG_ASSIGN(const Value owner, evaluate(*children[0]));
      TG_ASSIGN(const Value key, evaluate(*children[1]));
      return get_item(owner, key, meter_);
    }
    case K::kSlice:
      return evaluate_slice(expression);
    case K::kCall: {
      TG_ASSIGN(const Value callee, evaluate(*children[0]));
      TG_ASSIGN(Arguments arguments, evaluate_arguments(expression));
      return call(callee, std::move(arguments));
    }
    case K::kFilter:
    case K::kTest:
      return evaluate_builtin(expression);
    case K::kNot: {
      TG_ASSIGN(const Value value, evaluate(*children[0]));
      return Value(!is_true(value));
    }
    case K::kNegate:
    case K::kPlus:
      return evaluate_sign(expression);
    case K::kArithmetic: {
      TG_ASSIGN(const Value left, evaluate(*children[0]));
      TG_ASSIGN(const Value right, evaluate(*children[1]));
      return arithmetic(expression.name, left, right, meter_);
    }
    case K::kConcat: {
      std::string text;
      for (const ExpressionPtr& child : children) {
        TG_ASSIGN(const Value value, evaluate(*child));
        append_text(value, text, meter_);
        if (!meter_.ok()) return meter_.exhausted();
      }
      return Value(std::move(text));
    }
    case K::kCompare:
      return evaluate_comparison(expression);
    case K::kAnd: {
      TG_ASSIGN(Value left, evaluate(*children[0]));
      if (!is_true(left)) return left;
      return evaluate(*children[1]);
    }
    case K::kOr: {
      TG_ASSIGN(Value left, evaluate(*children[0]));
      if (is_true(left)) return left;
      return evaluate(*children[1]);
    }
    case K::kConditional: {
      TG_ASSIGN(const Value condition, evaluate(*children[0]));
      if (is_true(condition)) return evaluate(*children[1]);
      if (children[2]) return evaluate(*children[2]);
      return Value::undefined("the inline if-expression was false and has no else");
    }
  }
  return Value();
}

Result<List> Interpreter::evaluate_children(const Expression& expression) {
  List values;
  for (const ExpressionPtr& child : expression.children) {
    TG_ASSIGN(Value value, evaluate(*child));
    values.push_back(std::move(value));
  }
  return values;
}

Result<Value> Interpreter::evaluate_dict(const Expression& expression) {
  auto dict = std::make_shared<Dict>();
  for (std::size_t i = 0; i + 1 < expression.children.size(); i += 2) {
    TG_ASSIGN(const Value key, evaluate(*expression.children[i]));
    TG_ASSIGN(Value value, evaluate(*expression.children[i + 1]));
    TG_RETURN_IF_ERROR(dict->set(key, std::move(value), meter_));
  }
  return Value(DictPtr(std::move(dict)));
}

Result<Value> Interpreter::evaluate_slice(const Expression& expression) {
  TG_ASSIGN(const Value owner, evaluate(*expression.children[0]));
  Value bounds[3] = {Value::none(), Value::none(), Value::none()};
  for (std::size_t i = 0; i < 3; ++i) {
    if (!expression.children[i + 1]) continue;
    TG_ASSIGN(bounds[i], evaluate(*expression.children[i + 1]));
  }
  return get_slice(owner, bounds[0], bounds[1], bounds[2], meter_);
}

Result<Value> Interpreter::evaluate_builtin(const Expression& expression) {
  const bool is_filter = expression.kind == Expression::Kind::kFilter;
  if (expression.builtin == nullptr) {
    return error(ErrorCode::kUnsupported, "no {} named '{}'", is_filter ? "filter" : "test",
                 expression.name);
  }
  Value subject;
  if (expression.children[0]) {
    TG_ASSIGN(subject, evaluate(*expression.children[0]));
  } else {
    subject = *block_text_;
  }
  TG_ASSIGN(const Arguments arguments, evaluate_arguments(expression));
  if (!pay_for_texts(subject, arguments)) return meter_.exhausted();
  auto value = expression.builtin->function(subject, arguments, meter_);
  if (!value && value.error().place.empty() && value.error().code != ErrorCode::kOutOfCapacity) {
    value.error().message = fmt::format("{} '{}': {}", is_filter ? "filter" : "test",
                                        expression.name, value.error().message);
  }
  return value;
}

bool Interpreter::pay_for_texts(const Value& subject, const Arguments& arguments) {
  std::size_t bytes = subject.is_string() ? subject.string().size() : 0;
  for (const Value& argument : arguments.positional) {
    if (argument.is_string()) bytes += argument.string().size();
  }
  return meter_.spend(static_cast<std::int64_t>(bytes / 32));
}

Result<Value> Interpreter::evaluate_comparison(const Expression& expression) {
  TG_ASSIGN(Value left, evaluate(*expression.children[0]));
  for (std::size_t i = 0; i < expression.operators.size(); ++i) {
    TG_ASSIGN(Value right, evaluate(*expression.children[i + 1]));
    TG_ASSIGN(const bool holds, compare(expression.operators[i], left, right, meter_));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Result<Value> Interpreter::evaluate_sign(const Expression& expression) {
  TG_ASSIGN(const Value value, evaluate(*expression.children[0]));
  const bool negate = expression.kind == Expression::Kind::kNegate;
  if (value.is_float()) return Value(negate ? -value.number() : value.number());
  if (!value.is_number()) {
    if (value.is_undefined()) return error(ErrorCode::kBadInput, "{}", value.undefined_message());
    return error(ErrorCode::kBadInput, "bad operand type for unary {}: '{}'", negate ? '-' : '+',
                 type_name(value));
  }
  return arithmetic(negate ? "-" : "+", Value(std::int64_t{0}), value, meter_);
}

Result<Arguments> Interpreter::evaluate_arguments(const Expression& call_expression) {
  Arguments arguments;
  for (std::size_t i = 1; i < call_expression.children.size(); ++i) {
    TG_ASSIGN(Value value, evaluate(*call_expression.children[i]));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, expression] : call_expression.named) {
    TG_ASSIGN(Value value, evaluate(*expression));
    if (name == "*") {
      TG_ASSIGN(const SequencePtr items, elements(value, meter_));
      if (!meter_.ok()) return meter_.exhausted();
      arguments.positional.insert(arguments.positional.end(), items->items.begin(),
                                  items->items.end());
    } else if (name == "**") {
      TG_RETURN_IF_ERROR(add_named(value, arguments));
    } else {
      arguments.named.emplace_back(name, std::move(value));
    }
  }
  return arguments;
}

Status Interpreter::add_named(const Value& dict, Arguments& arguments) {
  if (!dict.is_dict()) {
    return error(ErrorCode::kBadInput, "argument after ** must be a mapping, not {}",
                 type_name(dict));
  }
  for (const auto& [key, value] : dict.dict().entries()) {
    if (!meter_.spend(1 + static_cast<std::int64_t>(arguments.named.size() / 16))) {
      return meter_.exhausted();
    }
    if (!key.is_string()) return error(ErrorCode::kBadInput, "keywords must be strings");
    const std::string& name = key.string();
    if (std::any_of(arguments.named.begin(), arguments.named.end(),
                    [&name](const auto& one) { return one.first == name; })) {
      return error(ErrorCode::kBadInput, "two values for the argument '{}'", name);
    }
    arguments.named.emplace_back(name, value);
  }
  return {};
}

Value Interpreter::look_up(const std::string& name) const {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    const auto found = scope->values.find(name);
    if (found != scope->values.end()) return found->second;
  }
  if (const Value* found = variables_.find_text(name); found != nullptr) return *found;
  const bool is_function =
      (name == "strftime_now" && now_) ||
      std::find(std::begin(kFunctions), std::end(kFunctions), name) != std::end(kFunctions);
  if (is_function) return Value(ObjectPtr(std::make_shared<Function>(name)));
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

Result<Value> Interpreter::call(const Value& callee, Arguments arguments) {
  if (callee.is_undefined()) return error(ErrorCode::kBadInput, "{}", callee.undefined_message());
  if (const auto* macro = object_as<Macro>(callee, Object::Type::kMacro)) {
    return call_macro(*macro, std::move(arguments));
  }
  if (const auto* loop = object_as<Loop>(callee, Object::Type::kLoop)) {
    return call_loop(*loop, arguments);
  }
  if (!pay_for_texts(Value(), arguments)) return meter_.exhausted();
  std::string_view name;
  Result<Value> value;
  if (const auto* method = object_as<Method>(callee, Object::Type::kMethod)) {
    name = method->name;
    if (!pay_for_texts(method->self, {})) return meter_.exhausted();
    value = call_method(method->self, name, arguments, meter_);
  } else if (const auto* function = object_as<Function>(callee, Object::Type::kFunction)) {
    name = function->name;
    value = call_function(name, arguments);
    if (name == "raise_exception") return value;
  } else {
    return error(ErrorCode::kBadInput, "'{}' object is not callable", type_name(callee));
  }
  if (!value && value.error().code != ErrorCode::kOutOfCapacity) {
    value.error().message = fmt::format("{}(): {}", name, value.error().message);
  }
  return value;
}

Result<Value> Interpreter::call_macro(const Macro& macro, Arguments arguments) {
  const MacroDefinition& code = *macro.definition;
  const std::string name = code.name.empty() ? "caller" : code.name;
  const Inner inner(*this, macro.scope);
  auto& values = scope_->values;
  const std::size_t count = code.parameters.size();
  const std::size_t given = std::min(count, arguments.positional.size());
  for (std::size_t i = 0; i < given; ++i) {
    values.insert_or_assign(code.parameters[i], std::move(arguments.positional[i]));
  }
  if (code.uses_varargs) {
    TG_ASSIGN(Value rest,
              make_tuple(List(arguments.positional.begin() + static_cast<std::ptrdiff_t>(given),
                              arguments.positional.end())));
    values.insert_or_assign("varargs", std::move(rest));
  } else if (arguments.positional.size() > count) {
    return error(ErrorCode::kBadInput, "macro '{}' takes not more than {} arguments, {} given",
                 name, count, arguments.positional.size());
  }
  auto others = std::make_shared<Dict>();
  for (auto& [argument, value] : arguments.named) {
    const bool is_parameter = std::find(code.parameters.begin(), code.parameters.end(), argument) !=
                              code.parameters.end();
    if (is_parameter || (argument == "caller" && code.uses_caller)) {
      if (!values.emplace(argument, std::move(value)).second) {
        return error(ErrorCode::kBadInput, "macro '{}' got two values for '{}'", name, argument);
      }
    } else if (code.uses_kwargs) {
      TG_RETURN_IF_ERROR(others->set_text(argument, std::move(value)));
    } else {
      return error(ErrorCode::kBadInput, "macro '{}' takes no argument named '{}'", name, argument);
    }
  }
  if (code.uses_kwargs) values.insert_or_assign("kwargs", Value(DictPtr(std::move(others))));
  if (code.uses_caller && !values.contains("caller")) {
    values.emplace("caller", Value::undefined("no caller defined"));
  }
  const std::size_t first_default = count - code.defaults.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (values.contains(code.parameters[i])) continue;
    Value value =
        Value::undefined(fmt::format("parameter '{}' was not provided", code.parameters[i]));
    if (i >= first_default) {
      TG_ASSIGN(value, evaluate(*code.defaults[i - first_default]));
    }
    values.insert_or_assign(code.parameters[i], std::move(value));
  }
  TG_ASSIGN(std::string text, text_of_block(*code.body, scope_));
  return Value(std::move(text));
}

Result<DictPtr> Interpreter::make_dict(const Arguments& arguments) {
  auto dict = std::make_shared<Dict>();
  if (arguments.positional.size() > 1) {
    return error(ErrorCode::kBadInput, "expected at most 1 argument, got {}",
                 arguments.positional.size());
  }
  for (const Value& source : arguments.positional) {
    if (source.is_dict()) {
      for (const auto& [key, value] : source.dict().entries()) {
        TG_RETURN_IF_ERROR(dict->set(key, value, meter_));
        if (!meter_.spend(1)) return meter_.exhausted();
      }
      continue;
    }
    TG_ASSIGN(const SequencePtr pairs, elements(source, meter_));
    for (const Value& pair : pairs->items) {
      TG_ASSIGN(const SequencePtr two, elements(pair, meter_));
      if (two->items.size() != 2) {
        return error(ErrorCode::kBadInput, "needs pairs, got {} values", two->items.size());
      }
      TG_RETURN_IF_ERROR(dict->set(two->items[0], two->items[1], meter_));
    }
  }
  for (const auto& [name, value] : arguments.named) {
    TG_RETURN_IF_ERROR(dict->set_text(name, value));
  }
  return DictPtr(std::move(dict));
}

Result<Value> Interpreter::call_function(std::string_view name, const Arguments& arguments) {
  if (name == "range") return make_range(arguments, meter_);
  if (name == "dict") {
    TG_ASSIGN(DictPtr dict, make_dict(arguments));
    return Value(std::move(dict));
  }
  if (name == "namespace") {
    TG_ASSIGN(const DictPtr dict, make_dict(arguments));
    auto space = std::make_shared<Namespace>();
    space->attributes = *dict;
    namespaces_.push_back(space);
    meter_.spend(10);  // its memory stays until the end
    return Value(ObjectPtr(std::move(space)));
  }
  if (name == "raise_exception") {
    TG_ASSIGN(const Bound bound, Bound::make(arguments, {"message"}));
    const std::string message = bound.get(0) ? text_of(*bound.get(0), meter_) : "";
    return error(ErrorCode::kBadInput, "{}",
                 message.empty() ? "raise_exception() without a message" : message);
  }
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"format"}));
  TG_ASSIGN(const std::string format, bound.text(0));
  TG_ASSIGN(std::string text, format_time(format, *now_, meter_));
  return Value(std::move(text));
}

}  // namespace tg::jinja
