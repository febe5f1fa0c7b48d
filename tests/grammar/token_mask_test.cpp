// Masks against brute force over the whole vocabulary, and answers made by random choice among the
// allowed tokens: each must end, and be valid by a validator of its own.
#include <gmock/gmock.h>

#include <bit>
#include <fstream>
#include <random>
#include <set>

#include "grammar_forms.h"
#include "json_validator.h"

namespace tg {
namespace {

using nlohmann::json;

constexpr const char* kPerson = R"({"type": "object", "properties": {
  "name": {"type": "string", "minLength": 1, "maxLength": 12},
  "age": {"type": "integer", "minimum": 0, "maximum": 150},
  "score": {"type": "number", "minimum": -2.5, "maximum": 99.75},
  "kind": {"enum": ["cat", "dog", "caterpillar", 7, null]},
  "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 3},
  "more": {"anyOf": [{"type": "null"}, {"type": "boolean"}, {"type": "integer"}]}},
  "required": ["name", "age", "tags"], "additionalProperties": false})";

constexpr const char* kTree = R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object",
  "properties": {"value": {"type": "integer", "exclusiveMinimum": -20, "maximum": 1234},
                 "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                 "all": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}},
  "required": ["value"], "additionalProperties": false}}})";

constexpr const char* kOpen = R"({"type": "object", "properties": {"id": {"type": "integer"},
  "idea": {"type": "boolean"}}, "required": ["id"],
  "additionalProperties": {"type": "array", "items": {"type": "number"}, "maxItems": 2}})";

constexpr const char* kMixed = R"({"type": "array", "minItems": 1, "maxItems": 4, "items": {
  "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string", "maxLength": 2},
  "maxItems": 2}, {"type": "object", "additionalProperties": {"type": "string", "maxLength": 3},
  "required": ["a"]}, {"type": ["number", "null", "boolean"]}]}})";

constexpr const char* kLong = R"({"type": "object", "additionalProperties": {"type": "string",
  "minLength": 8, "maxLength": 300}})";

constexpr const char* kCounted = R"({"type": "object", "properties": {
  "a": {"type": "string", "pattern": "^[a-f\u00e9\"\n]{3,20}$", "minLength": 10},
  "b": {"type": "string", "pattern": "^.{9,}$"},
  "c": {"enum": ["one", "on\"e", "other", 17, 170, null, [1, {"a": "b"}], "\u00e9t\u00e9"]}},
  "additionalProperties": {"enum": ["x"]}, "required": ["a", "b", "c"]})";

constexpr const char* kFormats = R"({"type": "object", "properties": {
  "date": {"type": "string", "format": "date"}, "time": {"type": "string", "format": "time"},
  "at": {"type": "string", "format": "date-time"}, "id": {"type": "string", "format": "uuid"},
  "mail": {"type": "string", "format": "email"}, "for": {"type": "string", "format": "duration"},
  "ip": {"type": "string", "format": "ipv4"}, "host": {"type": "string", "format": "hostname"},
  "at_uri": {"type": "string", "format": "uri"}},
  "required": ["date", "time", "at", "id", "mail", "for", "ip", "host", "at_uri"],
  "additionalProperties": false})";

std::vector<TokenId> ids_of(std::span<const std::uint32_t> mask) {
  std::vector<TokenId> ids;
  for (std::size_t word = 0; word < mask.size(); ++word) {
    for (std::uint32_t bits = mask[word]; bits != 0; bits &= bits - 1) {
      ids.push_back(
          static_cast<TokenId>(32 * word + static_cast<unsigned>(std::countr_zero(bits))));
    }
  }
  return ids;
}

// What the header promises, from the definition: all bytes of the token can be followed.
std::vector<TokenId> ids_by_brute_force(const Grammar& grammar, const Tokenizer& tokenizer,
                                        const std::vector<TokenId>& output) {
  FormRun before(grammar.form());
  for (const TokenId id : output) {
    for (const char c : tokenizer.token_bytes(id)) {
      EXPECT_TRUE(before.follow(static_cast<std::uint8_t>(c)));
    }
  }
  const std::vector<TokenId> stops = tokenizer.default_stop_ids();
  std::vector<TokenId> ids;
  std::vector<FormRun> after_first(256, before);  // most tokens fail at once
  std::vector<bool> alive(256);
  for (unsigned byte = 0; byte < 256; ++byte) {
    EXPECT_TRUE(after_first[byte].follow(static_cast<std::uint8_t>(byte)));
    alive[byte] = !after_first[byte].threads().empty() || after_first[byte].complete();
  }
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (std::find(stops.begin(), stops.end(), id) != stops.end()) {
      if (before.complete()) ids.push_back(id);
      continue;
    }
    const std::string_view bytes = tokenizer.token_bytes(id);
    if (bytes.empty() || tokenizer.is_special(id)) continue;
    if (!alive[static_cast<unsigned char>(bytes[0])]) continue;
    FormRun run = after_first[static_cast<unsigned char>(bytes[0])];
    bool fit = true;
    for (std::size_t i = 1; i < bytes.size() && fit; ++i) {
      EXPECT_TRUE(run.follow(static_cast<std::uint8_t>(bytes[i])));
      fit = !run.threads().empty() || run.complete();
    }
    if (fit) ids.push_back(id);
  }
  return ids;
}

