// The methods of str (declared in methods.h).
#include <algorithm>

#include "text/jinja/methods.h"
#include "text/jinja/text_operations.h"
#include "text/jinja/unicode.h"
#include "text/jinja/value_text.h"

namespace tg::jinja {
namespace {

Result<Value> pair_of_cut(std::string_view before, std::string_view cut, std::string_view after) {
  return make_tuple({Value(before), Value(cut), Value(after)});
}

template <bool kFromRight>
Result<std::size_t> find_one(std::string_view text, std::string_view part, Meter& meter) {
  if (kFromRight) return find_last_part(text, part, meter);
  return find_part(text, part, 0);
}

template <bool kLeft, bool kRight>
Result<Value> text_strip(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"chars"}));
  const std::string& text = self.string();
  if (bound.get(0) == nullptr || bound.get(0)->is_none()) {
    return Value(strip_spaces(text, kLeft, kRight));
  }
  TG_ASSIGN(const std::string chars, bound.text(0));
  // Each character of the text may be compared with each of `chars`.
  if (!meter.spend_bytes(text.size()) ||
      !meter.spend(static_cast<std::int64_t>(chars.size() / 16 * (text.size() / 16)))) {
    return meter.exhausted();
  }
  return Value(strip_chars(text, chars, kLeft, kRight));
}

// str.split() or, from the right, str.rsplit().
template <bool kFromRight>
Result<Value> text_split(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"sep", "maxsplit"}));
  TG_ASSIGN(std::int64_t left, bound.integer_or(1, -1));
  std::string_view rest = self.string();
  meter.spend_bytes(rest.size());
  List parts;
  const bool by_spaces = bound.get(0) == nullptr || bound.get(0)->is_none();
  std::string separator;
  if (!by_spaces) {
    TG_ASSIGN(separator, bound.text(0));
    if (separator.empty()) return error(ErrorCode::kBadInput, "empty separator");
  }
  while (true) {
    if (!meter.spend(1)) return meter.exhausted();
    if (by_spaces) {
      // Only on this side: what remains when the splits are used up keeps its blanks on the other.
      rest = strip_spaces(rest, !kFromRight, kFromRight);
      if (rest.empty()) break;
    }
    if (left == 0) {
      parts.emplace_back(rest);
      break;
    }
    --left;
    std::size_t cut = std::string_view::npos;
    std::size_t width = separator.size();
    if (!by_spaces) {
      TG_ASSIGN(cut, find_one<kFromRight>(rest, separator, meter));
    } else if (kFromRight) {
      std::size_t at = rest.size();
      while (at > 0) {
        std::size_t start = at - 1;
        while (start > 0 && (static_cast<unsigned char>(rest[start]) & 0xC0U) == 0x80U) --start;
        std::size_t next = start;
        if (is_space(next_code_point(rest, next))) {
          cut = start;
          width = at - start;
          break;
        }
        at = start;
      }
    } else {
      for (std::size_t at = 0; at < rest.size();) {
        const std::size_t start = at;
        if (is_space(next_code_point(rest, at))) {
          cut = start;
          width = at - start;
          break;
        }
      }
    }
    if (cut == std::string_view::npos) {
      parts.emplace_back(rest);
      break;
    }
    parts.emplace_back(kFromRight ? rest.substr(cut + width) : rest.substr(0, cut));
    rest = kFromRight ? rest.substr(0, cut) : rest.substr(cut + width);
  }
  if (kFromRight) std::reverse(parts.begin(), parts.end());
  return make_list(std::move(parts));
}

// The part of a text that the arguments `start` and `end` of find() and its like leave: positions
// of characters, as in a slice. Behind the end of the text there is nothing to find, not even "".
struct Window {
  std::string_view text;
  std::size_t before = 0;  // characters in front of it
  bool outside = false;
};

Result<Window> window_of(const std::string& text, const Bound& bound, Meter& meter) {
  meter.spend_bytes(text.size());
  if (bound.get(1) == nullptr && bound.get(2) == nullptr) return Window{text};
  const auto length = static_cast<std::int64_t>(code_point_count(text));
  const auto position = [&](std::size_t i, std::int64_t otherwise) -> Result<std::int64_t> {
    if (bound.get(i) == nullptr || bound.get(i)->is_none()) return otherwise;
    TG_ASSIGN(const std::int64_t given, bound.integer_or(i, otherwise));
    return given < 0 ? std::max<std::int64_t>(given + length, 0) : given;
  };
  TG_ASSIGN(const std::int64_t start, position(1, 0));
  TG_ASSIGN(const std::int64_t end, position(2, length));
  if (start > std::min(end, length)) return Window{{}, 0, true};
  const std::size_t first = byte_offset(text, static_cast<std::size_t>(start));
  const std::size_t last = byte_offset(text, static_cast<std::size_t>(std::min(end, length)));
  return Window{std::string_view(text).substr(first, last - first),
                static_cast<std::size_t>(start)};
}

