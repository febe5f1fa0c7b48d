// What is malformed or not supported: an error that names it.
#include <gmock/gmock.h>

#include "grammar_forms.h"

namespace tg {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string schema_refusal(std::string_view schema) { return refusal(json_schema_grammar(schema)); }

TEST(GrammarRefusal, RegularExpressionsByName) {
  const std::vector<std::pair<const char*, const char*>> unsupported = {
      {"a(?=b)", "look-around"},
      {"a(?!b)", "look-around"},
      {"(?<=a)b", "look-around"},
      {"(?<!a)b", "look-around"},
      {R"((a)\1)", "back-reference"},
      {"(?P<x>a)(?P=x)", "back-reference"},
      {R"(\bword\b)", "word boundary"},
      {"(?i)abc", "group of the form"},
      {"a++", "possessive"},
      {"a^b", "anchor"},
      {"(a$)b", "anchor"},
      {"(^a)*", "anchor"},
      {"^*", "anchor"},
      {R"(\p{L})", R"(\p)"},
      {R"(\07)", "octal"}};
  for (const auto& [pattern, reason] : unsupported) {
    const auto result = regex_grammar(pattern);
    ASSERT_FALSE(result) << pattern;
    EXPECT_EQ(result.error().code, ErrorCode::kUnsupported) << result.error().text();
    EXPECT_THAT(result.error().text(), HasSubstr(reason)) << pattern;
  }
  const std::vector<std::pair<const char*, const char*>> malformed = {
      {"(a", "'(' without ')'"},
      {"a)", "')' without '('"},
      {"[a", "'[' without ']'"},
      {"*a", "nothing to repeat"},
      {"a**", "repetition of a repetition"},
      {"a{2}{3}", "repetition of a repetition"},
      {"[z-a]", "range"},
      {R"([\d-z])", "range"},
      {R"(\x1)", "hexadecimal"},
      {R"(\ud800)", "not a Unicode character"},
      {"a\\", "backslash"},
      {"a{3,2}", "m above n"},
      {"\xFF", "UTF-8"},
      {R"([^\s\S])", "no text at all"}};
  for (const auto& [pattern, reason] : malformed) {
    const auto result = regex_grammar(pattern);
    ASSERT_FALSE(result) << pattern;
    EXPECT_EQ(result.error().code, ErrorCode::kBadInput) << result.error().text();
    EXPECT_THAT(result.error().text(), HasSubstr(reason)) << pattern;
  }
}

TEST(GrammarRefusal, SchemasByKeywordAndPlace) {
  for (const char* rule :
       {R"("not": {"type": "null"})", R"("if": {})", R"("patternProperties": {"a": {}})",
        R"("propertyNames": {"maxLength": 1})", R"("minProperties": 1)", R"("maxProperties": 1)",
        R"("dependentRequired": {"a": ["b"]})", R"("contains": {})", R"("uniqueItems": true)",
        R"("multipleOf": 2)", R"("unevaluatedItems": false)", R"("$dynamicRef": "#a")",
        R"("format": "ipv6")", R"__("pattern": "a(?=b)")__",
        R"("pattern": "a", "format": "date")"}) {
    const std::string keyword = std::string(rule).substr(1, std::string(rule).find('"', 1) - 1);
    const auto result = json_schema_grammar(fmt::format(
        R"({{"type": "object", "properties": {{"x/y": {{"type": "array", "items": {{{}}}}}}}}})",
        rule));
    ASSERT_FALSE(result) << rule;
    EXPECT_EQ(result.error().code, ErrorCode::kUnsupported) << result.error().text();
    EXPECT_EQ(result.error().place, "schema #/properties/x~1y/items") << result.error().text();
    if (keyword != "pattern") {
      EXPECT_THAT(result.error().message, HasSubstr("\"" + keyword + "\""));
    }
  }
  EXPECT_THAT(schema_refusal(R"({"enum": [1, [2]], "items": {"minimum": 3}})"),
              HasSubstr("\"items\" beside \"enum\""));
  EXPECT_THAT(schema_refusal(R"({"$ref": "other.json#/a"})"), HasSubstr("other.json#/a"));
  EXPECT_THAT(schema_refusal(R"({"allOf": [{"pattern": "a"}, {"pattern": "b"}]})"),
              HasSubstr("both have \"pattern\""));
  EXPECT_THAT(schema_refusal(R"({"type": "number", "minimum": 1e-30})"), HasSubstr("1e-30"));
}

TEST(GrammarRefusal, MalformedSchemas) {
  const std::vector<std::pair<const char*, const char*>> schemas = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"{\"type\": \"\xFF\"}", "not JSON"},
      {"[]", "neither an object"},
      {"null", "neither an object"},
      {R"({"type": "text"})", "\"type\" is"},
      {R"({"type": 3})", "\"type\" is"},
      {R"({"type": []})", "\"type\""},
      {R"({"properties": []})", "\"properties\""},
      {R"({"properties": {"a": 3}})", "#/properties/a: a schema is neither"},
      {R"({"required": "a"})", "\"required\""},
      {R"({"required": [1]})", "\"required\""},
      {R"({"anyOf": []})", "\"anyOf\""},
      {R"({"anyOf": {}})", "\"anyOf\""},
      {R"({"allOf": 3})", "\"allOf\""},
      {R"({"allOf": [3]})", "neither an object"},
      {R"({"enum": 3})", "\"enum\""},
      {R"({"enum": []})", "no finite text"},
      {R"({"minLength": -1})", "\"minLength\""},
      {R"({"minItems": 1.5})", "\"minItems\""},
      {R"({"maxItems": "3"})", "\"maxItems\""},
      {R"({"minimum": "0"})", "\"minimum\""},
      {R"({"pattern": 3})", "\"pattern\""},
      {R"({"pattern": "("})", "'(' without"},
      {R"({"format": 3})", "\"format\""},
      {R"({"prefixItems": {}})", "\"prefixItems\""},
      {R"({"$ref": 3})", "\"$ref\""},
      {R"({"$ref": "#/$defs/none"})", "leads nowhere"},
      {R"({"$ref": "#"})", "leads to itself"},
      {R"({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})",
       "leads to itself"},
      {R"({"allOf": [{"$ref": "#"}]})", "leads to itself"},
      {R"({"anyOf": [{"$ref": "#"}]})", "no finite text"},
      {R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})",
       "no finite text"},
      {R"({"type": "array", "items": {"$ref": "#"}, "minItems": 1})", "no finite text"},
      {"false", "no finite text"},
      {R"({"type": "integer", "minimum": 3, "maximum": 2})", "no finite text"},
      {R"({"type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 3})", "no finite text"},
      {R"({"type": "string", "minLength": 3, "maxLength": 2})", "no finite text"},
      {R"({"type": "string", "pattern": "^(ab)*$", "minLength": 3, "maxLength": 3})",
       "no finite text"},
      {R"({"type": "array", "minItems": 3, "maxItems": 2})", "no finite text"},
      {R"({"properties": {}, "required": ["a"], "additionalProperties": false})", "is not among"},
      {R"({"allOf": [{"type": "string"}, {"type": "null"}]})", "#: no finite text"},
      {R"({"properties": {"a": {"enum": [1, 2], "minimum": 3}}, "required": ["a"]})",
       "#/properties/a: no finite text fits: no value fits here"},
      {R"({"enum": ["a"], "minLength": -1})", "\"minLength\""},
      {R"({"enum": ["a"], "pattern": "("})", "'(' without"},
      {R"({"allOf": [{"prefixItems": {}}, {"items": {}}]})", "\"prefixItems\""}};
  for (const auto& [schema, reason] : schemas) {
    const auto result = json_schema_grammar(schema);
    ASSERT_FALSE(result) << schema;
    EXPECT_EQ(result.error().code, ErrorCode::kBadInput) << schema << ": " << result.error().text();
    EXPECT_THAT(result.error().text(), AllOf(HasSubstr(reason), Not(HasSubstr("\n")))) << schema;
  }
}

}  // namespace
}  // namespace tg
