// The filters that give texts and numbers (declared in builtins.h); those on lists are in
// list_filters.cpp.
#include <algorithm>
#include <cmath>

#include "text/jinja/builtins.h"
#include "text/jinja/list_filters.h"
#include "text/jinja/text_operations.h"
#include "text/jinja/unicode.h"
#include "text/jinja/value_text.h"

namespace tg::jinja {
namespace {

template <std::string (*kChange)(std::string_view)>
Result<Value> change_text(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  const std::string text = text_of(subject, meter);
  if (!meter.spend_bytes(text.size())) return meter.exhausted();
  return Value(kChange(text));
}

// Jinja's title: each word, cut at blanks, "-" and opening brackets, capitalized.
std::string title_words(std::string_view text) {
  std::string out;
  bool at_start = true;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t code = next_code_point(text, at);
    const std::string_view one = text.substr(start, at - start);
    out += at_start ? to_upper(one) : to_lower(one);
    at_start =
        is_space(code) || code == '-' || code == '(' || code == '{' || code == '[' || code == '<';
  }
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if (c == '"') {
      out += "&#34;";
    } else {
      out += c;
    }
  }
  return out;
}

Result<Value> trim(const Value& subject, const Arguments& arguments, Meter& meter) {
  Value text(text_of(subject, meter));
  return call_method(text, "strip", arguments, meter);
}

Result<Value> replace(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"old", "new", "count"}));
  if (bound.get(0) == nullptr || bound.get(1) == nullptr) {
    return error(ErrorCode::kBadInput, "needs the arguments 'old' and 'new'");
  }
  const std::string text = text_of(subject, meter);
  const std::string old = text_of(*bound.get(0), meter);
  const std::string replacement = text_of(*bound.get(1), meter);
  const bool all = bound.get(2) == nullptr || bound.get(2)->is_none();
  TG_ASSIGN(const std::int64_t count, all ? Result<std::int64_t>(-1) : bound.integer_or(2, -1));
  TG_ASSIGN(std::string out, replace_text(text, old, replacement, count, meter));
  return Value(std::move(out));
}

// Lines after the first one (with `first` that too) get `width` blanks, or a text, in front; empty
// lines only with `blank`.
Result<Value> indent(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"width", "first", "blank"}));
  std::string prefix;
  if (bound.get(0) != nullptr && bound.get(0)->is_string()) {
    prefix = bound.get(0)->string();
  } else {
    TG_ASSIGN(const std::int64_t width, bound.integer_or(0, 4));
    TG_ASSIGN(const Value made, arithmetic("*", Value(" "), Value(width), meter));
    prefix = made.string();
  }
  if (subject.is_undefined()) return error(ErrorCode::kBadInput, "{}", subject.undefined_message());
  if (!subject.is_string()) {
    return error(ErrorCode::kBadInput, "indent needs a text, not {}", type_name(subject));
  }
  // Jinja's own way: a newline is added, which keeps a last empty line.
  const std::string text = subject.string() + "\n";
  if (!meter.spend(static_cast<std::int64_t>(text.size() / 8))) return meter.exhausted();
  std::string out;
  bool is_first = true;
  for (const std::string_view line : split_lines(text, false)) {
    if (!is_first) out += '\n';
    const bool wanted =
        is_first ? bound.truth_or(1, false) : !line.empty() || bound.truth_or(2, false);
    if (wanted) out += prefix;
    out += line;
    is_first = false;
    if (out.size() > meter.limits().output_bytes || !meter.spend(1)) {
      meter.spend_bytes(out.size());
      return meter.exhausted();
    }
  }
  if (!meter.spend_bytes(out.size())) return meter.exhausted();
  return Value(std::move(out));
}

Result<Value> center(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"width"}));
  const Value width = bound.get(0) == nullptr ? Value(std::int64_t{80}) : *bound.get(0);
  return call_method(Value(text_of(subject, meter)), "center", Arguments{{width}, {}}, meter);
}

