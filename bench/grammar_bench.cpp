// What a form costs: the time to make its grammar, and of each token's mask, when the places in the
// form are met for the first time and when they are known. Processor time, the least of the rounds.
//   grammar_bench MODEL|TOKENIZER [ROUNDS [STEP_MS]]
//   grammar_bench models/SmolLM2-135M-Instruct.Q4_1.gguf 9 7.5
// With STEP_MS, the time of a step of one user, shares of it are printed, too.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/opened_model.h"
#include "grammar/token_constraint.h"

namespace tg {
namespace {

constexpr const char* kTools = R"({"anyOf": [
 {"type": "object", "properties": {"name": {"const": "search_flights"}, "parameters":
  {"type": "object", "properties": {
   "from": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "an airport"},
   "to": {"type": "string", "pattern": "^[A-Z]{3}$"},
   "date": {"type": "string", "format": "date"},
   "passengers": {"type": "array", "minItems": 1, "maxItems": 9, "items": {"type": "object",
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 80},
     "age": {"type": "integer", "minimum": 0, "maximum": 120},
     "meal": {"enum": ["none", "vegetarian", "vegan", "kosher", "halal"]}},
    "required": ["name", "age"], "additionalProperties": false}},
   "cabin": {"enum": ["economy", "premium economy", "business", "first"]},
   "most": {"type": "number", "exclusiveMinimum": 0, "maximum": 20000},
   "direct": {"type": "boolean"}},
   "required": ["from", "to", "date", "passengers"], "additionalProperties": false}},
  "required": ["name", "parameters"], "additionalProperties": false},
 {"type": "object", "properties": {"name": {"const": "send_mail"}, "parameters":
  {"type": "object", "properties": {
   "to": {"type": "array", "items": {"type": "string", "format": "email"}, "minItems": 1},
   "subject": {"type": "string", "maxLength": 200}, "text": {"type": "string"},
   "at": {"type": "string", "format": "date-time"},
   "headers": {"type": "object", "additionalProperties": {"type": "string"}}},
   "required": ["to", "subject", "text"], "additionalProperties": false}},
  "required": ["name", "parameters"], "additionalProperties": false},
 {"type": "object", "properties": {"name": {"const": "run_query"}, "parameters":
  {"type": "object", "properties": {"table": {"type": "string"},
   "where": {"$ref": "#/$defs/condition"}, "limit": {"type": "integer", "minimum": 1}},
   "required": ["table"], "additionalProperties": false}},
  "required": ["name", "parameters"], "additionalProperties": false}],
 "$defs": {"condition": {"anyOf": [
  {"type": "object", "properties": {"all": {"type": "array",
   "items": {"$ref": "#/$defs/condition"}}}, "required": ["all"], "additionalProperties": false},
  {"type": "object", "properties": {"column": {"type": "string"},
   "is": {"enum": ["=", "<", ">", "like"]},
   "value": {"type": ["string", "number", "boolean", "null"]}},
   "required": ["column", "is", "value"], "additionalProperties": false}]}}})";

struct Case {
  const char* name;
  Result<std::shared_ptr<const Grammar>> (*make)();
  std::string answer;
};

std::vector<Case> cases() {
  const auto tools = [] { return json_schema_grammar(kTools); };
  return {
      {"tool call, flights", tools,
       R"({"name": "search_flights", "parameters": {"from": "FRA", "to": "LIS", )"
       R"("date": "2026-03-14", "passengers": [{"name": "Ada Lovelace", "age": 36, )"
       R"("meal": "vegetarian"}, {"name": "Charles Babbage", "age": 79}], )"
       R"("cabin": "premium economy", "most": 1250.5, "direct": true}})"},
      {"tool call, mail", tools,
       R"({"name": "send_mail", "parameters": {"to": ["ada@example.org", "c.b@example.com"], )"
       R"("subject": "The engine", "text": "Dear Ada,\n\nthe \"Analytical Engine\" weaves )"
       R"(algebraical patterns just as the loom weaves flowers and leaves.\n\nYours, Charles", )"
       R"("at": "2026-03-14T09:30:00Z", "headers": {"Reply-To": "charles", "X-Kind": "note"}}})"},
      {"tool call, query", tools,
       R"({"name": "run_query", "parameters": {"table": "engines", "where": {"all": [)"
       R"({"column": "wheels", "is": ">", "value": 1000}, {"all": [{"column": "name", )"
       R"("is": "like", "value": "Diff%"}, {"column": "built", "is": "=", "value": null}]}]}, )"
       R"("limit": 25}})"},
      {"JSON object", json_object_grammar,
       R"({"title": "A list", "items": [1, 2.5, -3e2, true, null, {"deep": [[], {}]}], )"
       R"("text": "Some words with \u00e9 and \"quotes\" in them."})"},
      {"expression", [] { return regex_grammar(R"((\w+ ){3,12}\w+\.(\n- [^\n]+)*)"); },
       "Here is a short list.\n- the first of them\n- another one, with a comma"},
      {"choice",
       [] { return choice_grammar(std::vector<std::string>{"positive", "negative", "neutral"}); },
       "negative"},
  };
}

