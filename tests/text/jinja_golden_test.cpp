// Every case of tests/golden/jinja.json (made by tools/make_jinja_goldens.py with the real Jinja2)
// renders to the same text, or fails where Jinja2 fails.
#include <gtest/gtest.h>

#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "text/jinja/template.h"
#include "text/jinja/value_text.h"

namespace tg::jinja {
namespace {

using Json = nlohmann::ordered_json;

Json goldens() {
  std::ifstream file(TG_SOURCE_DIR "/tests/golden/jinja.json");
  return Json::parse(file);
}

// 2025-03-07 05:04:09, as NOW in the tool.
std::tm golden_time() {
  std::tm time{};
  time.tm_year = 125;
  time.tm_mon = 2;
  time.tm_mday = 7;
  time.tm_hour = 5;
  time.tm_min = 4;
  time.tm_sec = 9;
  time.tm_wday = 5;
  time.tm_yday = 65;
  return time;
}

Result<std::string> rendered(const std::string& source, const Value& variables) {
  TG_ASSIGN(const Template made, Template::parse(source, "golden"));
  return made.render(variables.dict(), golden_time());
}

TEST(JinjaGolden, SameTextAsJinja2) {
  const Json golden = goldens();
  const auto variables = from_json(golden["variables"]);
  ASSERT_TRUE(variables) << variables.error().text();
  int texts = 0;
  int failures = 0;
  for (const Json& one : golden["cases"]) {
    const std::string source = one[0];
    const auto text = rendered(source, *variables);
    if (one[1].is_null()) {
      ++failures;
      EXPECT_FALSE(text) << "Jinja2 refuses: " << source << "\nours: " << (text ? *text : "");
      if (!text) {
        EXPECT_TRUE(text.error().text().starts_with("golden: line ")) << source;
      }
      continue;
    }
    ++texts;
    if (!text) {
      ADD_FAILURE() << source << "\n" << text.error().text();
    } else {
      EXPECT_EQ(*text, one[1].get<std::string>()) << source;
    }
  }
  EXPECT_GE(texts, 200);
  EXPECT_GE(failures, 100);
}

TEST(JinjaGolden, WhatIsNotSupportedIsAnErrorWithItsLine) {
  const Json golden = goldens();
  const auto variables = from_json(golden["variables"]);
  ASSERT_TRUE(variables);
  for (const Json& one : golden["unsupported"]) {
    const std::string source = one;
    const auto text = rendered("\n" + source, *variables);
    ASSERT_FALSE(text) << source << "\n" << *text;
    EXPECT_TRUE(text.error().text().starts_with("golden: line 2: ")) << text.error().text();
  }
}

}  // namespace
}  // namespace tg::jinja