template <bool kAtEnd>
Result<Value> starts_or_ends(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"prefix", "start", "end"}));
  TG_ASSIGN(const Window window, window_of(self.string(), bound, meter));
  const auto fits = [&](const std::string& part) {
    return !window.outside &&
           (kAtEnd ? window.text.ends_with(part) : window.text.starts_with(part));
  };
  const Value* given = bound.get(0);
  if (given != nullptr && given->is_sequence() &&
      given->sequence().flavour == Sequence::Flavour::kTuple) {
    const List& all = given->sequence().items;
    return Value(std::any_of(all.begin(), all.end(), [&](const Value& one) {
      return one.is_string() && fits(one.string());
    }));
  }
  TG_ASSIGN(const std::string part, bound.text(0));
  return Value(fits(part));
}

// find() and rfind(), -1 when it is not there; or index() and rindex(), an error then.
template <bool kFromRight, bool kMustBeThere>
Result<Value> text_find(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"sub", "start", "end"}));
  TG_ASSIGN(const std::string part, bound.text(0));
  TG_ASSIGN(const Window window, window_of(self.string(), bound, meter));
  TG_ASSIGN(const std::size_t at, find_one<kFromRight>(window.text, part, meter));
  if (window.outside || at == std::string::npos) {
    if (kMustBeThere) return error(ErrorCode::kBadInput, "substring not found");
    return Value(std::int64_t{-1});
  }
  return Value(
      static_cast<std::int64_t>(window.before + code_point_count(window.text.substr(0, at))));
}

template <bool kFromRight>
Result<Value> text_partition(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"sep"}));
  TG_ASSIGN(const std::string separator, bound.text(0));
  if (separator.empty()) return error(ErrorCode::kBadInput, "empty separator");
  const std::string_view text = self.string();
  meter.spend_bytes(text.size());
  TG_ASSIGN(const std::size_t at, find_one<kFromRight>(text, separator, meter));
  if (at == std::string_view::npos) {
    return kFromRight ? pair_of_cut("", "", text) : pair_of_cut(text, "", "");
  }
  return pair_of_cut(text.substr(0, at), separator, text.substr(at + separator.size()));
}

Result<Value> text_replace(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"old", "new", "count"}));
  TG_ASSIGN(const std::string old, bound.text(0));
  TG_ASSIGN(const std::string replacement, bound.text(1));
  TG_ASSIGN(const std::int64_t count, bound.integer_or(2, -1));
  TG_ASSIGN(std::string out, replace_text(self.string(), old, replacement, count, meter));
  return Value(std::move(out));
}

template <std::string (*kChange)(std::string_view)>
Result<Value> change_case(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  if (!meter.spend_bytes(self.string().size())) return meter.exhausted();
  return Value(kChange(self.string()));
}

// str.title(): upper case for each letter that follows no letter.
std::string title_text(std::string_view text) {
  std::string out;
  bool after_letter = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t code = next_code_point(text, at);
    const std::string_view one = text.substr(start, at - start);
    out += after_letter ? to_lower(one) : to_upper(one);
    after_letter = is_cased(code);
  }
  return out;
}

template <bool (*kIs)(char32_t)>
Result<Value> all_are(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  const std::string& text = self.string();
  meter.spend_bytes(text.size());
  for (std::size_t at = 0; at < text.size();) {
    if (!kIs(next_code_point(text, at))) return Value(false);
  }
  return Value(!text.empty());
}

// islower() and isupper(): no letter of the other case, and at least one of this.
template <bool (*kIs)(char32_t), bool (*kIsNot)(char32_t)>
Result<Value> case_is(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  const std::string& text = self.string();
  meter.spend_bytes(text.size());
  bool any = false;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t code = next_code_point(text, at);
    if (kIsNot(code)) return Value(false);
    any = any || kIs(code);
  }
  return Value(any);
}

// Each letter in the other case.
std::string swap_case(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t code = next_code_point(text, at);
    const std::string_view one = text.substr(start, at - start);
    out += is_upper(code) ? to_lower(one) : to_upper(one);
  }
  return out;
}

// str.casefold(): lower case, and letters that differ only in how they are written become one.
std::string fold_case(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t code = next_code_point(text, at);
    if (code == 0xDF) {
      out += "ss";
    } else if (code == 0x17F) {
      out += 's';  // long s
    } else if (code == 0x3C2) {
      append_utf8(out, 0x3C3);  // final sigma
    } else if (code == 0xB5) {
      append_utf8(out, 0x3BC);  // micro sign
    } else {
      out += to_lower(text.substr(start, at - start));
    }
  }
  return out;
}