// One of the mask's ids, all possible if not equally likely; -1 when there is none.
TokenId any_id(std::span<const std::uint32_t> mask, std::mt19937& random) {
  const std::size_t begin = random() % mask.size();
  for (std::size_t i = 0; i < mask.size(); ++i) {
    const std::size_t word = (begin + i) % mask.size();
    if (mask[word] == 0) continue;
    std::uint32_t bits = mask[word];
    const unsigned skipped =
        static_cast<unsigned>(random()) % static_cast<unsigned>(std::popcount(bits));
    for (unsigned k = 0; k < skipped; ++k) bits &= bits - 1;
    return static_cast<TokenId>(32 * word + static_cast<unsigned>(std::countr_zero(bits)));
  }
  return -1;
}

// A random answer. It gets short by preferring tokens that close something.
struct Walk {
  std::vector<TokenId> output;
  std::string text;
};

Walk random_walk(const GrammarPointer& grammar, const VocabularyPointer& vocabulary,
                 const Tokenizer& tokenizer, std::mt19937& random) {
  const std::unique_ptr<TokenConstraint> constraint = make_token_constraint(vocabulary, grammar);
  Walk walk;
  while (walk.output.size() < 5000) {
    const std::span<const std::uint32_t> mask = mask_after(*constraint, walk.output);
    TokenId chosen = mask.empty() ? -1 : any_id(mask, random);
    if (chosen < 0) {
      ADD_FAILURE() << "a dead end behind " << walk.text;
      return walk;
    }
    const std::size_t tries = walk.output.size() < 100 ? 2 : 40;
    for (std::size_t i = 0; i < tries; ++i) {
      const TokenId other = any_id(mask, random);
      const std::string_view bytes = tokenizer.token_bytes(other);
      if (vocabulary->is_stop(other) || bytes.find_first_of("\"}]") == 0) chosen = other;
    }
    if (vocabulary->is_stop(chosen)) return walk;
    walk.output.push_back(chosen);
    walk.text += tokenizer.token_bytes(chosen);
  }
  ADD_FAILURE() << "no end: " << walk.text.substr(0, 300);
  return walk;
}

