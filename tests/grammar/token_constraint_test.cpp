// The constraint of one answer: choices, stop ids, ids that cannot come, errors; and what a mask
// costs.
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>

#include "grammar_forms.h"

namespace tg {
namespace {

using testing::HasSubstr;

constexpr TokenId kEot = 128009;

std::vector<TokenId> encode(std::string_view text) {
  return llama3_tokenizer()->encode(text, SpecialTokens::kAsText);
}

std::vector<std::string> allowed_texts(std::span<const std::uint32_t> mask) {
  std::vector<std::string> texts;
  for (TokenId id = 0; id < llama3_tokenizer()->vocab_size(); ++id) {
    if (is_allowed(mask, id)) texts.emplace_back(llama3_tokenizer()->token_bytes(id));
  }
  return texts;
}

TEST(TokenConstraint, ChoiceAllowsPrefixesOfTheTexts) {
  const std::vector<std::string> texts = {"yes", "no", "nothing", "é漢"};
  const GrammarPointer grammar = must_compile(choice_grammar(texts), "choice");
  ASSERT_NE(grammar, nullptr);
  const auto constraint = make_token_constraint(llama3_vocabulary(), grammar);
  // Of what was written: exactly the tokens with which it still begins one of the texts.
  for (const std::string written : {"", "no", "é"}) {
    std::vector<std::string> may_come;
    for (TokenId id = 0; id < 128000; ++id) {
      const std::string longer = written + std::string(llama3_tokenizer()->token_bytes(id));
      const bool begins = std::any_of(texts.begin(), texts.end(), [&](const std::string& text) {
        return text.starts_with(longer);
      });
      if (begins) may_come.emplace_back(llama3_tokenizer()->token_bytes(id));
    }
    EXPECT_GE(may_come.size(), written == "é" ? 1U : 4U);
    if (written == "no") {
      may_come.insert(may_come.end(), {"<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"});
    }
    EXPECT_EQ(allowed_texts(mask_after(*constraint, encode(written))), may_come);
  }
  for (const char* text : {"yes", "no", "nothing", "é漢"}) EXPECT_TRUE(fits(*grammar, text));
  for (const char* text : {"", "ye", "noth", "yesno", "é"}) EXPECT_FALSE(fits(*grammar, text));
}

TEST(TokenConstraint, ChoiceRefusesWhatCannotBeChosen) {
  EXPECT_THAT(refusal(choice_grammar({})), HasSubstr("no text"));
  EXPECT_THAT(refusal(choice_grammar(std::vector<std::string>{"a", ""})), HasSubstr("choice 1"));
  EXPECT_THAT(refusal(choice_grammar(std::vector<std::string>{"a\xFF"})), HasSubstr("byte 1"));
}

TEST(TokenConstraint, AfterAStopIdOnlyStopIdsMayCome) {
  const GrammarPointer grammar = must_compile(regex_grammar("a+"), "a+");
  const auto constraint = make_token_constraint(llama3_vocabulary(), grammar);
  std::vector<TokenId> output = encode("a");
  mask_after(*constraint, output);
  for (int i = 0; i < 2; ++i) {
    output.push_back(kEot);
    EXPECT_THAT(allowed_texts(mask_after(*constraint, output)),
                testing::UnorderedElementsAre("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"));
  }
}

TEST(TokenConstraint, AStopIdThatIsTextEndsTheAnswerOnly) {
  const TokenId newline = encode("\n").at(0);
  const auto vocabulary = make_token_vocabulary(*llama3_tokenizer(), std::vector<TokenId>{newline});
  const GrammarPointer grammar = must_compile(regex_grammar("a\n\n"), "a, two newlines");
  const auto constraint = make_token_constraint(vocabulary, grammar);
  std::vector<TokenId> output = encode("a");
  EXPECT_EQ(allowed_texts(mask_after(*constraint, output)), std::vector<std::string>{"\n\n"});
  output.push_back(encode("\n\n").at(0));
  EXPECT_EQ(allowed_texts(mask_after(*constraint, output)), std::vector<std::string>{"\n"});
}

TEST(TokenConstraint, AnswersThatDoNotFollowTheForm) {
  const GrammarPointer grammar = must_compile(regex_grammar("abc"), "abc");
  const auto constraint = make_token_constraint(llama3_vocabulary(), grammar);
  const std::vector<std::vector<TokenId>> answers = {
      encode("x"), {kEot}, {encode("a")[0], encode("c")[0]}, {128006}, {-1}, {1 << 30}};
  for (const std::vector<TokenId>& answer : answers) {
    const auto fresh = make_token_constraint(llama3_vocabulary(), grammar);
    const auto mask = fresh->allowed_after(answer);
    ASSERT_FALSE(mask);
    EXPECT_EQ(mask.error().code, ErrorCode::kInternal);
    EXPECT_THAT(mask.error().text(), HasSubstr(fmt::format("token {} of", answer.size() - 1)));
  }
  // A shorter answer starts again.
  EXPECT_TRUE(is_allowed(mask_after(*constraint, encode("abc")), kEot));
  EXPECT_TRUE(is_allowed(mask_after(*constraint, encode("ab")), encode("c")[0]));
}

TEST(TokenConstraint, NestingEndsBeforeTheLimit) {
  const GrammarPointer grammar = must_compile(json_object_grammar(), "JSON object");
  const std::string deep = R"({"a":)";
  std::size_t depth = 0;
  FormRun run(grammar->form());
  for (const char c : deep) ASSERT_TRUE(run.follow(static_cast<std::uint8_t>(c)));
  while (depth < 500) {
    FormRun next = run;
    ASSERT_TRUE(next.follow('['));
    if (next.threads().empty()) break;
    run = next;
    ++depth;
  }
  EXPECT_GT(depth, 90U);
  EXPECT_LT(depth, 110U);
  // The deepest array can still be filled and closed.
  ASSERT_TRUE(run.follow(']'));
  for (std::size_t i = 1; i < depth; ++i) ASSERT_TRUE(run.follow(']'));
  ASSERT_TRUE(run.follow('}'));
  EXPECT_TRUE(run.complete());
}

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Printed for docs; the bounds are loose, as other work may run on the machine.
TEST(TokenConstraint, CostsLittleBesideAStep) {
  const std::string schema = R"({"type": "object", "properties": {
    "title": {"type": "string"}, "year": {"type": "integer", "minimum": 1900, "maximum": 2100},
    "rating": {"type": "number"}, "genres": {"type": "array", "items": {"enum":
    ["drama", "comedy", "horror", "documentary"]}}, "director": {"type": "object", "properties": {
    "name": {"type": "string", "maxLength": 80}, "born": {"type": "string", "format": "date"}},
    "required": ["name", "born"]}}, "required": ["title", "year", "genres", "director"]})";
  const std::string text =
      R"({"title": "The \"Long\" Way Home: a story of 3 friends", "year": 1987, )"
      R"("rating": 7.5, "genres": ["drama", "comedy"], "director": )"
      R"({"name": "Ana María López", "born": "1941-02-28"}})";
  llama3_vocabulary();
  const std::vector<TokenId> ids = encode(text);
  const std::vector<std::pair<const char*, std::function<GrammarPointer()>>> cases = {
      {"schema", [&] { return schema_of(schema); }},
      {"JSON object", [] { return must_compile(json_object_grammar(), "JSON object"); }},
      {"regex .*", [] { return must_compile(regex_grammar(".*"), ".*"); }}};
  for (const auto& [name, compile] : cases) {
    GrammarPointer grammar;
    const double compile_s = seconds_of([&, &make = compile] { grammar = make(); });
    ASSERT_NE(grammar, nullptr);
    std::vector<double> times[2];
    for (auto& of_pass : times) {
      const auto constraint = make_token_constraint(llama3_vocabulary(), grammar);
      for (std::size_t i = 0; i <= ids.size(); ++i) {
        of_pass.push_back(
            seconds_of([&] { EXPECT_TRUE(constraint->allowed_after(std::span(ids).first(i))); }));
      }
    }
    std::cout << fmt::format(
        "{}: compiled in {:.2f} ms; {} masks: first time median {:.1f} us, worst {:.1f} us; "
        "again median {:.2f} us, worst {:.1f} us\n",
        name, compile_s * 1e3, ids.size() + 1, median(times[0]) * 1e6,
        *std::max_element(times[0].begin(), times[0].end()) * 1e6, median(times[1]) * 1e6,
        *std::max_element(times[1].begin(), times[1].end()) * 1e6);
    EXPECT_LT(median(times[0]), 5e-3);
    EXPECT_LT(median(times[1]), 1e-3);
  }
}

}  // namespace
}  // namespace tg