// str.istitle(): upper case exactly where a word begins, and a word at all.
Result<Value> is_title(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  meter.spend_bytes(self.string().size());
  bool any = false;
  bool after_letter = false;
  for (std::size_t at = 0; at < self.string().size();) {
    const char32_t code = next_code_point(self.string(), at);
    if (is_upper(code) ? after_letter : is_lower(code) && !after_letter) return Value(false);
    after_letter = is_cased(code);
    any = any || after_letter;
  }
  return Value(any);
}

Result<Value> is_ascii(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {}));
  const std::string& text = self.string();
  meter.spend_bytes(text.size());
  return Value(std::all_of(text.begin(), text.end(),
                           [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
}

bool is_ascii_digit(char32_t code) { return code >= '0' && code <= '9'; }
bool is_ascii_letter(char32_t code) {
  return (code | 0x20U) >= 'a' && (code | 0x20U) <= 'z' && code < 0x80;
}
bool is_ascii_letter_or_digit(char32_t code) {
  return is_ascii_digit(code) || is_ascii_letter(code);
}

// isdigit() and its like would need the tables of Unicode beyond ASCII.
template <bool (*kIs)(char32_t)>
Result<Value> ascii_are(const Value& self, const Arguments& arguments, Meter& meter) {
  const std::string& text = self.string();
  if (std::any_of(text.begin(), text.end(),
                  [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
    return error(ErrorCode::kUnsupported,
                 "isalpha(), isalnum() and isdigit() are supported for ASCII texts only");
  }
  return all_are<kIs>(self, arguments, meter);
}

Result<Value> text_join(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"iterable"}));
  if (bound.get(0) == nullptr) return error(ErrorCode::kBadInput, "join() needs an argument");
  TG_ASSIGN(const SequencePtr items, elements(*bound.get(0), meter));
  for (const Value& item : items->items) {
    if (!item.is_string()) {
      return error(ErrorCode::kBadInput, "sequence item: expected str instance, {} found",
                   type_name(item));
    }
  }
  TG_ASSIGN(std::string out, join_text(items->items, self.string(), meter));
  return Value(std::move(out));
}

enum class Side { kLeft, kRight, kMiddle };
template <Side kSide>
Result<Value> justify(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"width", "fillchar"}));
  if (bound.get(0) == nullptr) return error(ErrorCode::kBadInput, "needs the argument 'width'");
  TG_ASSIGN(const std::int64_t width, bound.integer_or(0, 0));
  TG_ASSIGN(const std::string fill, bound.text_or(1, " "));
  if (code_point_count(fill) != 1) {
    return error(ErrorCode::kBadInput, "the fill character must be exactly one character long");
  }
  TG_ASSIGN(const std::int64_t length, length_of(self));
  if (width <= length) return self;
  const std::int64_t missing = width - length;
  TG_ASSIGN(const Value padding, arithmetic("*", Value(fill), Value(missing), meter));
  // In the middle, the odd one goes to the left if the width is odd too (as CPython has it).
  const std::int64_t in_front = kSide == Side::kLeft    ? 0
                                : kSide == Side::kRight ? missing
                                                        : missing / 2 + (missing & width & 1);
  const std::size_t cut = static_cast<std::size_t>(in_front) * fill.size();
  return Value(padding.string().substr(0, cut) + self.string() + padding.string().substr(cut));
}

Result<Value> split_into_lines(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"keepends"}));
  if (!meter.spend(static_cast<std::int64_t>(self.string().size()))) return meter.exhausted();
  List lines;
  for (const std::string_view line : split_lines(self.string(), bound.truth_or(0, false))) {
    lines.emplace_back(line);
  }
  return make_list(std::move(lines));
}

template <bool kAtEnd>
Result<Value> remove_part(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"part"}));
  TG_ASSIGN(const std::string part, bound.text(0));
  std::string_view text = self.string();
  meter.spend_bytes(text.size());
  if (kAtEnd && text.ends_with(part)) text.remove_suffix(part.size());
  if (!kAtEnd && text.starts_with(part)) text.remove_prefix(part.size());
  return Value(text);
}

Result<Value> count_part(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"sub", "start", "end"}));
  TG_ASSIGN(const std::string part, bound.text(0));
  TG_ASSIGN(const Window window, window_of(self.string(), bound, meter));
  const std::string_view text = window.text;
  if (window.outside) return Value(std::int64_t{0});
  if (part.empty()) return Value(static_cast<std::int64_t>(code_point_count(text) + 1));
  std::int64_t count = 0;
  for (std::size_t at = find_part(text, part, 0); at != std::string::npos;
       at = find_part(text, part, at + part.size())) {
    ++count;
  }
  return Value(count);
}