// The beginning of a text that is more than `leeway` longer than `length`, which with `end` after
// it has `length` characters; without `killwords` it ends before the last blank.
Result<Value> truncate(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"length", "killwords", "end", "leeway"}));
  TG_ASSIGN(const std::int64_t length, bound.integer_or(0, 255));
  TG_ASSIGN(const std::string end, bound.text_or(2, "..."));
  const bool no_leeway = bound.get(3) == nullptr || bound.get(3)->is_none();
  TG_ASSIGN(const std::int64_t leeway,
            no_leeway ? Result<std::int64_t>(5) : bound.integer_or(3, 5));
  const auto end_length = static_cast<std::int64_t>(code_point_count(end));
  if (length < end_length || leeway < 0) {
    return error(ErrorCode::kBadInput, "needs a length of at least {} and a leeway of at least 0",
                 end_length);
  }
  TG_ASSIGN(const std::int64_t size, length_of(subject));
  if (size <= length || size - length <= leeway) return subject;
  if (!subject.is_string()) {
    return error(ErrorCode::kBadInput, "needs a text, not {}", type_name(subject));
  }
  std::string kept = subject.string();
  kept.resize(byte_offset(kept, static_cast<std::size_t>(length - end_length)));
  if (!bound.truth_or(1, false)) kept.resize(std::min(kept.size(), kept.rfind(' ')));
  if (!meter.spend_bytes(kept.size() + end.size())) return meter.exhausted();
  return Value(kept + end);
}

Result<Value> default_value(const Value& subject, const Arguments& arguments, Meter& /*meter*/) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"default_value", "boolean"}));
  if (subject.is_undefined() || (bound.truth_or(1, false) && !is_true(subject))) {
    return bound.get(0) == nullptr ? Value("") : *bound.get(0);
  }
  return subject;
}

// Hugging Face's tojson: json.dumps without the HTML escapes of Jinja's own.
Result<Value> tojson(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound,
            Bound::make(arguments, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensure_ascii = bound.truth_or(0, false);
  style.sort_keys = bound.truth_or(3, false);
  if (const Value* indent = bound.get(1); indent != nullptr && !indent->is_none()) {
    style.pretty = true;
    style.item_separator = std::string(",");  // not ",": g++ 12 warns of overlapping copies
    if (indent->is_string()) {
      style.indent = indent->string();
    } else {
      TG_ASSIGN(const std::int64_t width, bound.integer_or(1, 0));
      TG_ASSIGN(const Value made, arithmetic("*", Value(" "), Value(width), meter));
      style.indent = made.string();
    }
  }
  if (const Value* both = bound.get(2); both != nullptr && !both->is_none()) {
    if (!both->is_sequence() || both->sequence().items.size() != 2 ||
        !both->sequence().items[0].is_string() || !both->sequence().items[1].is_string()) {
      return error(ErrorCode::kBadInput, "separators must be two texts");
    }
    style.item_separator = both->sequence().items[0].string();
    style.key_separator = both->sequence().items[1].string();
  }
  TG_ASSIGN(std::string text, to_json(subject, style, meter));
  return Value(std::move(text));
}

Result<Value> to_text(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  if (subject.is_string()) return subject;
  return Value(text_of(subject, meter));
}

Result<Value> to_integer(const Value& subject, const Arguments& arguments, Meter& /*meter*/) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"default", "base"}));
  TG_ASSIGN(const std::int64_t base, bound.integer_or(1, 10));
  Value otherwise = bound.get(0) == nullptr ? Value(std::int64_t{0}) : *bound.get(0);
  if (subject.is_undefined()) return error(ErrorCode::kBadInput, "{}", subject.undefined_message());
  if (subject.is_integral()) return Value(subject.integral());
  double number = 0;
  if (subject.is_string()) {
    if (base < 0 || base == 1 || base > 36) return otherwise;
    if (const auto whole = parse_integer(subject.string(), static_cast<int>(base))) {
      return Value(*whole);
    }
    const auto parsed = parse_float(subject.string());
    if (!parsed) return otherwise;
    number = *parsed;
  } else if (subject.is_float()) {
    number = subject.number();
  } else {
    return otherwise;
  }
  if (!std::isfinite(number)) return otherwise;
  if (std::abs(number) >= 0x1p63) {
    return error(ErrorCode::kUnsupported, "whole numbers beyond 64 bits are not supported");
  }
  return Value(static_cast<std::int64_t>(number));
}

Result<Value> to_float(const Value& subject, const Arguments& arguments, Meter& /*meter*/) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"default"}));
  if (subject.is_undefined()) return error(ErrorCode::kBadInput, "{}", subject.undefined_message());
  if (subject.is_number()) return Value(subject.number());
  if (subject.is_string()) {
    if (const auto number = parse_float(subject.string())) return Value(*number);
  }
  return bound.get(0) == nullptr ? Value(0.0) : *bound.get(0);
}

Result<Value> absolute(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  if (subject.is_float()) return Value(std::abs(subject.number()));
  if (subject.is_integral()) {
    if (subject.integral() >= 0) return Value(subject.integral());
    return arithmetic("-", Value(std::int64_t{0}), subject, meter);
  }
  return error(ErrorCode::kBadInput, "bad operand type for abs(): '{}'", type_name(subject));
}

