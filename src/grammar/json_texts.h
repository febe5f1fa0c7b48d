// What: the regular parts of JSON: strings, literals, and the white space between.
//   White space is bounded, so that a model cannot go on with it for ever: nothing, one space, or a
//   newline and up to 32 spaces or 8 tabs; only behind { [ , : and before } ]. None around the
//   whole.
// Who owns: pure functions. Thread: any.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "grammar/regex_tree.h"

namespace tg {

Regex json_space();

// One character inside of quotes, in any spelling; never half a surrogate pair. What it accepts
// cannot go on, so a count of characters is well defined.
Regex json_character();
Regex json_string();

// Texts of the tree in quotes. Each character has one spelling: itself, or \n, \", \u001f ...
Regex json_string_of(const Regex& text);
std::string json_text_of(std::string_view utf8);
// One character of the set in that spelling.
Regex json_character_of(const CodePointSet& set);

// A fixed value; with white space as above in arrays and objects.
Regex json_value(const nlohmann::ordered_json& value);

// The pattern (of the text, without quotes) of a "format" of JSON Schema. kUnsupported by name for
// one that JSON Schema has and this does not; empty for what is no format of JSON Schema ("int32").
Result<Regex> json_format(std::string_view name);

}  // namespace tg
