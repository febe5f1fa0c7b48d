// The methods of list, tuple, range, dict and loop, and has_method and call_method of builtins.h;
// those of str are in text_methods.cpp. Methods that change their object do not exist for
// templates: Hugging Face renders in an immutable sandbox.
#include "text/jinja/methods.h"

#include <algorithm>

#include "text/jinja/objects.h"

namespace tg::jinja {
namespace {

Result<Value> dict_get(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"key", "default"}));
  if (bound.get(0) == nullptr) return error(ErrorCode::kBadInput, "get() needs a key");
  TG_ASSIGN(const Value* found, self.dict().find(*bound.get(0), meter));
  if (found != nullptr) return *found;
  return bound.get(1) != nullptr ? *bound.get(1) : Value::none();
}

enum class View { kKeys, kValues, kItems };
template <View kView>
Result<Value> dict_view(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  List out;
  for (const auto& [key, value] : self.dict().entries()) {
    if (!meter.spend(1)) return meter.exhausted();
    if (kView == View::kItems) {
      TG_ASSIGN(Value item, make_tuple({key, value}));
      out.push_back(std::move(item));
    } else {
      out.push_back(kView == View::kKeys ? key : value);
    }
  }
  using Flavour = Sequence::Flavour;
  return make_sequence(kView == View::kKeys     ? Flavour::kKeys
                       : kView == View::kValues ? Flavour::kValues
                                                : Flavour::kItems,
                       std::move(out));
}

// copy(): values can not be changed, so the same one will do.
Result<Value> copy_of(const Value& self, const Arguments& arguments, Meter& /*meter*/) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  return self;
}

constexpr MethodEntry kDictMethods[] = {
    {"get", dict_get},
    {"keys", dict_view<View::kKeys>},
    {"values", dict_view<View::kValues>},
    {"items", dict_view<View::kItems>},
    {"copy", copy_of},
};

Result<Value> list_index(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"value"}));
  const List& items = self.sequence().items;
  for (std::size_t i = 0; bound.get(0) != nullptr && i < items.size(); ++i) {
    if (equals(items[i], *bound.get(0), meter)) return Value(static_cast<std::int64_t>(i));
  }
  return error(ErrorCode::kBadInput, "index(): the value is not in the list");
}

Result<Value> list_count(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"value"}));
  if (bound.get(0) == nullptr) return error(ErrorCode::kBadInput, "count() needs a value");
  const List& items = self.sequence().items;
  return Value(
      static_cast<std::int64_t>(std::count_if(items.begin(), items.end(), [&](const Value& item) {
        return equals(item, *bound.get(0), meter);
      })));
}

constexpr MethodEntry kSequenceMethods[] = {{"index", list_index}, {"count", list_count}};
constexpr MethodEntry kListMethods[] = {
    {"index", list_index}, {"count", list_count}, {"copy", copy_of}};

Result<Value> loop_cycle(const Value& self, const Arguments& arguments, Meter& /*meter*/) {
  const auto* loop = object_as<Loop>(self, Object::Type::kLoop);
  if (arguments.positional.empty()) {
    return error(ErrorCode::kBadInput, "no items for cycling given");
  }
  return arguments.positional[loop->index0 % arguments.positional.size()];
}

MethodFunction find_method(const Value& self, std::string_view name) {
  if (self.is_string()) return find_text_method(name);
  if (self.is_dict()) return find_in(kDictMethods, name);
  if (self.is_sequence()) {
    const Sequence& sequence = self.sequence();
    if (sequence.flavour == Sequence::Flavour::kList) return find_in(kListMethods, name);
    return sequence.is_indexed() ? find_in(kSequenceMethods, name) : nullptr;
  }
  if (object_as<Loop>(self, Object::Type::kLoop) != nullptr && name == "cycle") return loop_cycle;
  return nullptr;
}

}  // namespace

bool has_method(const Value& self, std::string_view name) {
  return find_method(self, name) != nullptr;
}

Result<Value> call_method(const Value& self, std::string_view name, const Arguments& arguments,
                          Meter& meter) {
  const MethodFunction function = find_method(self, name);
  if (function == nullptr) {
    return error(ErrorCode::kUnsupported, "{} has no method '{}'", type_name(self), name);
  }
  return function(self, arguments, meter);
}

}  // namespace tg::jinja
