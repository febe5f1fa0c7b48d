#include "engine/ngram_proposer.h"

#include <algorithm>

namespace tg {
namespace {

// Of the latest so many places where the last tokens stood, the one with most in common before
// them is taken: in prose "of the" stands everywhere, and what goes before says which one it is.
constexpr int kPlaces = 8;
constexpr std::size_t kCommon = 16;  // tokens compared at most

std::size_t common_before(std::span<const TokenId> tokens, std::size_t place) {
  const std::size_t last = tokens.size() - 1;
  std::size_t common = 0;
  while (common < kCommon && common <= place && tokens[place - common] == tokens[last - common]) {
    ++common;
  }
  return common;
}

std::int32_t best_place(const NgramIndex& index, std::span<const TokenId> tokens) {
  std::int32_t best = NgramIndex::kNone;
  std::size_t most = 0;
  std::int32_t place = index.latest(tokens);
  for (int i = 0; i < kPlaces && place != NgramIndex::kNone; ++i, place = index.before(place)) {
    const std::size_t common = common_before(tokens, static_cast<std::size_t>(place));
    if (common <= most) continue;
    most = common;
    best = place;
  }
  return best;
}

}  // namespace

std::int64_t NgramProposer::count(RequestId id, std::span<const TokenId> tokens,
                                  std::int64_t most) {
  return find(id, tokens) == NgramIndex::kNone ? 0 : most;
}

Status NgramProposer::propose(std::span<ProposalAsk> asks) {
  for (const ProposalAsk& ask : asks) {
    const std::int32_t place = find(ask.id, ask.tokens);
    if (place == NgramIndex::kNone) continue;
    const std::size_t first = static_cast<std::size_t>(place) + 1;
    const std::size_t known = ask.tokens.size() - first;  // at least one
    for (std::size_t i = 0; i < static_cast<std::size_t>(ask.most); ++i) {
      // Behind the end of the text come the proposals themselves: a short period goes on.
      ask.proposals->push_back(i < known ? ask.tokens[first + i] : (*ask.proposals)[i - known]);
    }
  }
  return {};
}

std::int32_t NgramProposer::find(RequestId id, std::span<const TokenId> tokens) {
  User& user = users_[id];
  if (user.looked_at == tokens.size()) return user.place;
  user.looked_at = tokens.size();
  user.three.extend(tokens);
  user.two.extend(tokens);
  user.place = best_place(user.three, tokens);
  if (user.place == NgramIndex::kNone) user.place = best_place(user.two, tokens);
  return user.place;
}

}  // namespace tg
