// The JSON half of value_text.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "text/jinja/unicode.h"
#include "text/jinja/value_text.h"
#include "text/utf8.h"

namespace tg::jinja {
namespace {

using Json = nlohmann::ordered_json;

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, Meter& meter) : style_(style), meter_(meter) {}

  Status write(const Value& value, int level) {
    if (!meter_.spend(1)) return meter_.exhausted();
    if (out_.size() > meter_.limits().output_bytes && !meter_.spend_bytes(out_.size())) {
      return meter_.exhausted();
    }
    if (value.is_none()) {
      out_ += "null";
    } else if (value.is_bool()) {
      out_ += value.boolean() ? "true" : "false";
    } else if (value.is_int()) {
      out_ += std::to_string(value.integral());
    } else if (value.is_float()) {
      out_ += number(value.number());
    } else if (value.is_string()) {
      if (!meter_.spend_bytes(value.string().size())) return meter_.exhausted();
      write_string(value.string());
    } else if (value.is_dict()) {
      return write_dict(value.dict(), level);
    } else if (value.is_sequence() && value.sequence().is_list_or_tuple()) {
      return write_list(value.sequence().items, level);
    } else {
      return error(ErrorCode::kBadInput, "tojson: object of type {} is not JSON serializable",
                   type_name(value));
    }
    return {};
  }

  std::string take() { return std::move(out_); }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return float_text(value);
  }

  void new_line(int level) {
    if (!style_.pretty) return;
    out_ += '\n';
    const std::size_t times = static_cast<std::size_t>(level);
    // `times` is at most kMaxValueDepth, but the indent can be any text.
    if (!meter_.spend_bytes(times * style_.indent.size())) return;
    for (std::size_t i = 0; i < times; ++i) out_ += style_.indent;
  }

  Status write_list(const List& items, int level) {
    if (items.empty()) {
      out_ += "[]";
      return {};
    }
    out_ += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(level + 1);
      TG_RETURN_IF_ERROR(write(items[i], level + 1));
    }
    new_line(level);
    out_ += ']';
    return {};
  }

  Status write_dict(const Dict& dict, int level) {
    if (dict.size() == 0) {
      out_ += "{}";
      return {};
    }
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      for (const Dict::Entry* entry : entries) {
        if (!entry->first.is_string()) {
          return error(ErrorCode::kUnsupported,
                       "tojson: sort_keys with a key of type {} (only str is supported)",
                       type_name(entry->first));
        }
      }
      std::sort(entries.begin(), entries.end(),
                [](const auto* a, const auto* b) { return a->first.string() < b->first.string(); });
    }
    out_ += '{';
    bool first = true;
    for (const Dict::Entry* entry : entries) {
      if (!first) out_ += style_.item_separator;
      first = false;
      new_line(level + 1);
      TG_RETURN_IF_ERROR(write_key(entry->first));
      out_ += style_.key_separator;
      TG_RETURN_IF_ERROR(write(entry->second, level + 1));
    }
    new_line(level);
    out_ += '}';
    return {};
  }

  Status write_key(const Value& key) {
    if (key.is_string()) {
      if (!meter_.spend_bytes(key.string().size())) return meter_.exhausted();
      write_string(key.string());
    } else if (key.is_none()) {
      out_ += "\"null\"";
    } else if (key.is_bool()) {
      out_ += key.boolean() ? "\"true\"" : "\"false\"";
    } else if (key.is_int()) {
      out_ += fmt::format("\"{}\"", key.integral());
    } else if (key.is_float()) {
      out_ += '"' + number(key.number()) + '"';
    } else {
      return error(ErrorCode::kBadInput,
                   "tojson: keys must be str, int, float, bool or None, not {}", type_name(key));
    }
    return {};
  }

  void write_string(std::string_view text) {
    out_ += '"';
    for (std::size_t at = 0; at < text.size();) {
      if (out_.size() > meter_.limits().output_bytes && !meter_.spend_bytes(out_.size())) return;
      const std::size_t start = at;
      const auto code = static_cast<std::uint32_t>(next_code_point(text, at));
      switch (code) {
        case '"':
          out_ += "\\\"";
          continue;
        case '\\':
          out_ += "\\\\";
          continue;
        case '\n':
          out_ += "\\n";
          continue;
        case '\r':
          out_ += "\\r";
          continue;
        case '\t':
          out_ += "\\t";
          continue;
        case '\f':
          out_ += "\\f";
          continue;
        case '\b':
          out_ += "\\b";
          continue;
        default:
          break;
      }
      if (code < 0x20 || (style_.ensure_ascii && code >= 0x7F && code < 0x10000)) {
        out_ += fmt::format("\\u{:04x}", code);
      } else if (style_.ensure_ascii && code >= 0x10000) {
        const std::uint32_t rest = code - 0x10000;
        out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FFU));
      } else {
        out_ += text.substr(start, at - start);
      }
    }
    out_ += '"';
  }

  const JsonStyle& style_;
  Meter& meter_;
  std::string out_;
};

// JSON made by a program, not parsed, may hold any bytes.
Result<Value> text_value(const std::string& text) {
  if (valid_utf8_prefix(text) != text.size()) {
    return error(ErrorCode::kBadInput, "{} is not UTF-8", shown_text(text));
  }
  return Value(text);
}

Result<Value> convert(const Json& json, int level) {
  if (level > kMaxValueDepth) {
    return error(ErrorCode::kOutOfCapacity, "JSON nested deeper than {}", kMaxValueDepth);
  }
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_integer:
      return Value(json.get<std::int64_t>());
    case Json::value_t::number_unsigned: {
      const auto number = json.get<std::uint64_t>();
      if (number > static_cast<std::uint64_t>(INT64_MAX)) return Value(static_cast<double>(number));
      return Value(static_cast<std::int64_t>(number));
    }
    case Json::value_t::number_float:
      return Value(json.get<double>());
    case Json::value_t::string:
      return text_value(json.get_ref<const std::string&>());
    case Json::value_t::array: {
      List items;
      items.reserve(json.size());
      for (const Json& element : json) {
        TG_ASSIGN(Value item, convert(element, level + 1));
        items.push_back(std::move(item));
      }
      return make_list(std::move(items));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, element] : json.items()) {
        TG_RETURN_IF_ERROR(text_value(key));
        TG_ASSIGN(Value item, convert(element, level + 1));
        TG_RETURN_IF_ERROR(dict->set_text(key, std::move(item)));
      }
      return Value(DictPtr(std::move(dict)));
    }
    default:
      return Value::none();
  }
}

}  // namespace

Result<std::string> to_json(const Value& value, const JsonStyle& style, Meter& meter) {
  JsonWriter writer(style, meter);
  TG_RETURN_IF_ERROR(writer.write(value, 0));
  if (!meter.ok()) return meter.exhausted();
  return writer.take();
}

Result<Value> from_json(const nlohmann::ordered_json& json) { return convert(json, 0); }

}  // namespace tg::jinja
