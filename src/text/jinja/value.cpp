#include "text/jinja/value.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "text/jinja/objects.h"

namespace tg::jinja {
namespace {

// A key longer than this is refused: tuples that share parts can spell exponentially long texts.
constexpr std::size_t kMaxKeyBytes = std::size_t{1} << 20;

void append_text_key(std::string_view key, std::string& out) {
  out += 's';
  out += std::to_string(key.size());
  out += ':';
  out += key;
}

// Text that is equal exactly for keys that Python calls equal; kBadInput if unhashable.
Status append_key(const Value& key, std::string& out) {
  if (out.size() > kMaxKeyBytes) {
    return error(ErrorCode::kOutOfCapacity, "a dictionary key of more than {} bytes", kMaxKeyBytes);
  }
  if (key.is_string()) {
    append_text_key(key.string(), out);
  } else if (key.is_integral()) {
    out += 'i';
    out += std::to_string(key.integral());
  } else if (key.is_float()) {
    const double number = key.number();
    // A whole float is the same key as the int of that value.
    if (std::abs(number) < 0x1p63 && number == std::floor(number)) {
      out += 'i';
      out += std::to_string(static_cast<std::int64_t>(number));
    } else {
      out += 'f';
      out += std::to_string(std::bit_cast<std::uint64_t>(number));
    }
  } else if (key.is_none()) {
    out += 'N';
  } else if (key.is_undefined()) {
    out += 'U';
  } else if (key.is_object()) {
    out += 'o';
    out += std::to_string(reinterpret_cast<std::uintptr_t>(key.object().get()));
  } else if (key.is_sequence() && key.sequence().flavour == Sequence::Flavour::kTuple) {
    out += 't';
    out += std::to_string(key.sequence().items.size());
    for (const Value& item : key.sequence().items) TG_RETURN_IF_ERROR(append_key(item, out));
  } else {
    return error(ErrorCode::kBadInput, "unhashable type: '{}'", type_name(key));
  }
  return {};
}

bool same_items(const List& a, const List& b, Meter& meter) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!equals(a[i], b[i], meter)) return false;
  }
  return true;
}

}  // namespace

std::string Value::undefined_message() const {
  const auto& undefined = std::get<Undefined>(data_);
  return undefined.message ? *undefined.message : "the value is undefined";
}

int Value::depth() const {
  if (is_sequence()) return sequence().depth;
  if (is_dict()) return dict().depth();
  if (is_object()) return object()->depth();
  return 0;
}

