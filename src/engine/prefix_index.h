// What: which page of a KV domain holds which tokens. An entry says: this page holds these `block`
//   tokens, behind what its parent page and that one's parents hold. Keys are chained (XXH3-128 of
//   the parent's key and the tokens) and only say where to look: parent and tokens are compared,
//   so a hit is right whatever the keys do.
//   The entries are a forest: a parent stays while it has children.
// Who owns: KvPages, which knows when a page's contents go. Thread: the engine's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/page_pool.h"

namespace tg {

class PrefixIndex {
 public:
  static constexpr PageId kNone = -1;

  // For pages 0..pages-1 of `block` tokens each. All memory is taken now.
  PrefixIndex(std::int64_t pages, std::int64_t block);

  // The page that holds `tokens`, a block of them, behind `parent` (kNone: at the beginning), or
  // kNone. The parent is in the index.
  PageId find(PageId parent, std::span<const TokenId> tokens) const;
  // The page does from now on: find() gave none for this, and the page is not in the index.
  void add(PageId page, PageId parent, std::span<const TokenId> tokens);
  // False: it was not in the index. One that is a parent is our mistake (TG_CHECK).
  bool remove(PageId page);

  bool contains(PageId page) const { return at(page).present; }
  std::int64_t entries() const { return count_; }

 private:
  struct Key {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;
    PageId parent = kNone;
    PageId next = kNone;  // in the same bucket
    std::int32_t children = 0;
    bool present = false;
  };
  Key key_of(PageId parent, std::span<const TokenId> tokens) const;
  std::span<TokenId> tokens_of(PageId page) const;
  PageId& bucket(const Key& key) { return buckets_[key.low & (buckets_.size() - 1)]; }
  PageId bucket(const Key& key) const { return buckets_[key.low & (buckets_.size() - 1)]; }
  Entry& at(PageId page) { return entries_[static_cast<std::size_t>(page)]; }
  const Entry& at(PageId page) const { return entries_[static_cast<std::size_t>(page)]; }

  std::int64_t block_;
  Key root_;                                // the parent's key of a first page
  std::vector<Entry> entries_;              // [pages]
  std::vector<PageId> buckets_;             // a power of two of them
  std::unique_ptr<TokenId[]> text_;         // [pages, block], untouched until written
  mutable std::vector<std::byte> scratch_;  // a key and a block of tokens
  std::int64_t count_ = 0;
};

}  // namespace tg
