// Texts that Python's re and jsonschema have judged (tools/make_grammar_goldens.py): the forms
// accept exactly those that fit, and each of them can be produced token by token through the masks
// of the Llama 3 vocabulary.
#include <gmock/gmock.h>

#include "grammar_forms.h"

namespace tg {
namespace {

using OrderedJson = nlohmann::ordered_json;  // schemas keep the order of their properties

const OrderedJson& golden() {
  static const OrderedJson file = OrderedJson::parse(read_file(kGolden + "grammar.json"));
  return file;
}

// Every token in turn has to be allowed, a stop id exactly where the text so far fits, and a
// special token that ends nothing never.
void expect_producible(const GrammarPointer& grammar, const std::string& text) {
  const Tokenizer& tokenizer = *llama3_tokenizer();
  const TokenId stop = *tokenizer.find_special("<|eot_id|>");
  const TokenId special = *tokenizer.find_special("<|start_header_id|>");
  const std::unique_ptr<TokenConstraint> constraint =
      make_token_constraint(llama3_vocabulary(), grammar);
  std::string so_far;
  std::vector<TokenId> output;
  for (const TokenId id : tokenizer.encode(text, SpecialTokens::kAsText)) {
    const auto mask = mask_after(*constraint, output);
    ASSERT_FALSE(mask.empty()) << text;
    EXPECT_TRUE(is_allowed(mask, id)) << text << ": token " << output.size() << ", id " << id;
    EXPECT_EQ(is_allowed(mask, stop), fits(*grammar, so_far)) << text << " at " << so_far;
    EXPECT_FALSE(is_allowed(mask, special));
    output.push_back(id);
    so_far += tokenizer.token_bytes(id);
  }
  EXPECT_EQ(so_far, text);
  EXPECT_TRUE(is_allowed(mask_after(*constraint, output), stop)) << text;
}

void check_all(const char* part, GrammarPointer (*compile)(const OrderedJson&)) {
  std::size_t accepted = 0;
  for (const auto& [form, texts] :
       golden()[part].get<std::vector<std::pair<OrderedJson, OrderedJson>>>()) {
    const GrammarPointer grammar = compile(form);
    ASSERT_NE(grammar, nullptr);
    std::size_t produced = 0;
    for (const auto& [text, should] : texts.items()) {
      EXPECT_EQ(fits(*grammar, text), should.get<bool>()) << form << " and " << text;
      if (!should.get<bool>()) continue;
      ++accepted;
      // The first few of each form; they have the most tokens.
      if (produced++ < 6) expect_producible(grammar, text);
    }
  }
  EXPECT_GT(accepted, 100U);
}

TEST(GrammarGolden, RegularExpressions) {
  check_all("regex", [](const OrderedJson& pattern) {
    const auto text = pattern.get<std::string>();
    return must_compile(regex_grammar(text), text);
  });
}

TEST(GrammarGolden, JsonSchemas) {
  check_all("schemas", [](const OrderedJson& schema) { return schema_of(schema.dump()); });
}

// Expressions and schemas that nobody chose (tools/random_forms.py). A few are refused: by name, or
// because nothing fits.
void check_random(const char* part, Result<GrammarPointer> (*compile)(const OrderedJson&)) {
  std::size_t forms = 0;
  std::size_t refused = 0;
  std::size_t accepted = 0;
  for (const auto& [form, texts] :
       golden()[part].get<std::vector<std::pair<OrderedJson, OrderedJson>>>()) {
    ++forms;
    const auto grammar = compile(form);
    if (!grammar && grammar.error().code != ErrorCode::kBadInput) {
      ++refused;
      continue;
    }
    for (const auto& [text, should] : texts.items()) {
      const bool does = grammar && fits(**grammar, text);
      EXPECT_EQ(does, should.get<bool>())
          << form << " and " << text << (grammar ? "" : ": " + grammar.error().text());
      if (does) ++accepted;
    }
  }
  EXPECT_GT(accepted, 300U);
  EXPECT_LT(refused * 20, forms);
}

TEST(GrammarGolden, RandomRegularExpressions) {
  check_random("random_regex",
               [](const OrderedJson& form) { return regex_grammar(form.get<std::string>()); });
}

TEST(GrammarGolden, RandomJsonSchemas) {
  check_random("random_schemas",
               [](const OrderedJson& form) { return json_schema_grammar(form.dump()); });
}

// Texts of "type": "object" schemas are objects of json_object_grammar(), and other values are not.
TEST(GrammarGolden, JsonObjects) {
  const GrammarPointer grammar = must_compile(json_object_grammar(), "JSON object");
  std::size_t objects = 0;
  std::size_t others = 0;
  for (const auto& [form, texts] :
       golden()["schemas"].get<std::vector<std::pair<OrderedJson, OrderedJson>>>()) {
    for (const auto& [text, should] : texts.items()) {
      const OrderedJson value = OrderedJson::parse(text, nullptr, false);
      EXPECT_EQ(fits(*grammar, text), value.is_object()) << text;
      ++(value.is_object() ? objects : others);
    }
  }
  EXPECT_GT(objects, 300U);
  EXPECT_GT(others, 300U);
}

}  // namespace
}  // namespace tg
