// What: for the tests: grammars that have to compile, whether a text fits one, vocabularies, and
// the
//   masks of a constraint.
// Who owns: tokenizers are made once per program. Thread: one.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/form_run.h"
#include "grammar/grammar.h"
#include "grammar/token_constraint.h"
#include "grammar/token_vocabulary.h"
#include "text/tokenizer_forms.h"

namespace tg {

using GrammarPointer = std::shared_ptr<const Grammar>;
using VocabularyPointer = std::shared_ptr<const TokenVocabulary>;

inline GrammarPointer must_compile(Result<GrammarPointer> result, std::string_view what) {
  if (!result) {
    ADD_FAILURE() << what.substr(0, 300) << ": " << result.error().text();
    return nullptr;
  }
  return *result;
}

inline GrammarPointer schema_of(std::string_view schema) {
  return must_compile(json_schema_grammar(schema), schema);
}

inline std::string refusal(const Result<GrammarPointer>& result) {
  return result ? "accepted" : result.error().text();
}

// Byte by byte, without any vocabulary.
inline bool fits(const Grammar& grammar, std::string_view text) {
  FormRun run(grammar.form());
  for (const char c : text) {
    const Status status = run.follow(static_cast<std::uint8_t>(c));
    EXPECT_TRUE(status) << status.error().text();
    if (run.threads().empty() && !run.complete()) return false;
  }
  return run.complete();
}

inline const Tokenizer& tiny_tokenizer() {
  static const TokenizerPointer tokenizer =
      must(load_tiktoken(kGolden + "tiny/meta_mp8/tokenizer.model"));
  return *tokenizer;
}

inline const VocabularyPointer& tiny_vocabulary() {
  static const VocabularyPointer vocabulary =
      make_token_vocabulary(tiny_tokenizer(), tiny_tokenizer().default_stop_ids());
  return vocabulary;
}

inline const VocabularyPointer& llama3_vocabulary() {
  static const VocabularyPointer vocabulary =
      make_token_vocabulary(*llama3_tokenizer(), llama3_tokenizer()->default_stop_ids());
  return vocabulary;
}

inline bool is_allowed(std::span<const std::uint32_t> mask, TokenId id) {
  const auto bit = static_cast<std::size_t>(id);
  return (mask[bit / 32] >> (bit % 32) & 1U) != 0;
}

// The words of the mask; a failure and no words on an error.
inline std::span<const std::uint32_t> mask_after(TokenConstraint& constraint,
                                                 const std::vector<TokenId>& output) {
  const auto mask = constraint.allowed_after(output);
  if (mask) return *mask;
  ADD_FAILURE() << mask.error().text();
  return {};
}

}  // namespace tg
