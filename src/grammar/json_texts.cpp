#include "grammar/json_texts.h"

#include <algorithm>
#include <array>
#include <utility>

#include "grammar/number_range.h"
#include "grammar/regex_parser.h"
#include "text/utf8.h"

namespace tg {
namespace {

constexpr std::uint32_t kMostIndent = 32;  // eight levels of four
constexpr std::uint32_t kMostTabs = 8;

// What stands for itself inside of quotes.
CodePointSet plain_characters() {
  return CodePointSet::of({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}).complement();
}

CodePointSet hex_digits() { return CodePointSet::of({{'0', '9'}, {'A', 'F'}, {'a', 'f'}}); }

Regex quoted(Regex inside) {
  return regex_sequence({regex_literal("\""), std::move(inside), regex_literal("\"")});
}

std::string escape_of(char32_t c) {
  constexpr std::array<std::pair<char32_t, const char*>, 7> kShort = {{{'"', "\\\""},
                                                                       {'\\', "\\\\"},
                                                                       {'\b', "\\b"},
                                                                       {'\f', "\\f"},
                                                                       {'\n', "\\n"},
                                                                       {'\r', "\\r"},
                                                                       {'\t', "\\t"}}};
  for (const auto& [character, text] : kShort) {
    if (character == c) return text;
  }
  return fmt::format("\\u{:04x}", static_cast<unsigned>(c));
}

Regex spelled_inside(const Regex& tree) {
  if (tree->kind == RegexTree::Kind::kSet) {
    // Most sets have nothing to be escaped.
    const auto plain = [](const CodePointRange& range) {
      const auto has = [&range](char32_t c) { return range.first <= c && c <= range.last; };
      return range.first > 0x1F && !has('"') && !has('\\');
    };
    const std::vector<CodePointRange>& ranges = tree->set.ranges();
    return std::all_of(ranges.begin(), ranges.end(), plain) ? tree : json_character_of(tree->set);
  }
  if (tree->parts.empty()) return tree;
  std::vector<Regex> parts;
  parts.reserve(tree->parts.size());
  bool same = true;
  for (const Regex& part : tree->parts) {
    parts.push_back(spelled_inside(part));
    same = same && parts.back() == part;
  }
  if (same) return tree;
  auto copy = std::make_shared<RegexTree>(*tree);
  copy->parts = std::move(parts);
  return copy;
}

struct FormatPattern {
  std::string_view name;
  std::string_view pattern;  // empty: a format of JSON Schema that is not supported
};

// Of the proleptic Gregorian calendar from the year 1 on, with its leap years.
#define TG_YEAR "(?:000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})"
#define TG_DAY                                                                          \
  "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|" \
  "02-(?:0[1-9]|1\\d|2[0-8]))"
#define TG_FOURTH "(?:0[48]|[2468][048]|[13579][26])"
#define TG_DATE "(?:" TG_YEAR "-" TG_DAY "|(?:\\d\\d" TG_FOURTH "|" TG_FOURTH "00)-02-29)"
#define TG_TIME                                                                      \
  "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:[01]\\d|2[0-3]):" \
  "[0-5]\\d)"
#define TG_LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define TG_HOST TG_LABEL "(?:\\." TG_LABEL "){0,3}"

constexpr std::array<FormatPattern, 19> kFormats = {{
    {"date", TG_DATE},
    {"time", TG_TIME},
    {"date-time", TG_DATE "T" TG_TIME},
    {"duration",
     "P(?:\\d{1,4}W|(?:\\d{1,4}Y(?:\\d{1,4}M(?:\\d{1,4}D)?)?|\\d{1,4}M(?:\\d{1,4}D)?|\\d{1,4}D)"
     "(?:T(?:\\d{1,4}H(?:\\d{1,4}M(?:\\d{1,4}S)?)?|\\d{1,4}M(?:\\d{1,4}S)?|\\d{1,4}S))?|"
     "T(?:\\d{1,4}H(?:\\d{1,4}M(?:\\d{1,4}S)?)?|\\d{1,4}M(?:\\d{1,4}S)?|\\d{1,4}S))"},
    {"uuid", "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"},
    {"email",
     "[A-Za-z0-9_%+-]{1,30}(?:\\.[A-Za-z0-9_%+-]{1,30}){0,1}@" TG_HOST "\\.[A-Za-z]{2,20}"},
    {"ipv4",
     "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)(?:\\.(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)){3}"},
    {"hostname", TG_HOST},
    {"uri", "[a-z][a-z0-9+.-]{0,15}://" TG_HOST "(?::\\d{1,4})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*"
            "(?:\\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?(?:#[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?"},
    {"ipv6", ""},
    {"idn-email", ""},
    {"idn-hostname", ""},
    {"iri", ""},
    {"iri-reference", ""},
    {"uri-reference", ""},
    {"uri-template", ""},
    {"json-pointer", ""},
    {"relative-json-pointer", ""},
    {"regex", ""},
}};

#undef TG_YEAR
#undef TG_DAY
#undef TG_FOURTH
#undef TG_DATE
#undef TG_TIME
#undef TG_LABEL
#undef TG_HOST

}  // namespace

Regex json_space() {
  const auto indent = [](const char* sign, std::uint32_t most) {
    return regex_repeat(regex_literal(sign), 0, most);
  };
  return regex_either(
      {regex_empty(), regex_literal(" "),
       regex_sequence({regex_literal("\n"),
                       regex_either({indent(" ", kMostIndent), indent("\t", kMostTabs)})})});
}

Regex json_character() {
  const auto set = [](const std::vector<CodePointRange>& ranges) {
    return regex_set(CodePointSet::of(ranges));
  };
  const Regex hex = regex_set(hex_digits());
  const auto hexes = [&hex](std::uint32_t count) { return regex_repeat(hex, count, count); };
  const Regex d = set({{'D', 'D'}, {'d', 'd'}});
  const Regex no_surrogate = regex_either(
      {regex_sequence(
           {regex_set(hex_digits().without(CodePointSet::of({{'D', 'D'}, {'d', 'd'}}))), hexes(3)}),
       regex_sequence({d, set({{'0', '7'}}), hexes(2)})});
  const Regex pair =
      regex_sequence({d, set({{'8', '9'}, {'A', 'B'}, {'a', 'b'}}), hexes(2), regex_literal("\\u"),
                      d, set({{'C', 'F'}, {'c', 'f'}}), hexes(2)});
  return regex_either(
      {regex_set(plain_characters()),
       regex_sequence({regex_literal("\\"),
                       regex_either({set({{'"', '"'},
                                          {'/', '/'},
                                          {'\\', '\\'},
                                          {'b', 'b'},
                                          {'f', 'f'},
                                          {'n', 'n'},
                                          {'r', 'r'},
                                          {'t', 't'}}),
                                     regex_sequence({regex_literal("u"),
                                                     regex_either({no_surrogate, pair})})})})});
}

Regex json_string() { return quoted(regex_repeat(json_character(), 0, RegexTree::kNoLimit)); }

Regex json_string_of(const Regex& text) { return quoted(spelled_inside(text)); }

std::string json_text_of(std::string_view utf8) {
  std::string out = "\"";
  for (const char c : utf8) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x1F && c != '"' && c != '\\') {
      out += c;
    } else {
      out += escape_of(byte);
    }
  }
  return out + '"';
}