void expect_equal_to_brute_force(const GrammarPointer& grammar, const VocabularyPointer& vocabulary,
                                 const Tokenizer& tokenizer, const Walk& walk, std::size_t stride) {
  const std::unique_ptr<TokenConstraint> constraint = make_token_constraint(vocabulary, grammar);
  for (std::size_t length = 0; length <= walk.output.size(); length += stride) {
    const std::vector<TokenId> output(walk.output.begin(),
                                      walk.output.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_EQ(ids_of(mask_after(*constraint, output)),
              ids_by_brute_force(*grammar, tokenizer, output))
        << "behind " << tokenizer.decode(output, false);
  }
}

TEST(TokenMask, EqualsBruteForceOnTheTinyVocabulary) {
  std::mt19937 random(1);
  std::vector<GrammarPointer> grammars;
  for (const char* schema : {kPerson, kTree, kOpen, kMixed, kLong, kCounted, kFormats, "true"}) {
    grammars.push_back(schema_of(schema));
  }
  for (const char* pattern : {"(a|b)*abb", ".*the.*", "[^a]{3,9}", R"(\d+(,\d+)*|e(n|ne)*)"}) {
    grammars.push_back(must_compile(regex_grammar(pattern), pattern));
  }
  for (const GrammarPointer& grammar : grammars) {
    ASSERT_NE(grammar, nullptr);
    for (int i = 0; i < 3; ++i) {
      const Walk walk = random_walk(grammar, tiny_vocabulary(), tiny_tokenizer(), random);
      expect_equal_to_brute_force(grammar, tiny_vocabulary(), tiny_tokenizer(), walk,
                                  1 + walk.output.size() / 12);
    }
  }
}

TEST(TokenMask, EqualsBruteForceOnTheLlama3Vocabulary) {
  const Tokenizer& tokenizer = *llama3_tokenizer();
  const std::vector<std::pair<const char*, const char*>> cases = {
      {kPerson, R"({"name": "Zo)"},
      {kPerson, R"({"name": ")"},
      {kPerson, R"({"name": "Zoe Zoe Z)"},
      {kPerson, "{\"name\": \"12345678901\xC3"},
      {kPerson, "{\"name\": \"123456\\u00"},
      {kLong, R"({"a)"},
      {kCounted, R"({"a": "abc)"},
      {kCounted, R"({"a": "abcdefabcd", "b": "123456)"},
      {kCounted, R"({"a": "abcdefabcd", "b": "123456789", "c": "o)"},
      {kCounted, R"({"a": "abcdefabcd", "b": "123456789", "c": "one", "a)"},
      {kLong, R"({"a": "12345)"},
      {kPerson, R"({"name": "Zoe","age":1)"},
      {kOpen, R"({"id": 5,)"},
      {kTree, R"({"value": 12, "next": {"value": 1)"},
      {kMixed, R"([{"a")"},
      {"true", R"([[{"a": "some text)"},
      {kFormats, R"({"date": "2024-02)"},
  };
  for (const auto& [schema, text] : cases) {
    const GrammarPointer grammar = schema_of(schema);
    ASSERT_NE(grammar, nullptr);
    const std::vector<TokenId> output = tokenizer.encode(text, SpecialTokens::kAsText);
    const std::unique_ptr<TokenConstraint> constraint =
        make_token_constraint(llama3_vocabulary(), grammar);
    EXPECT_EQ(ids_of(mask_after(*constraint, output)),
              ids_by_brute_force(*grammar, tokenizer, output))
        << text;
  }
}

// The mask of a state does not depend on what was asked before, of this or another constraint.
TEST(TokenMask, KeptMasksAreThoseOfTheState) {
  const GrammarPointer grammar = schema_of(kMixed);
  ASSERT_NE(grammar, nullptr);
  std::mt19937 random(5);
  for (int i = 0; i < 20; ++i) {
    const Walk walk = random_walk(grammar, tiny_vocabulary(), tiny_tokenizer(), random);
    const std::unique_ptr<TokenConstraint> used = make_token_constraint(tiny_vocabulary(), grammar);
    const GrammarPointer fresh_grammar = schema_of(kMixed);
    for (std::size_t length = 0; length <= walk.output.size(); length += 7) {
      const std::vector<TokenId> output(walk.output.begin(),
                                        walk.output.begin() + static_cast<std::ptrdiff_t>(length));
      const auto fresh = make_token_constraint(tiny_vocabulary(), fresh_grammar);
      EXPECT_EQ(ids_of(mask_after(*used, output)), ids_of(mask_after(*fresh, output)));
    }
  }
}

// A place that can be read in thousands of ways is not kept: its key alone would be larger than a
// mask, and a long answer has many such places.
TEST(TokenMask, PlacesOfManyWaysAreNotKept) {
  json list = json::array();
  for (int i = 0; i < 600; ++i) {
    list.push_back({{"type", "array"}, {"items", {{"type", "integer"}}}, {"maxItems", 1 + i % 20}});
  }
  const GrammarPointer grammar = schema_of(json{{"anyOf", list}}.dump());
  ASSERT_NE(grammar, nullptr);
  const auto masks = grammar->masks_for(tiny_vocabulary());
  const auto constraint = make_token_constraint(tiny_vocabulary(), grammar);
  std::vector<TokenId> output;
  mask_after(*constraint, output);
  EXPECT_EQ(masks->masks_kept(), 1U);
  output = tiny_tokenizer().encode("[1", SpecialTokens::kAsText);  // go on, a comma or the end
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ids_of(mask_after(*constraint, output)),
              ids_by_brute_force(*grammar, tiny_tokenizer(), output));
    EXPECT_EQ(masks->masks_kept(), 1U);
  }
}

TEST(TokenMask, RandomAnswersAreValid) {
  // For tools/make_grammar_goldens.py --check, which asks jsonschema about them.
  std::ofstream file(TG_BINARY_DIR "/grammar_walks.jsonl");
  std::mt19937 random(2);
  for (const char* text : {kPerson, kTree, kOpen, kMixed, kFormats, "true"}) {
    const GrammarPointer grammar = schema_of(text);
    ASSERT_NE(grammar, nullptr);
    const json schema = json::parse(text);
    std::set<std::string> different;
    for (int i = 0; i < 200; ++i) {
      const bool large = i % 10 == 0;
      const Walk walk = random_walk(grammar, large ? llama3_vocabulary() : tiny_vocabulary(),
                                    large ? *llama3_tokenizer() : tiny_tokenizer(), random);
      const json value = json::parse(walk.text, nullptr, /*allow_exceptions=*/false);
      ASSERT_FALSE(value.is_discarded()) << walk.text;
      EXPECT_TRUE(JsonValidator(schema).valid(schema, value)) << walk.text;
      EXPECT_TRUE(fits(*grammar, walk.text)) << walk.text;
      different.insert(walk.text);
      file << json{{"schema", schema}, {"text", walk.text}}.dump() << '\n';
    }
    EXPECT_GT(different.size(), 50U) << text;
  }
}

}  // namespace
}  // namespace tg
