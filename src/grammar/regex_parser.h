// What: regular expressions as users of vLLM and JSON Schema write them: the common part of
// Python's
//   and ECMAScript's syntax. Classes, escapes, groups (named ones too), | * + ? {m,n}, lazy forms
//   (the same language), and the anchors ^ $ \A \Z at an end of the text. \d, \w and \s are
//   ASCII; '.' is all but a newline; negated classes are over all of Unicode.
// Who owns: pure functions. Thread: any.
#pragma once

#include <string_view>

#include "base/result.h"
#include "grammar/regex_tree.h"

namespace tg {

enum class RegexUse {
  kWholeText,  // anchors at the ends change nothing
  kSearch,     // any text may stand before and behind, where no anchor forbids it
};

// kBadInput with the offset for what is malformed; kUnsupported by name for look-around,
// back-references, flags, word boundaries, possessive repetition and anchors inside of a text;
// kOutOfCapacity for more than 64 KiB or 200 nested groups.
Result<Regex> parse_regex(std::string_view pattern, RegexUse use);

}  // namespace tg
