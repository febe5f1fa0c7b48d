// What: the answer to one ask about a row of logits that lies in shards of the vocabulary: each
//   shard is looked through alone and fills a slot of a few numbers, and the slots of all shards in
//   their order give what sample() and score() give of the whole row: the same token and the same
//   best ids; log-probabilities differ at most by a rounding. Nothing but the row and the shards'
//   borders shows: not which process has a shard, nor what other rows are asked for.
// Who owns: SamplerScratch and slots belong to the caller. Thread: one scratch per thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "model/model_runner.h"
#include "model/sampler.h"

namespace tg {

// What every shard has to tell for an ask.
struct ShardQuery {
  std::int64_t candidates = 0;  // its best ids, so many at most
  bool log_sum = false;

  // f32 values of a slot: five, then the candidates' logits, then their ids (exact in f32).
  std::int64_t floats() const { return 5 + 2 * candidates; }
};

// The largest vocabulary whose ids are exact in f32.
inline constexpr std::int64_t kMaxShardedVocab = std::int64_t{1} << 24;

// nullopt where the whole row is needed: kLogits, and a draw without top-k, which any id may win.
// `shard_ids`: of the largest shard; no shard tells of more.
std::optional<ShardQuery> query_of(const RowAsk& ask, std::int64_t vocab, std::int64_t shard_ids);

// Whether the slots are fewer bytes than the shards themselves, and their ids exact.
bool worth_sharding(const ShardQuery& query, std::int64_t vocab, std::int64_t shard_ids);

// Fills slot ([query.floats()]) for the shard of the ids [first, first + logits.size()), which may
// be none. For kSample adjust_logits() has been through the logits.
void fill_slot(const RowAsk& ask, const ShardQuery& query, std::span<const float> logits,
               TokenId first, SamplerScratch& scratch, std::span<float> slot);

// The slots of one ask: shard s has its at data + s * stride.
struct ShardSlots {
  const float* data = nullptr;
  std::int64_t stride = 0;
  std::int64_t shards = 0;
};

// nullopt when so many ids are tied with the top-k-th that a shard had to leave some out: then the
// whole row must choose (choose(), as the shards' logits are adjusted already).
std::optional<SampledToken> merge_slots(const RowAsk& ask, const ShardQuery& query,
                                        const ShardSlots& slots, std::int64_t vocab,
                                        SamplerScratch& scratch);

}  // namespace tg
