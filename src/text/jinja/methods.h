// What: the parts of method tables that methods.cpp puts together (call_method of builtins.h).
// Who owns: static tables of pure functions. Thread: any.
#pragma once

#include <algorithm>
#include <iterator>
#include <string_view>

#include "text/jinja/builtins.h"

namespace tg::jinja {

using MethodFunction = Result<Value> (*)(const Value& self, const Arguments& arguments,
                                         Meter& meter);
struct MethodEntry {
  std::string_view name;
  MethodFunction function;
};

// nullptr when the table has no method of this name.
template <std::size_t kCount>
MethodFunction find_in(const MethodEntry (&table)[kCount], std::string_view name) {
  const auto* found = std::find_if(std::begin(table), std::end(table),
                                   [&](const MethodEntry& entry) { return entry.name == name; });
  return found == std::end(table) ? nullptr : found->function;
}

// A method of str.
MethodFunction find_text_method(std::string_view name);

}  // namespace tg::jinja
