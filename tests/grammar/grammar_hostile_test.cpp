// Forms that want more than they may have: made or refused with numbers, in a second and in bounded
// memory, whatever they are.
#include <gmock/gmock.h>

#include "base/bounded.h"
#include "grammar_forms.h"

namespace tg {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr double kMostSeconds = 3.0;  // half a second where nothing else runs
constexpr std::size_t kMostMebibytes = 150;

std::string repeated(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

// The error, or "made"; and every size in an error has numbers.
std::string within_bounds(Result<GrammarPointer> (*make)(std::string_view),
                          const std::string& source) {
  const Bounded bounded;
  const auto result = make(source);
  const std::string what = source.substr(0, 100);
  bounded.expect_within(kMostSeconds, kMostMebibytes, what);
  if (result) return "made";
  EXPECT_LT(result.error().text().size(), 1000U) << what;
  if (result.error().code == ErrorCode::kOutOfCapacity) {
    EXPECT_THAT(result.error().text(), testing::ContainsRegex("[0-9]")) << what;
    return "too large";
  }
  return result.error().text();
}
std::string expression(const std::string& pattern) { return within_bounds(regex_grammar, pattern); }
std::string schema_text(const std::string& text) {
  return within_bounds(json_schema_grammar, text);
}
std::string schema(const ordered_json& value) { return schema_text(value.dump()); }

// {"p0": of(0), "p1": of(1), ...} as the properties of an object.
template <typename Of>
ordered_json object_of(int count, const Of& of, bool open) {
  ordered_json properties = ordered_json::object();
  for (int i = 0; i < count; ++i) properties[fmt::format("p{}", i)] = of(i);
  return {{"type", "object"}, {"properties", properties}, {"additionalProperties", open}};
}
template <typename Of>
ordered_json list_of(int count, const Of& of) {
  ordered_json list = ordered_json::array();
  for (int i = 0; i < count; ++i) list.push_back(ordered_json(of(i)));
  return list;
}
// {"$ref": d0} with d0, d1, ... made by of(i), and the last one an integer.
template <typename Of>
ordered_json chain_of(int count, const Of& of) {
  ordered_json defs = ordered_json::object();
  for (int i = 0; i < count; ++i) defs[fmt::format("d{}", i)] = of(i);
  defs[fmt::format("d{}", count)] = {{"type", "integer"}};
  return {{"$ref", "#/$defs/d0"}, {"$defs", defs}};
}
ordered_json reference(int i) { return {{"$ref", fmt::format("#/$defs/d{}", i)}}; }

TEST(GrammarHostile, RegularExpressions) {
  for (const std::string& pattern :
       {std::string("((a{1000}){1000}){1000}"), std::string("(a|b)*a(a|b){30}"),
        std::string(".*a.{2000}"), std::string("(\\w+\\s?){1,100000}"),
        std::string("(a?){1000000}"), std::string("(.{1,1000}){1,1000}"),
        std::string("((a?){300}){300}"), repeated("(", 300) + "a" + repeated(")", 300),
        repeated(".?", 32000), std::string("a{99999999999}"), repeated("a", 70000)}) {
    EXPECT_EQ(expression(pattern), "too large") << pattern.substr(0, 80);
  }
  for (const std::string& pattern :
       {std::string("(a?){1000}"), std::string("(a?){1000}a{1000}"), std::string("(((a*)*)*)*"),
        std::string("((a*)*)*b"), std::string("(|){1000000}a"), std::string("(a|b)*a(a|b){10}"),
        std::string("(x+x+)+y"), std::string("(.*a){100}"), std::string(".{0,1000}"),
        std::string("(a|aa){500}"), std::string(R"(\w{1,1000})"), std::string(R"([^\W\d_]{1,99})"),
        repeated("(", 199) + "a" + repeated(")*", 199), repeated("a|", 32000)}) {
    EXPECT_EQ(expression(pattern), "made") << pattern.substr(0, 80);
  }
  std::string every_second = "[";
  for (char32_t c = 0x4000; c < 0x8000; c += 2) {
    const json text = json::parse(fmt::format(R"("\u{:04x}")", static_cast<unsigned>(c)));
    every_second += text.get<std::string>();
  }
  EXPECT_EQ(expression(every_second + "]{1,30}"), "made");
  EXPECT_THAT(expression("(){1000}{1000}"), testing::HasSubstr("repetition of a repetition"));
}

TEST(GrammarHostile, Schemas) {
  const auto too_large = [](const std::string& text) {
    EXPECT_EQ(schema_text(text), "too large") << text.substr(0, 100);
  };
  too_large(repeated("[", 1000000));
  too_large(repeated(R"({"items":)", 100000));
  too_large(repeated(R"({"items":)", 70) + "{}" + repeated("}", 70));
  too_large("{\"description\": \"" + std::string(2 << 20, 'x') + "\"}");
  too_large(R"({"minItems": 1000000, "type": "array"})");
  too_large(R"({"type": "string", "minLength": 1000000000000})");
  too_large(R"({"type": "string", "pattern": "^(a|b)*a(a|b){30}$"})");
  too_large(R"({"type": "string", "pattern": "^(.{1,1000}){1,1000}$"})");
  too_large(R"({"minimum": 1e999})");
  std::string many = R"({"type": "object", "properties": {)";
  for (int i = 0; i < 3000; ++i) many += fmt::format(R"({}"p{}": {{}})", i == 0 ? "" : ",", i);
  too_large(many + "}}");
  // Objects that nest each other a hundred and twenty times.
  EXPECT_EQ(schema(chain_of(120,
                            [](int i) -> ordered_json {
                              return {
                                  {"type", "array"}, {"minItems", 1}, {"items", reference(i + 1)}};
                            })),
            "too large");
}

// Each level needs the next one twice: 2^28 of the last if all were written out.
TEST(GrammarHostile, Doubling) {
  const auto twice = [](const char* keyword, bool with_rule) {
    return schema(chain_of(28, [=](int i) {
      ordered_json level = {{keyword, {reference(i + 1), reference(i + 1)}}};
      if (with_rule) level["minimum"] = i;
      return level;
    }));
  };
  EXPECT_EQ(twice("allOf", false), "too large");
  EXPECT_EQ(twice("allOf", true), "too large");
  for (const char* keyword : {"anyOf", "oneOf"}) {
    EXPECT_EQ(twice(keyword, false), "made");
    EXPECT_EQ(twice(keyword, true), "made");
  }
  // Merged schemas that contain themselves, and become larger each time.
  EXPECT_EQ(schema_text(R"({"$defs": {"a": {"properties": {"x": {"allOf": [{"$ref": "#/$defs/a"},
      {"properties": {"x": {"$ref": "#/$defs/a"}}}]}}}}, "$ref": "#/$defs/a"})"),
            "too large");
}

