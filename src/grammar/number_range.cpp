#include "grammar/number_range.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace tg {
namespace {

// The size of a bound; fraction without zeros at the end, so that texts compare as numbers do.
struct Decimal {
  std::uint64_t whole = 0;
  std::string fraction;
  bool negative = false;
  bool too_large = false;  // more than kMostDigits before the point

  bool zero() const { return whole == 0 && fraction.empty() && !too_large; }
};

// An end of an interval of numbers from 0 on.
struct End {
  std::uint64_t whole = 0;
  std::string fraction;
  bool exclusive = false;
};

Result<Decimal> parse_decimal(std::string_view text) {
  Decimal out;
  std::string digits;
  std::int64_t point = -1;
  std::size_t i = 0;
  for (; i < text.size() && text[i] != 'e' && text[i] != 'E'; ++i) {
    if (text[i] == '-') out.negative = true;
    if (text[i] == '.') point = static_cast<std::int64_t>(digits.size());
    if (text[i] >= '0' && text[i] <= '9') digits += text[i];
  }
  if (point < 0) point = static_cast<std::int64_t>(digits.size());
  if (i < text.size()) point += std::strtoll(std::string(text.substr(i + 1)).c_str(), nullptr, 10);
  const std::size_t zeros = std::min(digits.find_first_not_of('0'), digits.size());
  digits.erase(0, zeros);
  point -= static_cast<std::int64_t>(zeros);
  digits.erase(digits.find_last_not_of('0') + 1);
  if (digits.empty()) return out;
  if (point > static_cast<std::int64_t>(kMostDigits)) {
    out.too_large = true;
    return out;
  }
  const std::int64_t behind = static_cast<std::int64_t>(digits.size()) - point;
  if (behind > static_cast<std::int64_t>(kMostDigits)) {
    return error(ErrorCode::kUnsupported, "the bound {} has more than {} digits behind the point",
                 text, kMostDigits);
  }
  if (point < 0) {
    digits.insert(0, static_cast<std::size_t>(-point), '0');
    point = 0;
  }
  const auto whole = static_cast<std::size_t>(point);
  if (digits.size() < whole) digits.append(whole - digits.size(), '0');
  if (whole > 0) out.whole = std::strtoull(digits.substr(0, whole).c_str(), nullptr, 10);
  out.fraction = digits.substr(whole);
  return out;
}

Regex digit_between(char first, char last) {
  if (first > last) return regex_nothing();
  return regex_set(CodePointSet::of({{static_cast<char32_t>(first), static_cast<char32_t>(last)}}));
}

char digit_above(char digit) { return static_cast<char>(digit + 1); }
char digit_below(char digit) { return static_cast<char>(digit - 1); }

Regex digit_run(std::size_t least, std::size_t most) {
  return regex_repeat(digit_between('0', '9'), static_cast<std::uint32_t>(least),
                      static_cast<std::uint32_t>(most));
}
Regex zero_run(std::size_t least, std::size_t most) {
  return regex_repeat(digit_between('0', '0'), static_cast<std::uint32_t>(least),
                      static_cast<std::uint32_t>(most));
}
Regex in_order(std::vector<Regex> parts) { return regex_sequence(std::move(parts)); }
Regex decimal_point() { return regex_literal("."); }

std::size_t digits_left(std::size_t used) { return used < kMostDigits ? kMostDigits - used : 0; }

Regex any_fraction() {
  return regex_repeat(in_order({decimal_point(), digit_run(1, kMostDigits)}), 0, 1);
}

// Whole numbers of as many digits as `least` and `most` both have, from position `i` on.
Regex digits_from(std::string_view least, std::size_t i) {
  if (i == least.size()) return regex_empty();
  const std::size_t rest = least.size() - i - 1;
  return regex_either(
      {in_order({digit_between(least[i], least[i]), digits_from(least, i + 1)}),
       in_order({digit_between(digit_above(least[i]), '9'), digit_run(rest, rest)})});
}
Regex digits_up_to(std::string_view most, std::size_t i) {
  if (i == most.size()) return regex_empty();
  const std::size_t rest = most.size() - i - 1;
  return regex_either(
      {in_order({digit_between(most[i], most[i]), digits_up_to(most, i + 1)}),
       in_order({digit_between('0', digit_below(most[i])), digit_run(rest, rest)})});
}
Regex same_length(std::string_view least, std::string_view most) {
  std::vector<Regex> parts;
  std::size_t i = 0;
  while (i < least.size() && least[i] == most[i]) {
    parts.push_back(digit_between(least[i], least[i]));
    ++i;
  }
  if (i < least.size()) {
    const std::size_t rest = least.size() - i - 1;
    parts.push_back(
        regex_either({in_order({digit_between(least[i], least[i]), digits_from(least, i + 1)}),
                      in_order({digit_between(digit_above(least[i]), digit_below(most[i])),
                                digit_run(rest, rest)}),
                      in_order({digit_between(most[i], most[i]), digits_up_to(most, i + 1)})}));
  }
  return in_order(std::move(parts));
}

Regex whole_between(std::uint64_t least, std::uint64_t most) {
  if (least > most) return regex_nothing();
  const std::string low = std::to_string(least);
  const std::string high = std::to_string(most);
  if (low.size() == high.size()) return same_length(low, high);
  std::vector<Regex> parts{same_length(low, std::string(low.size(), '9'))};
  for (std::size_t length = low.size() + 1; length < high.size(); ++length) {
    parts.push_back(in_order({digit_between('1', '9'), digit_run(length - 1, length - 1)}));
  }
  parts.push_back(same_length("1" + std::string(high.size() - 1, '0'), high));
  return regex_either(std::move(parts));
}

// Digits behind the point that, after the first `i` of `bound` were equal, make at least / at most
// it. Ending early is to go on with zeros.
Regex fraction_from(const End& bound, std::size_t i) {
  const std::string& f = bound.fraction;
  if (i == f.size()) {
    if (!bound.exclusive) return digit_run(0, digits_left(i));
    return in_order({zero_run(0, digits_left(i + 1)), digit_between('1', '9'),
                     digit_run(0, digits_left(i + 1))});
  }
  return regex_either(
      {in_order({digit_between(f[i], f[i]), fraction_from(bound, i + 1)}),
       in_order({digit_between(digit_above(f[i]), '9'), digit_run(0, digits_left(i + 1))})});
}
Regex fraction_up_to(const End& bound, std::size_t i) {
  const std::string& f = bound.fraction;
  if (i == f.size()) return bound.exclusive ? regex_nothing() : zero_run(0, digits_left(i));
  std::vector<Regex> parts{
      in_order({digit_between(f[i], f[i]), fraction_up_to(bound, i + 1)}),
      in_order({digit_between('0', digit_below(f[i])), digit_run(0, digits_left(i + 1))})};
  if (i > 0) parts.push_back(regex_empty());
  return regex_either(std::move(parts));
}
// As fraction_up_to, but above zero: some digit is not 0.
Regex positive_up_to(const End& bound, std::size_t i) {
  const std::string& f = bound.fraction;
  if (i == f.size()) return regex_nothing();
  Regex behind = f[i] == '0' ? positive_up_to(bound, i + 1) : fraction_up_to(bound, i + 1);
  std::vector<Regex> parts{
      in_order({digit_between(f[i], f[i]), std::move(behind)}),
      in_order({digit_between('1', digit_below(f[i])), digit_run(0, digits_left(i + 1))})};
  if (f[i] > '0') {
    parts.push_back(in_order({zero_run(1, digits_left(i + 1)), digit_between('1', '9'),
                              digit_run(0, digits_left(i + 2))}));
  }
  return regex_either(std::move(parts));
}

Regex fraction_at_least(const End& least) {
  if (least.fraction.empty() && !least.exclusive) return any_fraction();
  return in_order({decimal_point(), fraction_from(least, 0)});
}
Regex fraction_at_most(const End& most) {
  if (most.fraction.empty()) {
    return most.exclusive
               ? regex_nothing()
               : regex_repeat(in_order({decimal_point(), zero_run(1, kMostDigits)}), 0, 1);
  }
  return regex_either({regex_empty(), in_order({decimal_point(), fraction_up_to(most, 0)})});
}

// The fractions behind a whole part that both ends have.
Regex fraction_between(const End& least, const End& most) {
  const std::string& low = least.fraction;
  const std::string& high = most.fraction;
  if (low.empty() && !least.exclusive) return fraction_at_most(most);
  std::vector<Regex> parts{decimal_point()};
  std::size_t i = 0;
  while (i < low.size() && i < high.size() && low[i] == high[i]) {
    parts.push_back(digit_between(low[i], low[i]));
    ++i;
  }
  if (i == low.size()) {
    if (i == high.size()) {
      parts.push_back(least.exclusive || most.exclusive ? regex_nothing()
                                                        : zero_run(0, digits_left(i)));
    } else {
      parts.push_back(least.exclusive ? positive_up_to(most, i) : fraction_up_to(most, i));
    }
  } else {
    parts.push_back(
        regex_either({in_order({digit_between(low[i], low[i]), fraction_from(least, i + 1)}),
                      in_order({digit_between(digit_above(low[i]), digit_below(high[i])),
                                digit_run(0, digits_left(i + 1))}),
                      in_order({digit_between(high[i], high[i]), fraction_up_to(most, i + 1)})}));
  }
  return in_order(std::move(parts));
}

std::uint64_t largest_whole() {
  return std::strtoull(std::string(kMostDigits, '9').c_str(), nullptr, 10);
}

bool is_above(const End& a, const End& b) {
  if (a.whole != b.whole) return a.whole > b.whole;
  return a.fraction > b.fraction;
}

// Numbers from 0 on, without sign.
Regex unsigned_between(const End& least, const std::optional<End>& most, bool integer) {
  if (most && is_above(least, *most)) return regex_nothing();
  if (integer) {
    const std::uint64_t low = least.whole + (least.exclusive || !least.fraction.empty() ? 1U : 0U);
    if (!most) return whole_between(low, largest_whole());
    const bool lower = most->exclusive && most->fraction.empty();
    if (lower && most->whole == 0) return regex_nothing();
    return whole_between(low, most->whole - (lower ? 1U : 0U));
  }
  const auto literal = [](std::uint64_t whole) { return regex_literal(std::to_string(whole)); };
  if (most && most->whole == least.whole) {
    return in_order({literal(least.whole), fraction_between(least, *most)});
  }
  const std::uint64_t last = most ? most->whole - 1 : largest_whole();
  std::vector<Regex> parts{in_order({literal(least.whole), fraction_at_least(least)}),
                           in_order({whole_between(least.whole + 1, last), any_fraction()})};
  if (most) parts.push_back(in_order({literal(most->whole), fraction_at_most(*most)}));
  return regex_either(std::move(parts));
}

End end_of(const Decimal& decimal, bool exclusive) {
  return {decimal.whole, decimal.fraction, exclusive};
}

// nullopt: no number that is written can pass the bound, so there is none.
Result<std::optional<Decimal>> bound_of(const std::optional<NumberBound>& bound, bool is_least) {
  if (!bound) return std::nullopt;
  TG_ASSIGN(Decimal decimal, parse_decimal(bound->decimal));
  if (decimal.too_large) {
    if (decimal.negative == is_least) return std::nullopt;
    return error(ErrorCode::kUnsupported, "the bound {} has more than {} digits before the point",
                 bound->decimal, kMostDigits);
  }
  if (decimal.zero()) decimal.negative = false;
  return decimal;
}

}  // namespace

