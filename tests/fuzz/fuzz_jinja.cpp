// libFuzzer target: any text as a chat template; what is accepted renders to UTF-8 within its
// limits.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "text/chat_template.h"
#include "text/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto parsed = tg::jinja::Template::parse(source, "fuzz");
  if (!parsed) {
    TG_CHECK(parsed.error().text().find('\n') == std::string::npos);
    return 0;
  }
  tg::jinja::Dict variables;
  const auto set = [&](const char* name, tg::jinja::Value value) {
    TG_CHECK(variables.set_text(name, std::move(value)).has_value());
  };
  set("s", tg::jinja::Value("Z\xC3\xBCrich <b> 12"));
  set("n", tg::jinja::Value(std::int64_t{7}));
  set("f", tg::jinja::Value(2.5));
  set("l", *tg::jinja::make_list({tg::jinja::Value(std::int64_t{3}), tg::jinja::Value("a")}));
  // A small budget, so that the fuzzer tries many templates instead of waiting for loops.
  tg::jinja::RenderLimits limits;
  limits.steps = 20'000;
  limits.output_bytes = 100'000;
  const auto text = parsed->render(variables, std::tm{}, limits);
  if (text) {
    TG_CHECK(text->size() <= limits.output_bytes);
    TG_CHECK(tg::valid_utf8_prefix(*text) == text->size());
  } else {
    TG_CHECK(text.error().text().find('\n') == std::string::npos);
  }
  return 0;
}
