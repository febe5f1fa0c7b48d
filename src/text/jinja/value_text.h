// What: values as text, as Python writes them: str(), repr(), json.dumps(); and JSON made into
//   values, with the order of keys kept.
// Who owns: pure functions. Thread: any.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja/value.h"

namespace tg::jinja {

// repr() of a float: the shortest digits that read back equal, "1.0", "1e+16", "inf", "nan".
std::string float_text(double value);

// str(value) at the end of out. A meter that runs out ends the walk with a part of the text.
void append_text(const Value& value, std::string& out, Meter& meter);
// repr(value) at the end of out; same.
void append_repr(const Value& value, std::string& out, Meter& meter);
std::string text_of(const Value& value, Meter& meter);
std::string repr_of(const Value& value, Meter& meter);

// The arguments of json.dumps.
struct JsonStyle {
  bool ensure_ascii = false;
  bool pretty = false;  // one item a line
  std::string indent;   // with pretty: of one level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};

// json.dumps(value). kBadInput for a kind that JSON has not, or a key that can not be one.
Result<std::string> to_json(const Value& value, const JsonStyle& style, Meter& meter);

// JSON as a value. kBadInput: a text in it is not UTF-8; kOutOfCapacity: nested deeper than
// kMaxValueDepth. Whole numbers beyond 64 bits become floats.
Result<Value> from_json(const nlohmann::ordered_json& json);

}  // namespace tg::jinja
