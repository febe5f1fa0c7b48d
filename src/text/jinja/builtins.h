// What: the filters, tests, methods and attributes that templates may use.
// Who owns: static tables of pure functions. Thread: any.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja/value.h"

namespace tg::jinja {

struct Arguments {
  List positional;
  std::vector<std::pair<std::string, Value>> named;
};

// One filter or test. A test gives a bool.
struct Builtin {
  std::string_view name;
  Result<Value> (*function)(const Value& subject, const Arguments& arguments, Meter& meter);
};

// nullptr when there is none of this name.
const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);

// The arguments of a call under the names of its parameters; one not given is null.
class Bound {
 public:
  // kBadInput for more arguments than names, or a name that is not among them.
  static Result<Bound> make(const Arguments& arguments, std::vector<std::string_view> names);

  const Value* get(std::size_t i) const { return values_[i]; }
  // kBadInput without the argument, or when it is of another type.
  Result<std::string> text(std::size_t i) const;
  Result<std::string> text_or(std::size_t i, std::string_view otherwise) const;
  Result<std::int64_t> integer_or(std::size_t i, std::int64_t otherwise) const;
  bool truth_or(std::size_t i, bool otherwise) const;

 private:
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

// value.name and value[key], as Jinja looks them up: undefined when there is nothing.
Result<Value> get_attribute(const Value& value, std::string_view name, Meter& meter);
Result<Value> get_item(const Value& value, const Value& key, Meter& meter);
// value[start:stop:step]; absent ones are none.
Result<Value> get_slice(const Value& value, const Value& start, const Value& stop,
                        const Value& step, Meter& meter);

// What a for loop walks: the elements of a sequence, the keys of a dict, the characters of a text,
// nothing for undefined. kBadInput for the rest.
Result<SequencePtr> elements(const Value& value, Meter& meter);
// len(value): kBadInput if it has none.
Result<std::int64_t> length_of(const Value& value);
// needle in haystack.
Result<bool> contains(const Value& haystack, const Value& needle, Meter& meter);

// a op b for == != < <= > >= in and "not in".
Result<bool> compare(std::string_view op, const Value& a, const Value& b, Meter& meter);
// a op b for + - * / // % **.
Result<Value> arithmetic(std::string_view op, const Value& a, const Value& b, Meter& meter);

// True if a str, list or dict has this method (and a template may call it).
bool has_method(const Value& self, std::string_view name);
// self.name(arguments).
Result<Value> call_method(const Value& self, std::string_view name, const Arguments& arguments,
                          Meter& meter);

// format % values, as Python's str has it: %s %r %d %i %f %x %% with flags, width and precision.
Result<Value> percent_format(std::string_view format, const List& values, Meter& meter);

}  // namespace tg::jinja
