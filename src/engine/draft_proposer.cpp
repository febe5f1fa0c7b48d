#include "engine/draft_proposer.h"

#include <algorithm>
#include <utility>

namespace tg {

DraftProposer::DraftProposer(ModelRunner& draft)
    : draft_(draft), capacity_(draft.kv_capacity()), pages_(capacity_.blocks) {
  TG_CHECK(draft.kv_domains() == 1);
}

std::int64_t DraftProposer::count(RequestId /*id*/, std::span<const TokenId> tokens,
                                  std::int64_t most) {
  // The last proposal is not run, so it needs no position.
  const auto text = static_cast<std::int64_t>(tokens.size());
  return std::clamp<std::int64_t>(draft_.max_context() - text + 1, 0, most);
}

void DraftProposer::forget(RequestId id) {
  const auto found = users_.find(id);
  if (found == users_.end()) return;
  pages_.release(found->second.pages);
  users_.erase(found);
}

Status DraftProposer::propose(std::span<ProposalAsk> asks) {
  members_.clear();
  for (ProposalAsk& ask : asks) start(ask);
  plan_catching_up();
  TG_RETURN_IF_ERROR(run_members());
  while (plan_next_tokens()) TG_RETURN_IF_ERROR(run_members());
  return {};
}

// Forgets what it guessed and the text then had not.
void DraftProposer::start(ProposalAsk& ask) {
  User& user = users_[ask.id];
  // The last token is always run again: its row says what comes next.
  const std::size_t end = std::min(user.cached.size(), ask.tokens.size() - 1);
  while (user.agreed < end && user.cached[user.agreed] == ask.tokens[user.agreed]) ++user.agreed;
  user.cached.resize(user.agreed);
  members_.push_back({&ask, &user, ask.tokens.subspan(user.agreed), false});
}

// The rows of a step go to those first who need the fewest: a newcomer's prompt does not keep the
// others from their proposals.
void DraftProposer::plan_catching_up() {
  std::ranges::sort(members_, {},
                    [](const Member& m) { return std::pair(m.rows.size(), m.ask->id); });
  auto left = static_cast<std::size_t>(capacity_.max_rows);
  for (Member& member : members_) {
    const std::size_t missing = member.rows.size();
    member.rows = member.rows.first(std::min(missing, left));
    left -= member.rows.size();
    member.speaks = member.rows.size() == missing;
  }
  std::erase_if(members_, [this](Member& m) { return m.rows.empty() || !take_pages(m); });
}

// Who has said something and may say more: one row with what he said last.
bool DraftProposer::plan_next_tokens() {
  std::erase_if(members_, [this](Member& member) {
    const std::vector<TokenId>& said = *member.ask->proposals;
    if (!member.speaks || std::ssize(said) >= member.ask->most) return true;
    member.rows = std::span(said).last(1);
    return !take_pages(member);
  });
  return !members_.empty();
}

bool DraftProposer::take_pages(Member& member) {
  const auto positions = static_cast<std::int64_t>(member.user->cached.size() + member.rows.size());
  const std::int64_t missing =
      pages_for(positions, capacity_.block) - static_cast<std::int64_t>(member.user->pages.size());
  return missing <= 0 || pages_.allocate(missing, member.user->pages);
}

Status DraftProposer::run_members() {
  if (members_.empty()) return {};
  asks_.clear();
  asks_.reserve(members_.size());  // the sequences point into it
  sequences_.clear();
  for (const Member& member : members_) {
    RowAsk& ask = asks_.emplace_back();
    ask.row = std::ssize(member.rows) - 1;
    ask.params = &greedy_;
    StepSequence& sequence = sequences_.emplace_back();
    sequence.tokens = member.rows;
    sequence.first_position = std::ssize(member.user->cached);
    sequence.pages = member.user->pages;
    if (member.speaks) sequence.asks = {&ask, 1};
  }
  TG_ASSIGN(const StepResult result, draft_.step({sequences_}));
  std::size_t next = 0;
  for (const Member& member : members_) {
    std::vector<TokenId>& cached = member.user->cached;
    cached.insert(cached.end(), member.rows.begin(), member.rows.end());
    if (!member.speaks) continue;
    if (next == result.answers.size()) {
      return error(ErrorCode::kInternal, "the draft model gave {} answers, too few", next);
    }
    member.ask->proposals->push_back(result.answers[next++].token.token);
  }
  return {};
}

}  // namespace tg
