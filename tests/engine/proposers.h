// What: a Proposer that knows the answers and says a given share of them right, and the comparison
//   of two answers. Who owns: the test. Thread: the test's.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "engine/proposer.h"

namespace tg::test {

class OracleProposer : public Proposer {
 public:
  OracleProposer(double right, std::int64_t vocab) : right_(right), vocab_(vocab) {}

  // Everything that request `id` samples after its prompt.
  void will_say(RequestId id, std::size_t prompt, std::vector<TokenId> answer) {
    answers_[id] = {prompt, std::move(answer)};
  }

  std::int64_t count(RequestId id, std::span<const TokenId> tokens, std::int64_t most) override {
    seen_[id] = tokens.size();
    return right_ == 1.0 || right_ == 0.0 ? most
                                          : static_cast<std::int64_t>(random_() % 20) % (most + 1);
  }

  Status propose(std::span<ProposalAsk> asks) override {
    if (++calls == fail_at) return error(ErrorCode::kInternal, "the oracle is silent");
    for (const ProposalAsk& ask : asks) {
      EXPECT_EQ(seen_.at(ask.id), ask.tokens.size());
      EXPECT_GE(ask.most, 1);
      EXPECT_TRUE(ask.proposals->empty());
      const auto& [prompt, answer] = answers_.at(ask.id);
      for (std::size_t i = 0; i < static_cast<std::size_t>(ask.most); ++i) {
        const std::size_t at = ask.tokens.size() - prompt + i;
        const bool knows = at < answer.size();
        const bool says = std::uniform_real_distribution(0.0, 1.0)(random_) < right_;
        if (knows && says) {
          ask.proposals->push_back(answer[at]);
        } else {  // wrong, and now and then no id at all
          ask.proposals->push_back(
              says_no_ids && random_() % 10 == 0
                  ? -7
                  : static_cast<TokenId>((knows ? answer[at] + 1 : 0) % vocab_));
        }
      }
    }
    return {};
  }
  void forget(RequestId id) override { seen_.erase(id); }

  std::size_t remembered() const { return seen_.size(); }
  bool says_no_ids = false;  // when wrong, now and then
  int calls = 0;
  int fail_at = -1;  // counted from 1

 private:
  double right_;
  std::int64_t vocab_;
  std::mt19937_64 random_{7};
  std::map<RequestId, std::pair<std::size_t, std::vector<TokenId>>> answers_;
  std::map<RequestId, std::size_t> seen_;  // tokens, at the last count()
};

inline void expect_same_tokens(const std::vector<SampledToken>& a,
                               const std::vector<SampledToken>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].token, b[i].token) << "token " << i;
    ASSERT_EQ(a[i].logprob, b[i].logprob) << "token " << i;  // the very bits
    ASSERT_EQ(a[i].top.size(), b[i].top.size());
    for (std::size_t k = 0; k < a[i].top.size(); ++k) {
      ASSERT_EQ(a[i].top[k].token, b[i].top[k].token);
      ASSERT_EQ(a[i].top[k].logprob, b[i].top[k].logprob);
    }
  }
}

inline void expect_same_answer(const AnswerSink& a, const AnswerSink& b) {
  expect_same_tokens(a.sampled, b.sampled);
  expect_same_tokens(a.prompt_scores, b.prompt_scores);
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.stop_id, b.stop_id);
  EXPECT_EQ(a.reason, b.reason);
  EXPECT_EQ(a.completion_tokens, b.completion_tokens);
}

}  // namespace tg::test