// What one is fine with, by the thousand.
TEST(GrammarHostile, ManyOfThem) {
  const auto pattern = [](const std::string& text) -> ordered_json {
    return {{"type", "string"}, {"pattern", text}};
  };
  EXPECT_EQ(schema(object_of(
                200, [&](int i) { return pattern(fmt::format(".*a.{{9}}{}", i)); }, false)),
            "too large");
  EXPECT_EQ(schema(object_of(
                500, [&](int i) { return pattern(fmt::format("{:04}", i) + repeated("ab", 500)); },
                false)),
            "too large");
  EXPECT_EQ(schema(object_of(
                600, [&](int i) { return pattern(fmt::format("^[^{}]{{1,500}}$", i)); }, false)),
            "made");
  EXPECT_EQ(schema(object_of(
                2000, [](int) -> ordered_json { return {{"type", "string"}, {"format", "uri"}}; },
                false)),
            "made");
  EXPECT_EQ(schema({{"anyOf", list_of(3000,
                                      [](int i) -> ordered_json {
                                        return {{"minimum", i / 7.0}, {"maximum", i + 0.3}};
                                      })}}),
            "too large");
  // Merging compares names.
  EXPECT_EQ(schema({{"$defs",
                     {{"d", object_of(
                                1500, [](int) { return ordered_json(true); }, true)}}},
                    {"allOf", list_of(1500,
                                      [](int i) -> ordered_json {
                                        ordered_json one = {{"properties", {}}};
                                        one["properties"][fmt::format("q{}", i)] = true;
                                        return {{"allOf", {{{"$ref", "#/$defs/d"}}, one}}};
                                      })}}),
            "too large");
}

