// Operators on numbers, texts and lists, and % formatting (declared in builtins.h).
#include <cmath>
#include <limits>

#include "text/jinja/builtins.h"
#include "text/jinja/unicode.h"
#include "text/jinja/value_text.h"

namespace tg::jinja {
namespace {

tl::unexpected<Error> overflow() {
  return error(ErrorCode::kUnsupported, "whole numbers beyond 64 bits are not supported");
}

Result<Value> integer_power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return overflow();
  }
  return Value(result);
}

Result<Value> integer_arithmetic(std::string_view op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflows = false;
  if (op == "+") {
    overflows = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflows = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflows = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    if (b >= 0) return integer_power(a, b);
    if (a == 0) return error(ErrorCode::kBadInput, "0 to a negative power");
    return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
  } else {
    if (b == 0) return error(ErrorCode::kBadInput, "division by zero");
    if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
    if (b == -1) {  // the one quotient that can overflow
      overflows = op == "//" && __builtin_sub_overflow(std::int64_t{0}, a, &result);
    } else {
      // Python rounds down; the remainder has the sign of b.
      const bool correct = a % b != 0 && ((a % b < 0) != (b < 0));
      result = op == "//" ? a / b - (correct ? 1 : 0) : a % b + (correct ? b : 0);
    }
  }
  if (overflows) return overflow();
  return Value(result);
}

Result<Value> float_arithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") {
    const double result = std::pow(a, b);
    if (std::isfinite(a) && std::isfinite(b) && !std::isfinite(result)) {
      return error(ErrorCode::kBadInput, "{} ** {} is no finite number", a, b);
    }
    return Value(result);
  }
  if (b == 0) return error(ErrorCode::kBadInput, "division by zero");
  if (op == "/") return Value(a / b);
  double rest = std::fmod(a, b);
  if (rest != 0 && ((rest < 0) != (b < 0))) rest += b;
  if (op == "%") return Value(rest == 0 ? std::copysign(0.0, b) : rest);
  const double quotient = std::floor((a - rest) / b + 0.5);
  return Value(quotient == 0 ? std::copysign(0.0, a / b) : quotient);
}

Result<Value> repeated(const Value& value, std::int64_t times, Meter& meter) {
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(times, 0));
  if (value.is_string()) {
    const std::string& text = value.string();
    if (text.empty() || count == 0) return Value("");
    // The quotient keeps the product within 64 bits.
    if (count > meter.limits().output_bytes / text.size()) {
      meter.spend_bytes(meter.limits().output_bytes + 1);
      return meter.exhausted();
    }
    if (!meter.spend_bytes(text.size() * count)) return meter.exhausted();
    std::string out;
    out.reserve(text.size() * count);
    for (std::size_t i = 0; i < count; ++i) out += text;
    return Value(std::move(out));
  }
  const List& items = value.sequence().items;
  List out;
  if (!items.empty()) {
    for (std::size_t i = 0; i < count; ++i) {
      if (!meter.spend(static_cast<std::int64_t>(items.size()))) return meter.exhausted();
      out.insert(out.end(), items.begin(), items.end());
    }
  }
  return make_sequence(value.sequence().flavour, std::move(out));
}

bool is_repeatable(const Value& value) {
  return value.is_string() || (value.is_sequence() && value.sequence().is_list_or_tuple());
}

// A number in the letters of one % directive.
std::string padded(std::string body, bool left, bool zero, std::size_t width) {
  const std::size_t length = code_point_count(body);
  if (length >= width) return body;
  if (left) return body + std::string(width - length, ' ');
  if (!zero) return std::string(width - length, ' ') + body;
  const std::size_t sign = !body.empty() && (body[0] == '-' || body[0] == '+') ? 1 : 0;
  return body.substr(0, sign) + std::string(width - length, '0') + body.substr(sign);
}

}  // namespace

Result<Value> arithmetic(std::string_view op, const Value& a, const Value& b, Meter& meter) {
  if (a.is_undefined()) return error(ErrorCode::kBadInput, "{}", a.undefined_message());
  if (b.is_undefined() && !(op == "%" && a.is_string())) {
    return error(ErrorCode::kBadInput, "{}", b.undefined_message());
  }
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) {
      return integer_arithmetic(op, a.integral(), b.integral());
    }
    return float_arithmetic(op, a.number(), b.number());
  }
  if (op == "+" && a.is_string() && b.is_string()) {
    if (!meter.spend_bytes(a.string().size() + b.string().size())) return meter.exhausted();
    return Value(a.string() + b.string());
  }
  if (op == "+" && is_repeatable(a) && is_repeatable(b) && a.is_sequence() && b.is_sequence() &&
      a.sequence().flavour == b.sequence().flavour) {
    List items = a.sequence().items;
    const List& more = b.sequence().items;
    if (!meter.spend(static_cast<std::int64_t>(items.size() + more.size()))) {
      return meter.exhausted();
    }
    items.insert(items.end(), more.begin(), more.end());
    return make_sequence(a.sequence().flavour, std::move(items));
  }
  if (op == "*" && is_repeatable(a) && b.is_integral()) return repeated(a, b.integral(), meter);
  if (op == "*" && a.is_integral() && is_repeatable(b)) return repeated(b, a.integral(), meter);
  if (op == "%" && a.is_string()) {
    const bool several = b.is_sequence() && b.sequence().flavour == Sequence::Flavour::kTuple;
    return percent_format(a.string(), several ? b.sequence().items : List{b}, meter);
  }
  return error(ErrorCode::kBadInput, "unsupported operand type(s) for {}: '{}' and '{}'", op,
               type_name(a), type_name(b));
}

