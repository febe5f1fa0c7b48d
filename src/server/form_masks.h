// What: the forms that answers can be asked for (JSON, a schema, an expression, one of some texts)
//   as masks that the engine asks before each token.
// Who owns: the Api. Thread: any; a mask belongs to one request.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "engine/request.h"
#include "grammar/token_constraint.h"
#include "server/answer_request.h"

namespace tg {

class FormMasks {
 public:
  FormMasks(std::shared_ptr<const Tokenizer> tokenizer, std::vector<TokenId> stop_ids)
      : tokenizer_(std::move(tokenizer)), stop_ids_(std::move(stop_ids)) {}

  // nullptr for an answer of any form. Errors name the form's field.
  static Result<std::shared_ptr<const Grammar>> grammar(const AnswerForm& form);
  std::unique_ptr<TokenMask> mask(const std::shared_ptr<const Grammar>& grammar);

 private:
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const std::vector<TokenId> stop_ids_;
  std::once_flag made_;  // by the first request that needs it: the trie of a vocabulary takes time
  std::shared_ptr<const TokenVocabulary> vocabulary_;
};

}  // namespace tg