TEST(GrammarHostile, NamesAndChoices) {
  const auto name = [](int i, const std::string& more) { return fmt::format("{:04}", i) + more; };
  const auto named = [&](int count, const std::string& more) -> ordered_json {
    return {{"type", "object"},
            {"required", list_of(count, [&](int i) { return name(i, more); })},
            {"additionalProperties", true}};
  };
  EXPECT_EQ(schema(named(2000, "a name")), "made");
  EXPECT_EQ(schema(named(900, repeated("x", 900))), "too large");
  EXPECT_EQ(schema(named(1500, repeated("\u4e00\u9fa5", 30))), "too large");
  EXPECT_EQ(schema(named(30000, "")), "too large");
  EXPECT_EQ(schema({{"enum", list_of(10000, [](int i) { return ordered_json(i); })}}), "made");
  EXPECT_EQ(schema({{"enum", list_of(10000, [&](int i) { return name(i, " of them"); })}}), "made");
  EXPECT_EQ(schema({{"enum", list_of(900, [&](int i) { return name(i, repeated("y", 900)); })}}),
            "too large");
  EXPECT_EQ(
      schema({{"enum",
               list_of(10000, [](int i) -> ordered_json { return {{"a", i}, {"b", {i, {}}}}; })}}),
      "too large");
  EXPECT_EQ(schema({{"const", repeated("y", 300000)}}), "made");
  const GrammarPointer numbers = schema_of(
      ordered_json{{"enum", list_of(10000, [](int i) { return ordered_json(i); })}}.dump());
  ASSERT_NE(numbers, nullptr);
  EXPECT_TRUE(fits(*numbers, "9999") && fits(*numbers, "0"));
  EXPECT_FALSE(fits(*numbers, "10000") || fits(*numbers, "01"));
  const Bounded bounded;
  const auto choice = choice_grammar(std::vector<std::string>(50000, "the same"));
  EXPECT_TRUE(choice);
  bounded.expect_within(kMostSeconds, kMostMebibytes, "choices");
}

TEST(GrammarHostile, LargeButHonestSchemas) {
  std::string many = R"({"type": "object", "properties": {)";
  for (int i = 0; i < 400; ++i) {
    many += fmt::format(R"({}"property_{}": {{"type": "string", "maxLength": {}}})",
                        i == 0 ? "" : ",", i, i + 1);
  }
  const GrammarPointer grammar = schema_of(many + "}}");
  ASSERT_NE(grammar, nullptr);
  EXPECT_TRUE(fits(*grammar, R"({"property_0":"","property_7": "abc","property_399":"x"})"));
  EXPECT_FALSE(fits(*grammar, R"({"property_0":"","property_400":"x"})"));
  const auto constraint = make_token_constraint(llama3_vocabulary(), grammar);
  EXPECT_FALSE(
      mask_after(*constraint, llama3_tokenizer()->encode("{\"", SpecialTokens::kAsText)).empty());
  const GrammarPointer texts =
      schema_of(R"({"type": "string", "minLength": 10, "maxLength": 100000})");
  ASSERT_NE(texts, nullptr);
  EXPECT_TRUE(fits(*texts, "\"" + std::string(100000, 'x') + "\""));
  EXPECT_FALSE(fits(*texts, "\"" + std::string(100001, 'x') + "\""));
}

// Many readings of one text: an error or a mask, but neither hours nor gigabytes.
TEST(GrammarHostile, AmbiguousFormsEnd) {
  const Bounded bounded;
  std::string same = R"({"$defs": {"v": {"anyOf": [)";
  for (int i = 0; i < 60; ++i) {
    same +=
        fmt::format(R"({}{{"type": "array", "items": {{"$ref": "#/$defs/v"}}, "maxItems": {}}})",
                    i == 0 ? "" : ",", i + 2);
  }
  const GrammarPointer grammar = schema_of(same + R"(]}}, "$ref": "#/$defs/v"})");
  ASSERT_NE(grammar, nullptr);
  const auto constraint = make_token_constraint(tiny_vocabulary(), grammar);
  std::vector<TokenId> output;
  const TokenId open = tiny_tokenizer().encode("[", SpecialTokens::kAsText).at(0);
  std::string message = "no limit was met";
  for (int i = 0; i < 90; ++i) {
    const auto mask = constraint->allowed_after(output);
    if (!mask) {
      EXPECT_EQ(mask.error().code, ErrorCode::kOutOfCapacity);
      message = mask.error().text();
      break;
    }
    output.push_back(open);
  }
  EXPECT_THAT(message, testing::ContainsRegex("at most [0-9]+|more than [0-9]+"));
  bounded.expect_within(2.0, 100, "masks");
}

}  // namespace
}  // namespace tg