double processor_ms() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}

// The masks of the whole answer, into the least time seen of each; false on an error.
bool walk(const std::shared_ptr<const TokenVocabulary>& vocabulary,
          const std::shared_ptr<const Grammar>& grammar, const std::vector<TokenId>& answer,
          std::vector<double>& least) {
  const auto constraint = make_token_constraint(vocabulary, grammar);
  least.resize(answer.size() + 1, 1e9);
  for (std::size_t i = 0; i <= answer.size(); ++i) {
    const std::vector<TokenId> output(answer.begin(),
                                      answer.begin() + static_cast<std::ptrdiff_t>(i));
    const double begin = processor_ms();
    const auto mask = constraint->allowed_after(output);
    least[i] = std::min(least[i], processor_ms() - begin);
    if (!mask) {
      fmt::print("{}\n", mask.error().text());
      return false;
    }
  }
  return true;
}

double sum(const std::vector<double>& times) {
  double all = 0;
  for (const double t : times) all += t;
  return all;
}

int run(const std::string& path, int rounds, double step_ms) {
  const auto tokenizer = open_tokenizer(path);
  if (!tokenizer) {
    fmt::print("{}\n", tokenizer.error().text());
    return 1;
  }
  const double begin = processor_ms();
  const auto vocabulary = make_token_vocabulary(**tokenizer, (*tokenizer)->default_stop_ids());
  fmt::print("{} tokens; the trie takes {:.0f} ms, once\n", (*tokenizer)->vocab_size(),
             processor_ms() - begin);
  fmt::print("{:20} {:>9} {:>7} {:>11} {:>11} {:>11}{}\n", "form", "grammar", "tokens", "new, mean",
             "new, most", "known, mean", step_ms > 0 ? "   of a step" : "");
  for (const Case& c : cases()) {
    double making = 1e9;
    std::vector<double> first;
    std::vector<double> again;
    const std::vector<TokenId> answer = (*tokenizer)->encode(c.answer, SpecialTokens::kAsText);
    for (int round = 0; round < rounds; ++round) {
      const double start = processor_ms();
      const auto grammar = c.make();
      making = std::min(making, processor_ms() - start);
      if (!grammar) {
        fmt::print("{}: {}\n", c.name, grammar.error().text());
        return 1;
      }
      if (!walk(vocabulary, *grammar, answer, first)) return 1;
      if (!walk(vocabulary, *grammar, answer, again)) return 1;
    }
    const auto masks = static_cast<double>(first.size());
    fmt::print("{:20} {:6.2f} ms {:7} {:8.3f} ms {:8.3f} ms {:8.3f} ms", c.name, making,
               answer.size(), sum(first) / masks, *std::max_element(first.begin(), first.end()),
               sum(again) / masks);
    if (step_ms > 0) {
      fmt::print("   {:.1f} %, {:.1f} %", 100 * sum(first) / masks / step_ms,
                 100 * sum(again) / masks / step_ms);
    }
    fmt::print("\n");
  }
  return 0;
}

}  // namespace
}  // namespace tg

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print("grammar_bench MODEL|TOKENIZER [ROUNDS [STEP_MS]]\n");
    return 2;
  }
  return tg::run(argv[1], argc > 2 ? std::atoi(argv[2]) : 7, argc > 3 ? std::atof(argv[3]) : 0.0);
}
