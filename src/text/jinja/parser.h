// What: a template's source as a tree. Parsing needs time and memory linear in the source, and
//   stack bounded by kMaxParseDepth, whatever the source.
// Who owns: the caller gets the tree. Thread: any.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/jinja/ast.h"

namespace tg::jinja {

// Statements and brackets inside each other, and the depth of an expression's tree. Published
// templates stay below 40.
inline constexpr int kMaxParseDepth = 200;
inline constexpr std::size_t kMaxSourceBytes = std::size_t{1} << 20;

// kBadInput: a syntax error; kUnsupported: a construct, filter or test that we do not know;
// kOutOfCapacity: larger or deeper than the limits. All with the place "line N".
Result<Block> parse(std::string_view source);

}  // namespace tg::jinja