Result<const Value*> Dict::find(const Value& key, Meter& meter) const {
  if (key.is_string() && !meter.spend_bytes(key.string().size())) return meter.exhausted();
  std::string text;
  TG_RETURN_IF_ERROR(append_key(key, text));
  if (!key.is_string() && !meter.spend_bytes(text.size())) return meter.exhausted();
  const auto found = index_.find(text);
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

const Value* Dict::find_text(std::string_view key) const {
  std::string text;
  append_text_key(key, text);
  const auto found = index_.find(text);
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

Status Dict::set(const Value& key, Value value, Meter& meter) {
  if (key.is_string() && !meter.spend_bytes(key.string().size())) return meter.exhausted();
  std::string text;
  TG_RETURN_IF_ERROR(append_key(key, text));
  if (!key.is_string() && !meter.spend_bytes(text.size())) return meter.exhausted();
  return put(std::move(text), key, std::move(value));
}

Status Dict::set_text(std::string_view key, Value value) {
  std::string text;
  append_text_key(key, text);
  return put(std::move(text), Value(key), std::move(value));
}

Status Dict::put(std::string text, const Value& key, Value value) {
  const int depth = std::max(key.depth(), value.depth()) + 1;
  if (depth > kMaxValueDepth) {
    return error(ErrorCode::kOutOfCapacity, "values nested deeper than {}", kMaxValueDepth);
  }
  depth_ = std::max(depth_, depth);
  const auto [place, is_new] = index_.try_emplace(std::move(text), entries_.size());
  if (is_new) {
    entries_.emplace_back(key, std::move(value));
  } else {
    entries_[place->second].second = std::move(value);
  }
  return {};
}

void Dict::clear() {
  index_.clear();
  entries_.clear();
}

Result<Value> make_sequence(Sequence::Flavour flavour, List items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  if (depth + 1 > kMaxValueDepth) {
    return error(ErrorCode::kOutOfCapacity, "values nested deeper than {}", kMaxValueDepth);
  }
  return Value(SequencePtr(
      std::make_shared<const Sequence>(Sequence{flavour, std::move(items), depth + 1})));
}

bool is_true(const Value& value) {
  if (value.is_bool()) return value.boolean();
  if (value.is_int()) return value.integral() != 0;
  if (value.is_float()) return value.number() != 0.0;
  if (value.is_string()) return !value.string().empty();
  if (value.is_sequence())
    return value.sequence().is_generator() || !value.sequence().items.empty();
  if (value.is_dict()) return value.dict().size() != 0;
  return value.is_object();
}

bool equals(const Value& a, const Value& b, Meter& meter) {
  if (!meter.spend(1)) return false;
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integral() == b.integral();
    return a.number() == b.number();
  }
  if (a.is_string() && b.is_string()) {
    return a.string().size() == b.string().size() &&
           meter.spend(static_cast<std::int64_t>(a.string().size() / 256)) &&
           a.string() == b.string();
  }
  if (a.is_sequence() && b.is_sequence()) {
    // (1,) != [1]
    return a.sequence().flavour == b.sequence().flavour &&
           same_items(a.sequence().items, b.sequence().items, meter);
  }
  if (a.is_dict() && b.is_dict()) {
    if (a.dict().size() != b.dict().size()) return false;
    for (const auto& [key, value] : a.dict().entries()) {
      const auto other = b.dict().find(key, meter);
      if (!other || *other == nullptr || !equals(value, **other, meter)) return false;
    }
    return true;
  }
  if (a.is_object() && b.is_object()) return a.object() == b.object();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

Result<bool> less_than(const Value& a, const Value& b, Meter& meter) {
  meter.spend(1);
  if (a.is_undefined()) return error(ErrorCode::kBadInput, "{}", a.undefined_message());
  if (b.is_undefined()) return error(ErrorCode::kBadInput, "{}", b.undefined_message());
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integral() < b.integral();
    return a.number() < b.number();
  }
  // Code points and UTF-8 bytes have the same order.
  if (a.is_string() && b.is_string()) {
    meter.spend(static_cast<std::int64_t>(std::min(a.string().size(), b.string().size()) / 256));
    return a.string() < b.string();
  }
  if (a.is_sequence() && b.is_sequence() && a.sequence().flavour == b.sequence().flavour &&
      a.sequence().is_list_or_tuple()) {
    const List& left = a.sequence().items;
    const List& right = b.sequence().items;
    for (std::size_t i = 0; i < left.size() && i < right.size(); ++i) {
      if (!meter.ok()) return false;
      if (!equals(left[i], right[i], meter)) return less_than(left[i], right[i], meter);
    }
    return left.size() < right.size();
  }
  return error(ErrorCode::kBadInput, "'<' not supported between instances of '{}' and '{}'",
               type_name(a), type_name(b));
}

std::string_view type_name(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "NoneType";
  if (value.is_bool()) return "bool";
  if (value.is_int()) return "int";
  if (value.is_float()) return "float";
  if (value.is_string()) return "str";
  if (value.is_dict()) return "dict";
  if (value.is_sequence()) {
    switch (value.sequence().flavour) {
      case Sequence::Flavour::kList:
        return "list";
      case Sequence::Flavour::kTuple:
        return "tuple";
      case Sequence::Flavour::kRange:
        return "range";
      case Sequence::Flavour::kKeys:
        return "dict_keys";
      case Sequence::Flavour::kValues:
        return "dict_values";
      case Sequence::Flavour::kItems:
        return "dict_items";
      case Sequence::Flavour::kGenerator:
        return "generator";
    }
  }
  switch (value.object()->type()) {
    case Object::Type::kNamespace:
      return "namespace";
    case Object::Type::kLoop:
      return "LoopContext";
    case Object::Type::kMacro:
      return "Macro";
    case Object::Type::kMethod:
      return "method";
    case Object::Type::kFunction:
      return "function";
  }
  return "object";
}

}  // namespace tg::jinja
