// What: proposals from the user's own text: where his last tokens stood before, in prompt or
//   answer, what followed there is proposed again. It pays where an answer quotes, summarises or
//   edits its context, and costs next to nothing elsewhere.
// Who owns: the caller of the engine. Thread: the engine's.
#pragma once

#include <unordered_map>

#include "engine/ngram_index.h"
#include "engine/proposer.h"

namespace tg {

class NgramProposer : public Proposer {
 public:
  std::int64_t count(RequestId id, std::span<const TokenId> tokens, std::int64_t most) override;
  Status propose(std::span<ProposalAsk> asks) override;
  void forget(RequestId id) override { users_.erase(id); }

 private:
  struct User {
    // Three tokens first: two are found more often and are wrong more often.
    NgramIndex three{3};
    NgramIndex two{2};
    std::size_t looked_at = 0;  // tokens of the text when `place` was found
    std::int32_t place = NgramIndex::kNone;
  };
  // Where the text's end stood before.
  std::int32_t find(RequestId id, std::span<const TokenId> tokens);

  std::unordered_map<RequestId, User> users_;
};

}  // namespace tg
