// What: who guesses a user's next tokens, so that one step can check several of them at once
//   (speculative decoding). A guess never shows in an answer: each row of it is sampled as in plain
//   decoding, and a guessed token stays only where it equals what was sampled.
//   NgramProposer looks for earlier text, DraftProposer asks a smaller model.
// Who owns: the caller of the engine; it outlives the engine. Thread: the engine's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/request.h"

namespace tg {

struct ProposalAsk {
  RequestId id = 0;
  std::span<const TokenId> tokens;  // prompt and answer so far
  std::int64_t most = 0;
  std::vector<TokenId>* proposals = nullptr;  // empty before; gets 0..most ids
};

class Proposer {
 public:
  virtual ~Proposer() = default;
  // How many tokens, 0..most, propose() would now give to follow `tokens`. Cheap: it is asked for
  // every user in every step. The tokens of an id only ever grow.
  virtual std::int64_t count(RequestId id, std::span<const TokenId> tokens, std::int64_t most) = 0;
  // All users of a step at once. After an error the engine goes on without proposals.
  virtual Status propose(std::span<ProposalAsk> asks) = 0;
  // The user has ended or was preempted; his id may come back.
  virtual void forget(RequestId id) = 0;
};

}  // namespace tg
