// What: a template's source cut into tokens, with the whitespace rules that Hugging Face renders
//   chat templates with: trim_blocks (a newline after %} or #} goes), lstrip_blocks (blanks between
//   the start of a line and {% or {# go), one newline at the very end goes; a "-" in a tag strips
//   all whitespace on its side, a "+" keeps it. {% raw %} and comments end here.
// Who owns: plain data. Thread: any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tg::jinja {

struct Token {
  enum class Kind {
    kData,  // text outside of tags
    kVariableBegin,
    kVariableEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,   // text: the characters it stands for
    kInteger,  // text: digits as written, without "_"
    kFloat,
    kOperator,
    kEnd,  // always the last token
  };
  Kind kind = Kind::kEnd;
  int line = 0;
  std::string text;
};

// kBadInput, with the place "line N", for what is no template.
Result<std::vector<Token>> tokenize(std::string_view source);

// The error every part of the interpreter reports with.
template <typename... Args>
[[nodiscard]] tl::unexpected<Error> error_at(int line, ErrorCode code,
                                             fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(
      Error{code, fmt::format(format, std::forward<Args>(args)...), fmt::format("line {}", line)});
}

}  // namespace tg::jinja
