// What: proposals from a smaller model of the same vocabulary: what it would say next, greedily,
// for
//   all asked users in one step of it per token. It has KV pages of its own, in which each user's
//   text is caught up with when he is asked for: a long prompt over several steps.
// Who owns: the caller of the engine; the draft's runner is borrowed. Thread: the engine's.
#pragma once

#include <unordered_map>

#include "engine/page_pool.h"
#include "engine/proposer.h"

namespace tg {

class DraftProposer : public Proposer {
 public:
  // The runner has one KV domain. Where its pages run out, or its context, a user gets no
  // proposals.
  explicit DraftProposer(ModelRunner& draft);

  std::int64_t count(RequestId id, std::span<const TokenId> tokens, std::int64_t most) override;
  Status propose(std::span<ProposalAsk> asks) override;
  void forget(RequestId id) override;

  std::int64_t free_pages() const { return pages_.free_pages(); }
  std::int64_t total_pages() const { return pages_.size(); }

 private:
  struct User {
    std::vector<TokenId> cached;  // whose keys and values are in the pages
    std::size_t agreed = 0;       // of them, those that the text has too; it only grows
    PageTable pages;
  };
  // A user of the propose() in progress, and his rows of the step.
  struct Member {
    ProposalAsk* ask = nullptr;
    User* user = nullptr;
    std::span<const TokenId> rows;
    bool speaks = false;  // his last row is the end of his text: it says what comes next
  };

  void start(ProposalAsk& ask);
  void plan_catching_up();
  bool plan_next_tokens();
  bool take_pages(Member& member);
  Status run_members();

  ModelRunner& draft_;
  KvCapacity capacity_;
  PagePool pages_;
  SamplingParams greedy_;
  std::unordered_map<RequestId, User> users_;
  std::vector<Member> members_;
  std::vector<RowAsk> asks_;             // one per member
  std::vector<StepSequence> sequences_;  // of the step in progress
};

}  // namespace tg
