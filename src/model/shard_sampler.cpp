#include "model/shard_sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "model/candidates.h"

namespace tg {
namespace {

// Places in a slot.
constexpr std::size_t kBest = 0;     // the largest logit
constexpr std::size_t kSumHigh = 1;  // LogSum::sum as two floats, to lose nothing that matters
constexpr std::size_t kSumLow = 2;
constexpr std::size_t kWanted = 3;   // kScore: the logit of `next`, where the shard has it
constexpr std::size_t kLeftOut = 4;  // the logit of ids that are tied with the last candidate
constexpr std::size_t kHeader = 5;

// The shard's best `n` ids in scratch.candidates, ids ascending; returns the logit of those that
// are as good as the last of them and were left out, -inf when there are none.
float best_of_shard(std::span<const float> logits, TokenId first, float best, std::int64_t n,
                    SamplerScratch& scratch) {
  std::vector<Candidate>& candidates = scratch.candidates;
  candidates.clear();
  if (n == 0 || best == kForbidden) return kForbidden;
  if (n == 1) {
    const std::size_t at = find_logit(logits, best);
    candidates.push_back({best, first + static_cast<TokenId>(at)});
    const std::span<const float> rest = logits.subspan(at + 1);
    return find_logit(rest, best) < rest.size() ? best : kForbidden;
  }
  collect(logits, first, static_cast<double>(nth_largest(logits, n, scratch)), scratch);
  const auto count = static_cast<std::size_t>(n);
  if (candidates.size() <= count) return kForbidden;
  std::sort(candidates.begin(), candidates.end(), better);
  candidates.resize(count);
  const float left_out = candidates.back().logit;
  std::sort(candidates.begin(), candidates.end(), lower_id);
  return left_out;
}

// What the headers of all slots say together.
struct Headers {
  LogSum sum;
  float wanted = kForbidden;
  float left_out = kForbidden;
};

// The candidates of all shards go to scratch.candidates, ids ascending.
Headers read_slots(const ShardQuery& query, const ShardSlots& slots, SamplerScratch& scratch) {
  Headers all;
  scratch.candidates.clear();
  for (std::int64_t s = 0; s < slots.shards; ++s) {
    const float* slot = slots.data + s * slots.stride;
    const double sum = static_cast<double>(slot[kSumHigh]) + static_cast<double>(slot[kSumLow]);
    all.sum = merged(all.sum, {slot[kBest], sum});
    if (slot[kWanted] > all.wanted) all.wanted = slot[kWanted];
    all.left_out = std::max(all.left_out, slot[kLeftOut]);
    const float* logits = slot + kHeader;
    const float* ids = logits + query.candidates;
    for (std::int64_t i = 0; i < query.candidates && logits[i] > kForbidden; ++i) {
      scratch.candidates.push_back({logits[i], static_cast<TokenId>(ids[i])});
    }
  }
  return all;
}

// Draws among scratch.candidates; nullopt when top-k needs ids that are not there.
std::optional<Candidate> choose_candidate(const RowAsk& ask, const Headers& headers,
                                          SamplerScratch& scratch) {
  const SamplingParams& params = *ask.params;
  std::vector<Candidate>& candidates = scratch.candidates;
  if (params.greedy()) return *std::min_element(candidates.begin(), candidates.end(), better);
  // Every token tied with the k-th stays.
  const float floor = nth_candidate(params.top_k, scratch);
  if (headers.left_out > kForbidden && headers.left_out >= floor) return std::nullopt;
  std::erase_if(candidates, [floor](const Candidate& c) { return c.logit < floor; });
  const double best = finite_best(headers.sum.best);
  keep_candidates(best, params, scratch);
  const double sum = weigh_candidates(best, params, scratch);
  return draw(uniform_draw(params.seed, ask.context.token_index), sum, scratch);
}

SampledToken merge_score(const RowAsk& ask, const Headers& headers, std::int64_t vocab,
                         const SamplerScratch& scratch) {
  SampledToken scored;
  scored.token = ask.next;
  scored.logprob = kForbidden;
  if (ask.next < 0 || ask.next >= vocab) return scored;
  const double log_sum = headers.sum.log();
  scored.logprob = logprob_of(headers.wanted, log_sum);
  scored.top = best_tokens(scratch.candidates, ask.top_n, vocab, log_sum);
  return scored;
}

}  // namespace

std::optional<ShardQuery> query_of(const RowAsk& ask, std::int64_t vocab, std::int64_t shard_ids) {
  ShardQuery query;
  switch (ask.kind) {
    case RowAsk::Kind::kLogits:
      return std::nullopt;
    case RowAsk::Kind::kScore:
      query.candidates = ask.top_n;
      query.log_sum = true;
      break;
    case RowAsk::Kind::kSample: {
      const SamplingParams& params = *ask.params;
      if (!params.greedy() && !params.has_top_k(vocab)) return std::nullopt;
      const std::int64_t drawn_from = params.greedy() ? 1 : params.top_k;
      query.candidates = std::max<std::int64_t>(drawn_from, params.top_logprobs);
      query.log_sum = params.top_logprobs >= 0;
      break;
    }
  }
  query.candidates = std::clamp<std::int64_t>(query.candidates, 0, shard_ids);
  return query;
}

bool worth_sharding(const ShardQuery& query, std::int64_t vocab, std::int64_t shard_ids) {
  return vocab <= kMaxShardedVocab && query.floats() < shard_ids;
}

void fill_slot(const RowAsk& ask, const ShardQuery& query, std::span<const float> logits,
               TokenId first, SamplerScratch& scratch, std::span<float> slot) {
  TG_CHECK(static_cast<std::int64_t>(slot.size()) == query.floats());
  const float best = largest_logit(logits);
  slot[kBest] = best;
  const double sum = query.log_sum ? log_sum(logits, best).sum : 0.0;
  slot[kSumHigh] = static_cast<float>(sum);
  slot[kSumLow] = static_cast<float>(sum - static_cast<double>(slot[kSumHigh]));
  const std::int64_t wanted = static_cast<std::int64_t>(ask.next) - first;
  const bool has_wanted = ask.kind == RowAsk::Kind::kScore && wanted >= 0 &&
                          wanted < static_cast<std::int64_t>(logits.size());
  slot[kWanted] = has_wanted ? logits[static_cast<std::size_t>(wanted)] : kForbidden;
  slot[kLeftOut] = best_of_shard(logits, first, best, query.candidates, scratch);
  const std::span<float> listed = slot.subspan(kHeader);
  const auto count = static_cast<std::size_t>(query.candidates);
  for (std::size_t i = 0; i < count; ++i) {
    const bool there = i < scratch.candidates.size();
    listed[i] = there ? scratch.candidates[i].logit : kForbidden;
    listed[count + i] = there ? static_cast<float>(scratch.candidates[i].token) : 0.0F;
  }
}

std::optional<SampledToken> merge_slots(const RowAsk& ask, const ShardQuery& query,
                                        const ShardSlots& slots, std::int64_t vocab,
                                        SamplerScratch& scratch) {
  const Headers headers = read_slots(query, slots, scratch);
  if (ask.kind == RowAsk::Kind::kScore) return merge_score(ask, headers, vocab, scratch);
  SampledToken sampled;
  if (headers.sum.best == kForbidden) {
    sampled.logprob = kForbidden;
    return sampled;
  }
  const std::int32_t top_n = ask.params->top_logprobs;
  const double log_sum = headers.sum.log();
  if (top_n > 0) sampled.top = best_tokens(scratch.candidates, top_n, vocab, log_sum);
  const auto chosen = choose_candidate(ask, headers, scratch);
  if (!chosen) return std::nullopt;
  sampled.token = chosen->token;
  if (top_n >= 0) sampled.logprob = logprob_of(chosen->logit, log_sum);
  return sampled;
}

}  // namespace tg
