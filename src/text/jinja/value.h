// What: a value of the template language, with the meaning it has in Python: undefined, None, bool,
//   int (64 bits; overflow is an error), float, str, list, tuple, dict, and objects (namespace,
//   macro, loop, ...; see objects.h).
// Who owns: values share their immutable contents; copying is cheap. Thread: any, while no other
//   thread renders with the same value.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "text/jinja/limits.h"

namespace tg::jinja {

class Value;
class Dict;
class Object;
struct Sequence;

using List = std::vector<Value>;
using StringPtr = std::shared_ptr<const std::string>;
using SequencePtr = std::shared_ptr<const Sequence>;
using DictPtr = std::shared_ptr<const Dict>;
using ObjectPtr = std::shared_ptr<Object>;

class Value {
 public:
  struct None {};
  // Prints as nothing; any use but the allowed ones is an error with this message.
  struct Undefined {
    StringPtr message;
  };

  // Undefined without a message.
  Value() : data_(Undefined{}) {}
  Value(bool value) : data_(value) {}          // NOLINT(google-explicit-constructor)
  Value(std::int64_t value) : data_(value) {}  // NOLINT(google-explicit-constructor)
  Value(double value) : data_(value) {}        // NOLINT(google-explicit-constructor)
  Value(std::string text)
      : data_(std::make_shared<const std::string>(std::move(text))) {}  // NOLINT
  Value(std::string_view text) : Value(std::string(text)) {}            // NOLINT
  Value(const char* text) : Value(std::string(text)) {}                 // NOLINT
  Value(DictPtr dict) : data_(std::move(dict)) {}  // NOLINT(google-explicit-constructor)
  Value(SequencePtr sequence)
      : data_(std::move(sequence)) {}                    // NOLINT(google-explicit-constructor)
  Value(ObjectPtr object) : data_(std::move(object)) {}  // NOLINT(google-explicit-constructor)
  static Value none() {
    Value value;
    value.data_ = None{};
    return value;
  }
  static Value undefined(std::string message) {
    Value value;
    value.data_ = Undefined{std::make_shared<const std::string>(std::move(message))};
    return value;
  }

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<std::int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_string() const { return std::holds_alternative<StringPtr>(data_); }
  bool is_sequence() const { return std::holds_alternative<SequencePtr>(data_); }
  bool is_dict() const { return std::holds_alternative<DictPtr>(data_); }
  bool is_object() const { return std::holds_alternative<ObjectPtr>(data_); }
  // int or bool, which Python counts with.
  bool is_integral() const { return is_int() || is_bool(); }
  bool is_number() const { return is_integral() || is_float(); }

  // Each needs the matching is_...(); integral() also takes a bool, number() any number.
  std::int64_t integral() const {
    return is_bool() ? std::int64_t{std::get<bool>(data_)} : std::get<std::int64_t>(data_);
  }
  double number() const {
    return is_float() ? std::get<double>(data_) : static_cast<double>(integral());
  }
  bool boolean() const { return std::get<bool>(data_); }
  const std::string& string() const { return *std::get<StringPtr>(data_); }
  const Sequence& sequence() const { return *std::get<SequencePtr>(data_); }
  const SequencePtr& sequence_pointer() const { return std::get<SequencePtr>(data_); }
  const Dict& dict() const { return *std::get<DictPtr>(data_); }
  const DictPtr& dict_pointer() const { return std::get<DictPtr>(data_); }
  const ObjectPtr& object() const { return std::get<ObjectPtr>(data_); }
  // What an error about an undefined value says.
  std::string undefined_message() const;

  // Containers inside each other; 0 for a scalar.
  int depth() const;

 private:
  std::variant<Undefined, None, bool, std::int64_t, double, StringPtr, SequencePtr, DictPtr,
               ObjectPtr>
      data_;
};

// A list, a tuple, a range, a view of a dict (it has a length, but no index), or what map(),
// select() and their like give: always true, without a length and an index. (Python's can be walked
// once only; ours any number of times.)
struct Sequence {
  enum class Flavour { kList, kTuple, kRange, kKeys, kValues, kItems, kGenerator };
  Flavour flavour = Flavour::kList;
  List items;
  int depth = 1;
  std::string text = {};  // what a range prints as

  bool is_generator() const { return flavour == Flavour::kGenerator; }
  bool is_list_or_tuple() const { return flavour == Flavour::kList || flavour == Flavour::kTuple; }
  bool is_indexed() const { return is_list_or_tuple() || flavour == Flavour::kRange; }
};

// Keeps the order of insertion; keys are hashable values, equal as Python's are (1, 1.0 and True).
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  // nullptr when absent; kBadInput when the key can not be one (a list, a dict). The bytes of keys
  // are paid for.
  Result<const Value*> find(const Value& key, Meter& meter) const;
  const Value* find_text(std::string_view key) const;
  // Replaces in place or appends. kBadInput as find(); kOutOfCapacity past kMaxValueDepth.
  Status set(const Value& key, Value value, Meter& meter);
  // The same for names that do not come from a running template.
  Status set_text(std::string_view key, Value value);
  void clear();

  const std::vector<Entry>& entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }
  int depth() const { return depth_; }

 private:
  Status put(std::string text, const Value& key, Value value);

  std::vector<Entry> entries_;
  std::unordered_map<std::string, std::size_t> index_;  // canonical key text -> position
  int depth_ = 1;
};

// kOutOfCapacity when the result would nest deeper than kMaxValueDepth.
Result<Value> make_sequence(Sequence::Flavour flavour, List items);
inline Result<Value> make_list(List items) {
  return make_sequence(Sequence::Flavour::kList, std::move(items));
}
inline Result<Value> make_tuple(List items) {
  return make_sequence(Sequence::Flavour::kTuple, std::move(items));
}

inline Result<Value> make_generator(List items) {
  return make_sequence(Sequence::Flavour::kGenerator, std::move(items));
}

// Python's bool(value).
bool is_true(const Value& value);
// Python's a == b; a meter that runs out ends the walk (the answer is then worthless).
bool equals(const Value& a, const Value& b, Meter& meter);
// Python's a < b; kBadInput for kinds without an order.
Result<bool> less_than(const Value& a, const Value& b, Meter& meter);
// Python's type(value).__name__ (for messages).
std::string_view type_name(const Value& value);

}  // namespace tg::jinja