// str.format() with {}, {0} and {name}; no attributes, conversions and format specifications.
Result<Value> text_format(const Value& self, const Arguments& arguments, Meter& meter) {
  const std::string& text = self.string();
  std::string out;
  std::size_t automatic = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c == '{' || c == '}') && i + 1 < text.size() && text[i + 1] == c) {
      out += c;
      ++i;
    } else if (c == '}') {
      return error(ErrorCode::kBadInput, "single '}}' encountered in format string");
    } else if (c == '{') {
      const std::size_t end = text.find('}', i);
      if (end == std::string::npos) {
        return error(ErrorCode::kBadInput, "single '{{' encountered in format string");
      }
      const std::string field = text.substr(i + 1, end - i - 1);
      if (field.find_first_of(".[:!{") != std::string::npos) {
        return error(ErrorCode::kUnsupported, "format() does not support the field '{{{}}}'",
                     field);
      }
      const Value* value = nullptr;
      const auto number =
          field.empty() ? std::optional<std::int64_t>(automatic++) : parse_integer(field, 10);
      if (number && *number >= 0 &&
          static_cast<std::size_t>(*number) < arguments.positional.size()) {
        value = &arguments.positional[static_cast<std::size_t>(*number)];
      }
      for (const auto& [name, given] : arguments.named) {
        if (!number && name == field) value = &given;
      }
      if (value == nullptr) {
        return error(ErrorCode::kBadInput, "format() has no argument for '{{{}}}'", field);
      }
      append_text(*value, out, meter);
      if (!meter.spend(1)) return meter.exhausted();
      i = end;
    } else {
      out += c;
    }
  }
  if (!meter.spend_bytes(out.size())) return meter.exhausted();
  return Value(std::move(out));
}

Result<Value> zero_fill(const Value& self, const Arguments& arguments, Meter& meter) {
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"width"}));
  if (bound.get(0) == nullptr) return error(ErrorCode::kBadInput, "needs the argument 'width'");
  TG_ASSIGN(const std::int64_t width, bound.integer_or(0, 0));
  const std::string& text = self.string();
  TG_ASSIGN(const std::int64_t length, length_of(self));
  if (width <= length) return self;
  TG_ASSIGN(const Value zeros, arithmetic("*", Value("0"), Value(width - length), meter));
  const std::size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  return Value(text.substr(0, sign) + zeros.string() + text.substr(sign));
}

constexpr MethodEntry kTextMethods[] = {
    {"strip", text_strip<true, true>},
    {"lstrip", text_strip<true, false>},
    {"rstrip", text_strip<false, true>},
    {"split", text_split<false>},
    {"rsplit", text_split<true>},
    {"splitlines", split_into_lines},
    {"startswith", starts_or_ends<false>},
    {"endswith", starts_or_ends<true>},
    {"replace", text_replace},
    {"upper", change_case<to_upper>},
    {"lower", change_case<to_lower>},
    {"title", change_case<title_text>},
    {"capitalize", change_case<capitalize_text>},
    {"swapcase", change_case<swap_case>},
    {"casefold", change_case<fold_case>},
    {"find", text_find<false, false>},
    {"rfind", text_find<true, false>},
    {"index", text_find<false, true>},
    {"rindex", text_find<true, true>},
    {"count", count_part},
    {"partition", text_partition<false>},
    {"rpartition", text_partition<true>},
    {"removeprefix", remove_part<false>},
    {"removesuffix", remove_part<true>},
    {"join", text_join},
    {"format", text_format},
    {"ljust", justify<Side::kLeft>},
    {"rjust", justify<Side::kRight>},
    {"center", justify<Side::kMiddle>},
    {"zfill", zero_fill},
    {"isspace", all_are<is_space>},
    {"islower", case_is<is_lower, is_upper>},
    {"isupper", case_is<is_upper, is_lower>},
    {"istitle", is_title},
    {"isascii", is_ascii},
    {"isdigit", ascii_are<is_ascii_digit>},
    {"isdecimal", ascii_are<is_ascii_digit>},
    {"isnumeric", ascii_are<is_ascii_digit>},
    {"isalpha", ascii_are<is_ascii_letter>},
    {"isalnum", ascii_are<is_ascii_letter_or_digit>},
};

}  // namespace

MethodFunction find_text_method(std::string_view name) { return find_in(kTextMethods, name); }

}  // namespace tg::jinja
