// What: the part of regular expression syntax that means the same to PCRE2, which runs our split
//   patterns, and to Oniguruma (Ruby syntax), which tokenizer.json is written for; and that cannot
//   escape the counting of steps in split_pattern.h.
// Who owns: pure function. Thread: any.
#pragma once

#include <string_view>

#include "base/result.h"

namespace tg {

// kUnsupported with the construct and its offset for everything else. Whether the rest is a valid
// pattern is left to PCRE2.
Status check_pattern_syntax(std::string_view regex);

}  // namespace tg