Result<Regex> number_between(const std::optional<NumberBound>& least,
                             const std::optional<NumberBound>& most, bool integer) {
  TG_ASSIGN(const std::optional<Decimal> low, bound_of(least, true));
  TG_ASSIGN(const std::optional<Decimal> high, bound_of(most, false));
  std::vector<Regex> parts;
  if (!high || !high->negative) {
    End from_end;
    if (low && !low->negative) from_end = end_of(*low, least->exclusive);
    std::optional<End> to_end;
    if (high) to_end = end_of(*high, most->exclusive);
    parts.push_back(unsigned_between(from_end, to_end, integer));
  }
  if (!low || low->negative) {
    End from_end{0, "", true};  // no "-0"
    if (high && high->negative) from_end = end_of(*high, most->exclusive);
    std::optional<End> to_end;
    if (low) to_end = end_of(*low, least->exclusive);
    parts.push_back(in_order({regex_literal("-"), unsigned_between(from_end, to_end, integer)}));
  }
  return regex_either(std::move(parts));
}

Regex any_number(bool integer) {
  std::vector<Regex> parts{regex_repeat(regex_literal("-"), 0, 1),
                           whole_between(0, largest_whole())};
  if (!integer) {
    parts.push_back(any_fraction());
    const Regex e = regex_set(CodePointSet::of({{'e', 'e'}, {'E', 'E'}}));
    const Regex sign = regex_set(CodePointSet::of({{'+', '+'}, {'-', '-'}}));
    parts.push_back(regex_repeat(in_order({e, regex_repeat(sign, 0, 1), digit_run(1, 2)}), 0, 1));
  }
  return in_order(std::move(parts));
}

}  // namespace tg
