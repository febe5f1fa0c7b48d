#include "engine/ngram_index.h"

#include <algorithm>

namespace tg {

void NgramIndex::extend(std::span<const TokenId> text) {
  if (text.empty()) return;
  for (; indexed_ < text.size() - 1; ++indexed_) {
    std::int32_t earlier = kNone;
    if (indexed_ + 1 >= n_) {
      if (2 * (used_ + 1) > latest_.size()) grow(text);
      std::int32_t& latest = latest_[slot_of(text, indexed_)];
      earlier = latest;
      if (earlier == kNone) ++used_;
      latest = static_cast<std::int32_t>(indexed_);
    }
    previous_.push_back(earlier);
  }
}

std::int32_t NgramIndex::latest(std::span<const TokenId> text) const {
  if (text.size() <= n_ || latest_.empty()) return kNone;
  return latest_[slot_of(text, text.size() - 1)];
}

std::size_t NgramIndex::slot_of(std::span<const TokenId> text, std::size_t end) const {
  const auto run_at = [&](std::size_t last) { return text.subspan(last + 1 - n_, n_); };
  const std::span<const TokenId> run = run_at(end);
  std::uint64_t hash = 0;
  for (const TokenId id : run) {
    // 2^64 / golden ratio, odd: spreads neighbouring ids over the upper bits.
    hash = (hash ^ static_cast<std::uint32_t>(id)) * 0x9e3779b97f4a7c15U;
    hash ^= hash >> 32;
  }
  const std::size_t mask = latest_.size() - 1;
  std::size_t slot = hash & mask;
  // The table is at most half full, so a free slot comes soon.
  while (latest_[slot] != kNone &&
         !std::ranges::equal(run_at(static_cast<std::size_t>(latest_[slot])), run)) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

void NgramIndex::grow(std::span<const TokenId> text) {
  constexpr std::size_t kFirst = 256;
  std::vector<std::int32_t> old(std::max(kFirst, 2 * latest_.size()), kNone);
  old.swap(latest_);
  for (const std::int32_t end : old) {
    if (end != kNone) latest_[slot_of(text, static_cast<std::size_t>(end))] = end;
  }
}

}  // namespace tg
