// libFuzzer target: any text as a chat template; what is accepted renders to UTF-8 within its
// limits.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "text/chat_template.h"
#include "text/jinja/value_text.h"
#include "text/utf8.h"

namespace {

// Names and kinds of what the seeds (tests/golden/jinja.json) use: without them most end early.
constexpr const char* kVariables = R"({
  "s": "Hello", "spaced": "  two words \n", "empty": "", "uni": "Z\u00fcrich \u65e5\u672c",
  "multi": "a\nbb\n\n  c\n", "letters": " !az\u00e9", "n": 7, "zero": 0, "neg": -3,
  "big": 9007199254740993, "f": 2.5, "t": true, "no": false, "nil": null, "l": [3, 1, 2],
  "words": ["pear", "Apple", "fig", "apple"], "none_list": [],
  "d": {"b": 1, "a": 2, "items": 3, "nested": {"x": [10, 20]}},
  "users": [{"name": "Ann", "age": 31, "tags": ["x"]}, {"name": "bob", "tags": []}],
  "messages": [{"role": "user", "content": " Hi <b> & 'you' "},
               {"role": "assistant", "content": "<think>hm</think>\n\nYes"}],
  "tools": [{"type": "function", "function": {"name": "get", "parameters": {"n": null}}}]
})";

tg::jinja::Value seed_variables() {
  auto value = tg::jinja::from_json(nlohmann::ordered_json::parse(kVariables));
  TG_CHECK(value.has_value());
  return *value;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto parsed = tg::jinja::Template::parse(source, "fuzz");
  if (!parsed) {
    TG_CHECK(parsed.error().text().find('\n') == std::string::npos);
    return 0;
  }
  static const tg::jinja::Value variables = seed_variables();
  // A small budget, so that the fuzzer tries many templates instead of waiting for loops.
  tg::jinja::RenderLimits limits;
  limits.steps = 20'000;
  limits.output_bytes = 100'000;
  const auto text = parsed->render(variables.dict(), std::tm{}, limits);
  if (text) {
    TG_CHECK(text->size() <= limits.output_bytes);
    TG_CHECK(tg::valid_utf8_prefix(*text) == text->size());
  } else {
    TG_CHECK(text.error().text().find('\n') == std::string::npos);
  }
  return 0;
}