Result<Value> percent_format(std::string_view format, const List& values, Meter& meter) {
  if (!meter.spend(static_cast<std::int64_t>(format.size() / 32))) return meter.exhausted();
  std::string out;
  std::size_t used = 0;
  // A single dict or list, or whatever else has items, is not used up: %(name)s may look things up
  // in it.
  const bool may_be_left =
      values.size() == 1 && (values[0].is_dict() || values[0].is_undefined() ||
                             (values[0].is_sequence() && values[0].sequence().is_indexed() &&
                              values[0].sequence().flavour != Sequence::Flavour::kTuple));
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    const Value* looked_up = nullptr;
    if (i + 1 < format.size() && format[i + 1] == '(') {
      const std::size_t end = format.find(')', i);
      if (end == std::string_view::npos) return error(ErrorCode::kBadInput, "incomplete format");
      if (values.size() != 1 || !values[0].is_dict()) {
        return error(ErrorCode::kBadInput, "format requires a mapping");
      }
      const std::string_view name = format.substr(i + 2, end - i - 2);
      looked_up = values[0].dict().find_text(name);
      if (looked_up == nullptr) {
        return error(ErrorCode::kBadInput, "format: there is no '{}'", name);
      }
      i = end;
    }
    bool left = false, zero = false, plus = false, blank = false;
    for (++i; i < format.size(); ++i) {
      if (format[i] == '-') {
        left = true;
      } else if (format[i] == '0') {
        zero = true;
      } else if (format[i] == '+') {
        plus = true;
      } else if (format[i] == ' ') {
        blank = true;
      } else {
        break;
      }
    }
    constexpr std::size_t kMostPlaces = 1000;  // more are of no use to a template
    const auto number = [&](std::size_t otherwise) {
      std::size_t value = otherwise;
      for (bool first = true; i < format.size() && format[i] >= '0' && format[i] <= '9'; ++i) {
        value = first ? 0 : value;
        first = false;
        value = std::min<std::size_t>(value * 10 + static_cast<std::size_t>(format[i] - '0'),
                                      kMostPlaces + 1);
      }
      return value;
    };
    const std::size_t width = number(0);
    const bool has_precision = i < format.size() && format[i] == '.';
    if (has_precision) ++i;
    const std::size_t precision = has_precision ? number(0) : 6;
    if (width > kMostPlaces || precision > kMostPlaces) {
      return error(ErrorCode::kUnsupported, "format: a width or precision above {}", kMostPlaces);
    }
    if (i >= format.size()) return error(ErrorCode::kBadInput, "incomplete format");
    const char kind = format[i];
    if (kind == '%') {
      out += '%';
      continue;
    }
    if (looked_up == nullptr && used >= values.size()) {
      return error(ErrorCode::kBadInput, "not enough arguments for format string");
    }
    const Value& value = looked_up != nullptr ? *looked_up : values[used++];
    std::string body;
    if (kind == 's' || kind == 'r') {
      body = kind == 's' ? text_of(value, meter) : repr_of(value, meter);
      if (has_precision) body.resize(byte_offset(body, precision));
      zero = false;
    } else if (kind == 'd' || kind == 'i' || kind == 'f' || kind == 'F' || kind == 'x' ||
               kind == 'X') {
      if (!value.is_number()) {
        return error(ErrorCode::kBadInput, "%{} format: a number is required, not {}", kind,
                     type_name(value));
      }
      if (kind == 'f' || kind == 'F') {
        body = fmt::format("{:.{}f}", value.number(), static_cast<int>(precision));
      } else {
        if (!value.is_integral() &&
            (kind == 'x' || kind == 'X' || !(std::abs(value.number()) < 0x1p63))) {
          return error(ErrorCode::kBadInput, "%{} format: an integer is required", kind);
        }
        const std::int64_t whole =
            value.is_integral() ? value.integral() : static_cast<std::int64_t>(value.number());
        body = kind == 'x'   ? fmt::format("{:x}", whole)
               : kind == 'X' ? fmt::format("{:X}", whole)
                             : fmt::format("{}", whole);
      }
      if (body[0] != '-' && (plus || blank)) body.insert(0, plus ? "+" : " ");
    } else {
      return error(ErrorCode::kUnsupported, "the format '%{}' is not supported",
                   static_cast<unsigned char>(kind) < 0x80 && kind >= ' ' ? kind : '?');
    }
    out += padded(std::move(body), left, zero && !left, width);
    if (!meter.spend(1) || out.size() > meter.limits().output_bytes) {
      meter.spend_bytes(out.size());
      return meter.exhausted();
    }
  }
  if (used < values.size() && !may_be_left) {
    return error(ErrorCode::kBadInput, "not all arguments converted during string formatting");
  }
  if (!meter.spend_bytes(out.size())) return meter.exhausted();
  return Value(std::move(out));
}

}  // namespace tg::jinja
