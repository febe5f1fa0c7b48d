// What: the pages of one KV domain: who holds them (PagePool) and, with the prefix cache, what the
//   full ones hold (PrefixIndex). A page that its last holder gives back stays findable until it
//   is handed out again; it counts as free all the while.
//   Every holder of a page holds its parents too, so these are free later and go later.
// Who owns: the engine, one per KV domain. Thread: the engine's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/page_pool.h"
#include "engine/prefix_index.h"
#include "engine/scheduler.h"

namespace tg {

class KvPages {
 public:
  KvPages(std::int64_t pages, std::int64_t block, bool prefix_cache,
          std::optional<std::uint64_t> shuffle_seed = std::nullopt);

  std::int64_t size() const { return pool_.size(); }
  std::int64_t free_pages() const { return pool_.free_pages(); }
  std::int64_t evictions() const {
    return evictions_;
  }  // pages that were findable until handed out
  std::int64_t findable_pages() const { return index_ ? index_->entries() : 0; }

  [[nodiscard]] bool allocate(std::int64_t count, PageTable& table);
  void release(PageTable& table) { pool_.release(table); }

  // How many full pages hold the beginning of `tokens`.
  PrefixHit find(std::span<const TokenId> tokens) const;
  // The first `pages` of these, which find() told of, become the beginning of the empty `table`.
  void share(std::span<const TokenId> tokens, std::int64_t pages, PageTable& table);

  // The pages of `table` hold the keys and values of `tokens`: those that are full become findable.
  // The first `published` of them are so already; returns how many are now. Where another page
  // holds the same, the table gets that one and gives back its own.
  std::int64_t publish(std::span<const TokenId> tokens, std::int64_t published, PageTable& table);

  // How many of a table's pages were in a table asked about since start_counting().
  void start_counting() { ++count_; }
  std::int64_t seen_before(std::span<const PageId> table);

 private:
  std::span<const TokenId> block_of(std::span<const TokenId> tokens, std::int64_t page) const {
    return tokens.subspan(static_cast<std::size_t>(page * block_),
                          static_cast<std::size_t>(block_));
  }
  std::int64_t full_pages(std::span<const TokenId> tokens) const {
    return static_cast<std::int64_t>(tokens.size()) / block_;
  }

  std::int64_t block_;
  PagePool pool_;
  std::optional<PrefixIndex> index_;  // none: without the prefix cache
  std::int64_t evictions_ = 0;
  std::vector<std::uint64_t> counted_in_;  // [pages]: the count that saw a page last
  std::uint64_t count_ = 0;
};

}  // namespace tg