// Python's round() to `precision` digits: half to even, of the exact value of the double.
double round_common(double value, int precision) {
  if (precision >= 0) {
    return std::strtod(fmt::format("{:.{}f}", value, precision).c_str(), nullptr);
  }
  const double scale = std::pow(10.0, -precision);
  return std::nearbyint(value / scale) * scale;
}

Result<Value> round_number(const Value& subject, const Arguments& arguments, Meter& /*meter*/) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"precision", "method"}));
  TG_ASSIGN(const std::int64_t precision, bound.integer_or(0, 0));
  TG_ASSIGN(const std::string method, bound.text_or(1, "common"));
  if (!subject.is_number()) {
    return error(ErrorCode::kBadInput, "round needs a number, not {}", type_name(subject));
  }
  if (precision < -300 || precision > 300) {
    return error(ErrorCode::kBadInput, "a precision of {} digits", precision);
  }
  const double value = subject.number();
  if (method == "common") {
    if (!subject.is_integral()) {
      return Value(std::isfinite(value) ? round_common(value, static_cast<int>(precision)) : value);
    }
    if (precision >= 0) return Value(subject.integral());
    const double rounded = round_common(value, static_cast<int>(precision));
    if (std::abs(rounded) >= 0x1p53) {
      return error(ErrorCode::kUnsupported, "rounding of whole numbers beyond 53 bits");
    }
    return Value(static_cast<std::int64_t>(rounded));
  }
  if (method != "ceil" && method != "floor") {
    return error(ErrorCode::kBadInput, "method must be common, ceil or floor");
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double whole = method == "ceil" ? std::ceil(value * scale) : std::floor(value * scale);
  if (!std::isfinite(whole)) {
    return error(ErrorCode::kBadInput, "{} to {} digits is no finite number", value, precision);
  }
  return Value(whole / scale);
}

Result<Value> format_values(const Value& subject, const Arguments& arguments, Meter& meter) {
  if (arguments.named.empty()) {
    return percent_format(text_of(subject, meter), arguments.positional, meter);
  }
  if (!arguments.positional.empty()) {
    return error(ErrorCode::kBadInput, "can't handle positional and keyword arguments at once");
  }
  auto names = std::make_shared<Dict>();
  for (const auto& [name, value] : arguments.named) {
    TG_RETURN_IF_ERROR(names->set_text(name, value));
  }
  return percent_format(text_of(subject, meter), {Value(DictPtr(std::move(names)))}, meter);
}

Result<Value> count_words(const Value& subject, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  // Jinja counts runs of letters, digits and "_"; every other character parts words.
  const std::string text = text_of(subject, meter);
  std::int64_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool is_word =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (static_cast<unsigned char>(c) >= 0x80) {
      return error(ErrorCode::kUnsupported, "wordcount is supported for ASCII texts only");
    }
    if (is_word && !inside) ++words;
    inside = is_word;
  }
  return Value(words);
}

constexpr Builtin kFilters[] = {
    {"abs", absolute},
    {"batch", filters::batch},
    {"capitalize", change_text<capitalize_text>},
    {"center", center},
    {"count", filters::length},
    {"d", default_value},
    {"default", default_value},
    {"dictsort", filters::dictsort},
    {"e", change_text<escape_html>},
    {"escape", change_text<escape_html>},
    {"first", filters::first},
    {"float", to_float},
    {"forceescape", change_text<escape_html>},
    {"format", format_values},
    {"indent", indent},
    {"int", to_integer},
    {"items", filters::items},
    {"join", filters::join},
    {"last", filters::last},
    {"length", filters::length},
    {"list", filters::list},
    {"lower", change_text<to_lower>},
    {"map", filters::map},
    {"max", filters::max},
    {"min", filters::min},
    {"reject", filters::reject},
    {"rejectattr", filters::rejectattr},
    {"replace", replace},
    {"reverse", filters::reverse},
    {"round", round_number},
    {"safe", to_text},
    {"select", filters::select},
    {"selectattr", filters::selectattr},
    {"slice", filters::slice},
    {"sort", filters::sort},
    {"string", to_text},
    {"sum", filters::sum},
    {"title", change_text<title_words>},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"unique", filters::unique},
    {"upper", change_text<to_upper>},
    {"wordcount", count_words},
};

}  // namespace

const Builtin* find_filter(std::string_view name) {
  const auto* found = std::find_if(std::begin(kFilters), std::end(kFilters),
                                   [&](const Builtin& filter) { return filter.name == name; });
  return found == std::end(kFilters) ? nullptr : found;
}

}  // namespace tg::jinja
