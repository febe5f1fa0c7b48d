// What: the decimal numbers between two bounds as a regular expression.
// Who owns: pure functions. Thread: any.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "grammar/regex_tree.h"

namespace tg {

// Digits of a number without sign: 18 before the point fit 64 bits, and 18 behind it tell all
// doubles of everyday size apart.
inline constexpr std::uint32_t kMostDigits = 18;

struct NumberBound {
  std::string decimal;     // as JSON spells a number
  bool exclusive = false;  // the bound itself is outside
};

// Numbers of JSON without exponent, of up to kMostDigits digits on either side of the point; none
// behind it with `integer`. "-0" is left out when there is a bound. kUnsupported for bounds of more
// digits.
Result<Regex> number_between(const std::optional<NumberBound>& least,
                             const std::optional<NumberBound>& most, bool integer);

// Any number: with an exponent of up to two digits, too, unless it is an integer.
Regex any_number(bool integer);

}  // namespace tg