Regex json_character_of(const CodePointSet& set) {
  std::vector<Regex> parts{regex_set(set.without(plain_characters().complement()))};
  const CodePointSet escaped = set.without(plain_characters());
  for (const CodePointRange& range : escaped.ranges()) {
    for (char32_t c = range.first; c <= range.last; ++c) {
      parts.push_back(regex_literal(escape_of(c)));
    }
  }
  return regex_either(std::move(parts));
}

Regex json_value(const nlohmann::ordered_json& value) {
  if (value.is_string()) {
    return json_string_of(regex_literal(value.get_ref<const std::string&>()));
  }
  if (!value.is_structured()) return regex_literal(value.dump());
  std::vector<Regex> parts{regex_literal(value.is_object() ? "{" : "["), json_space()};
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    if (!first) {
      parts.push_back(regex_literal(","));
      parts.push_back(json_space());
    }
    first = false;
    if (value.is_object()) {
      parts.push_back(json_string_of(regex_literal(key)));
      parts.push_back(regex_literal(":"));
      parts.push_back(json_space());
    }
    parts.push_back(json_value(member));
  }
  if (!first) parts.push_back(json_space());
  parts.push_back(regex_literal(value.is_object() ? "}" : "]"));
  return regex_sequence(std::move(parts));
}

Result<Regex> json_format(std::string_view name) {
  for (const FormatPattern& format : kFormats) {
    if (format.name != name) continue;
    if (format.pattern.empty()) {
      return error(ErrorCode::kUnsupported, "\"format\": \"{}\" is not supported", name);
    }
    return parse_regex(format.pattern, RegexUse::kWholeText);
  }
  return regex_empty();
}

}  // namespace tg
