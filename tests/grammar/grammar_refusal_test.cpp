// What is malformed, not supported or too large: an error that names it, in a short time.
#include <gmock/gmock.h>

#include <chrono>

#include "grammar_forms.h"

namespace tg {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string regex_refusal(std::string_view pattern) { return refusal(regex_grammar(pattern)); }
std::string schema_refusal(std::string_view schema) { return refusal(json_schema_grammar(schema)); }

std::string repeated(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

class Timed {
 public:
  ~Timed() {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin_;
    EXPECT_LT(took.count(), 30.0);  // about a second; sanitizers take ten
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

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

TEST(GrammarRefusal, ExplodingRegularExpressions) {
  const Timed timed;
  for (const std::string& pattern :
       {std::string("((a{1000}){1000}){1000}"), std::string("(((a|b){1000}){1000}){1000}"),
        std::string("(a|b)*a(a|b){30}"), std::string(".*a.{2000}"),
        std::string("(\\w+\\s?){1,100000}"), std::string("(a?){1000000}"),
        std::string("(.{1,1000}){1,1000}"), repeated("(", 300) + "a" + repeated(")", 300),
        std::string("a{99999999999}"), repeated("a", 70000)}) {
    const auto result = regex_grammar(pattern);
    ASSERT_FALSE(result) << pattern.substr(0, 80);
    EXPECT_EQ(result.error().code, ErrorCode::kOutOfCapacity) << result.error().text();
    EXPECT_TRUE(result.error().text().find_first_of("0123456789") != std::string::npos);
  }
  EXPECT_EQ(regex_refusal("((a*)*)*b"), "accepted");
  EXPECT_EQ(regex_refusal("(|){1000000}a"), "accepted");
  EXPECT_EQ(regex_refusal("(a|b)*a(a|b){10}"), "accepted");
  EXPECT_EQ(regex_refusal(".{0,1000}"), "accepted");
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
  EXPECT_THAT(schema_refusal(R"({"enum": [1, 2], "minimum": 2})"), HasSubstr("\"minimum\" beside"));
  EXPECT_THAT(schema_refusal(R"({"$ref": "other.json#/a"})"), HasSubstr("other.json#/a"));
  EXPECT_THAT(schema_refusal(R"({"allOf": [{"pattern": "a"}, {"pattern": "b"}]})"),
              HasSubstr("both have \"pattern\""));
  EXPECT_THAT(schema_refusal(R"({"allOf": [{"properties": {"a": {}}, "additionalProperties": false},
                                           {"properties": {"b": {}}}]})"),
              HasSubstr("additionalProperties"));
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
      {R"({"allOf": [{"type": "string"}, {"type": "null"}]})", "\"type\""}};
  for (const auto& [schema, reason] : schemas) {
    const auto result = json_schema_grammar(schema);
    ASSERT_FALSE(result) << schema;
    EXPECT_EQ(result.error().code, ErrorCode::kBadInput) << schema << ": " << result.error().text();
    EXPECT_THAT(result.error().text(), AllOf(HasSubstr(reason), Not(HasSubstr("\n")))) << schema;
  }
}

TEST(GrammarRefusal, HostileSchemas) {
  const Timed timed;
  const auto too_large = [](const std::string& schema) {
    const auto result = json_schema_grammar(schema);
    ASSERT_FALSE(result) << schema.substr(0, 100);
    EXPECT_EQ(result.error().code, ErrorCode::kOutOfCapacity) << result.error().text();
    EXPECT_TRUE(result.error().text().find_first_of("0123456789") != std::string::npos);
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
  // Each level refers to the next one twice: 2^28 merged schemas if they were all written out.
  std::string doubling = R"({"$ref": "#/$defs/d0", "$defs": {)";
  for (int i = 0; i < 28; ++i) {
    doubling += fmt::format(
        R"("d{}": {{"allOf": [{{"$ref": "#/$defs/d{}"}}, {{"$ref": "#/$defs/d{}"}}]}},)", i, i + 1,
        i + 1);
  }
  too_large(doubling + R"("d28": {"type": "integer"}}})");
  // Objects that nest each other a hundred and twenty times.
  std::string chain = R"({"$ref": "#/$defs/d0", "$defs": {)";
  for (int i = 0; i < 120; ++i) {
    chain += fmt::format(
        R"("d{}": {{"type": "array", "minItems": 1, "items": {{"$ref": "#/$defs/d{}"}}}},)", i,
        i + 1);
  }
  too_large(chain + R"("d120": {"type": "integer"}}})");
}

TEST(GrammarRefusal, LargeButHonestSchemas) {
  const Timed timed;
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
TEST(GrammarRefusal, AmbiguousFormsEnd) {
  const Timed timed;
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
}

}  // namespace
}  // namespace tg
