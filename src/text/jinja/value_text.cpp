#include "text/jinja/value_text.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "text/jinja/objects.h"
#include "text/jinja/unicode.h"

namespace tg::jinja {
namespace {

void append_string_repr(std::string_view text, std::string& out) {
  // Python prefers single quotes and changes to double ones only to save escapes.
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  out += quote;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t code = next_code_point(text, at);
    if (code == static_cast<char32_t>(quote) || code == '\\') {
      out += '\\';
      out += static_cast<char>(code);
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (is_printable(code)) {
      out += text.substr(start, at - start);
    } else if (code < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(code));
    } else if (code < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(code));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<unsigned>(code));
    }
  }
  out += quote;
}

void append_items(const List& items, std::string& out, Meter& meter) {
  bool first = true;
  for (const Value& item : items) {
    if (!first) out += ", ";
    first = false;
    append_repr(item, out, meter);
    if (!meter.ok()) return;
  }
}

// [...], in the form of one of Python's types that wrap a list.
void append_wrapped(std::string_view type, const Sequence& sequence, std::string& out,
                    Meter& meter) {
  out += type;
  out += "([";
  append_items(sequence.items, out, meter);
  out += "])";
}

void append_sequence(const Sequence& sequence, std::string& out, Meter& meter) {
  using Flavour = Sequence::Flavour;
  switch (sequence.flavour) {
    case Flavour::kRange:
      out += sequence.text;
      return;
    case Flavour::kKeys:
      append_wrapped("dict_keys", sequence, out, meter);
      return;
    case Flavour::kValues:
      append_wrapped("dict_values", sequence, out, meter);
      return;
    case Flavour::kItems:
      append_wrapped("dict_items", sequence, out, meter);
      return;
    case Flavour::kList:
      out += '[';
      append_items(sequence.items, out, meter);
      out += ']';
      return;
    case Flavour::kTuple:
      out += '(';
      append_items(sequence.items, out, meter);
      out += sequence.items.size() == 1 ? ",)" : ")";
      return;
    case Flavour::kGenerator:
      out += "<generator object>";
      return;
  }
}

void append_dict(const Dict& dict, std::string& out, Meter& meter) {
  out += '{';
  bool first = true;
  for (const auto& [key, value] : dict.entries()) {
    if (!first) out += ", ";
    first = false;
    append_repr(key, out, meter);
    out += ": ";
    append_repr(value, out, meter);
    if (!meter.ok()) return;
  }
  out += '}';
}

// What Python prints here mostly ends in an address; ours leaves it out, so that output is stable.
void append_object(const Object& object, std::string& out, Meter& meter) {
  switch (object.type()) {
    case Object::Type::kNamespace: {
      // A namespace can hold itself, so its contents are not printed below the top.
      const auto& attributes = static_cast<const Namespace&>(object).attributes;
      out += "<Namespace {";
      bool first = true;
      for (const auto& [key, value] : attributes.entries()) {
        if (!first) out += ", ";
        first = false;
        append_repr(key, out, meter);
        out += ": ";
        if (value.is_object() || value.depth() > 0) {
          out += "...";
        } else {
          append_repr(value, out, meter);
        }
      }
      out += "}>";
      return;
    }
    case Object::Type::kMacro: {
      const auto& name = static_cast<const Macro&>(object).definition->name;
      out += name.empty() ? "<Macro anonymous>" : "<Macro '" + name + "'>";
      return;
    }
    case Object::Type::kLoop:
      out += "<LoopContext>";
      return;
    case Object::Type::kMethod:
      out += "<method " + static_cast<const Method&>(object).name + ">";
      return;
    case Object::Type::kFunction:
      out += "<function " + static_cast<const Function&>(object).name + ">";
      return;
  }
}

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  // The shortest digits, as d.ddde[+-]xx, laid out by Python's rule: plain from 1e-4 to below 1e16.
  char buffer[40];
  const auto done =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view all(buffer, static_cast<std::size_t>(done.ptr - buffer));
  const std::size_t e = all.find('e');
  int exponent = 0;
  const bool plus = all[e + 1] == '+';
  std::from_chars(all.data() + e + (plus ? 2 : 1), all.data() + all.size(), exponent);
  std::string out;
  std::string digits;
  for (const char c : all.substr(0, e)) {
    if (c == '-') {
      out += '-';
    } else if (c != '.') {
      digits += c;
    }
  }
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (count > 1) out += '.' + digits.substr(1);
    out += fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  } else if (exponent < 0) {
    out += "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  } else if (exponent + 1 >= count) {
    out += digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') + ".0";
  } else {
    const std::size_t whole = static_cast<std::size_t>(exponent) + 1;
    out += digits.substr(0, whole) + '.' + digits.substr(whole);
  }
  return out;
}

void append_text(const Value& value, std::string& out, Meter& meter) {
  if (value.is_undefined()) return;
  if (value.is_string()) {
    // The length of what is there counts: many appends build one long text.
    if (meter.spend_bytes(value.string().size()) &&
        out.size() + value.string().size() <= meter.limits().output_bytes) {
      out += value.string();
    } else {
      meter.spend_bytes(out.size() + value.string().size());
    }
    return;
  }
  append_repr(value, out, meter);
}

void append_repr(const Value& value, std::string& out, Meter& meter) {
  if (!meter.spend(1)) return;
  if (out.size() > meter.limits().output_bytes) {
    meter.spend_bytes(out.size());  // too long: says so
    return;
  }
  if (value.is_undefined()) {
    out += "Undefined";
  } else if (value.is_none()) {
    out += "None";
  } else if (value.is_bool()) {
    out += value.boolean() ? "True" : "False";
  } else if (value.is_int()) {
    out += std::to_string(value.integral());
  } else if (value.is_float()) {
    out += float_text(value.number());
  } else if (value.is_string()) {
    if (meter.spend_bytes(value.string().size())) append_string_repr(value.string(), out);
  } else if (value.is_sequence()) {
    append_sequence(value.sequence(), out, meter);
  } else if (value.is_dict()) {
    append_dict(value.dict(), out, meter);
  } else {
    append_object(*value.object(), out, meter);
  }
}

std::string text_of(const Value& value, Meter& meter) {
  std::string out;
  append_text(value, out, meter);
  return out;
}

std::string repr_of(const Value& value, Meter& meter) {
  std::string out;
  append_repr(value, out, meter);
  return out;
}

}  // namespace tg::jinja
