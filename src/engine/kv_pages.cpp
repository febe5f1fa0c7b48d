#include "engine/kv_pages.h"

namespace tg {

KvPages::KvPages(std::int64_t pages, std::int64_t block, bool prefix_cache,
                 std::optional<std::uint64_t> shuffle_seed)
    : block_(block), pool_(pages, shuffle_seed) {
  if (!prefix_cache) return;
  index_.emplace(pages, block);
  counted_in_.resize(static_cast<std::size_t>(pages));
}

bool KvPages::allocate(std::int64_t count, PageTable& table) {
  const std::size_t before = table.size();
  if (!pool_.allocate(count, table)) return false;
  if (index_) {
    // A chain's last pages were given back first and stand first in the table: children before
    // their parents.
    for (std::size_t i = before; i < table.size(); ++i) evictions_ += index_->remove(table[i]);
  }
  return true;
}

PrefixHit KvPages::find(std::span<const TokenId> tokens) const {
  PrefixHit hit;
  if (!index_) return hit;
  PageId page = PrefixIndex::kNone;
  for (; hit.pages < full_pages(tokens); ++hit.pages) {
    page = index_->find(page, block_of(tokens, hit.pages));
    if (page == PrefixIndex::kNone) break;
    if (pool_.holders(page) == 0) ++hit.free_pages;
  }
  return hit;
}

void KvPages::share(std::span<const TokenId> tokens, std::int64_t pages, PageTable& table) {
  TG_CHECK(table.empty());
  PageId page = PrefixIndex::kNone;
  for (std::int64_t i = 0; i < pages; ++i) {
    page = index_->find(page, block_of(tokens, i));
    TG_CHECK(page != PrefixIndex::kNone);
    pool_.share(page);
    table.push_back(page);
  }
}

std::int64_t KvPages::publish(std::span<const TokenId> tokens, std::int64_t published,
                              PageTable& table) {
  if (!index_) return published;
  for (; published < full_pages(tokens); ++published) {
    const auto i = static_cast<std::size_t>(published);
    const PageId parent = i == 0 ? PrefixIndex::kNone : table[i - 1];
    const std::span<const TokenId> block = block_of(tokens, published);
    const PageId same = index_->find(parent, block);
    if (same == PrefixIndex::kNone) {
      index_->add(table[i], parent, block);
      pool_.keep(table[i]);
    } else {
      pool_.share(same);
      pool_.release(table[i]);
      table[i] = same;
    }
  }
  return published;
}

// Whoever holds a page holds those before it: the pages that others hold are a table's first.
std::int64_t KvPages::seen_before(std::span<const PageId> table) {
  if (!index_) return 0;
  std::int64_t seen = 0;
  for (const PageId page : table) {
    if (pool_.holders(page) == 1) break;
    std::uint64_t& counted_in = counted_in_[static_cast<std::size_t>(page)];
    if (counted_in == count_) ++seen;
    counted_in = count_;
  }
  return seen;
}

}  // namespace tg
