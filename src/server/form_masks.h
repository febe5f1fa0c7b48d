// What: the forms that answers can be asked for (JSON, a schema, an expression, one of some texts)
//   as masks that the engine asks before each token.
// Who owns: the Api. Thread: any; a mask belongs to one request.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
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

  // What is kept of the forms asked for last: a client sends the same one again and again, and with
  // it come the masks that were made of it.
  static constexpr std::size_t kMostKept = 8;
  static constexpr std::size_t kMostSourceBytes = 64 << 10;  // of a kept one
  static constexpr std::size_t kMostGrammarBytes = 4 << 20;

  // nullptr for an answer of any form. Errors name the form's field.
  Result<std::shared_ptr<const Grammar>> grammar(const AnswerForm& form);
  std::unique_ptr<TokenMask> mask(const std::shared_ptr<const Grammar>& grammar);

 private:
  using Kept = std::pair<std::string, std::shared_ptr<const Grammar>>;  // by kind and source

  std::shared_ptr<const Grammar> find(const std::string& key);
  void keep(const std::string& key, const std::shared_ptr<const Grammar>& grammar);

  const std::shared_ptr<const Tokenizer> tokenizer_;
  const std::vector<TokenId> stop_ids_;
  std::once_flag made_;  // by the first request that needs it: the trie of a vocabulary takes time
  std::shared_ptr<const TokenVocabulary> vocabulary_;
  std::mutex mutex_;        // for kept_
  std::vector<Kept> kept_;  // the latest used last
};

}  // namespace tg
