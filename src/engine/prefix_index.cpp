#include "engine/prefix_index.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

namespace tg {

PrefixIndex::PrefixIndex(std::int64_t pages, std::int64_t block)
    : block_(block),
      entries_(static_cast<std::size_t>(pages)),
      buckets_(std::bit_ceil(static_cast<std::size_t>(pages)), kNone),
      text_(std::make_unique_for_overwrite<TokenId[]>(static_cast<std::size_t>(pages * block))),
      scratch_(sizeof(Key) + static_cast<std::size_t>(block) * sizeof(TokenId)) {
  // Nobody outside can know which prompts share a bucket, and so make one long. It shows nowhere.
  std::random_device random;
  root_ = {random() | std::uint64_t{random()} << 32, random() | std::uint64_t{random()} << 32};
}

PrefixIndex::Key PrefixIndex::key_of(PageId parent, std::span<const TokenId> tokens) const {
  TG_CHECK(static_cast<std::int64_t>(tokens.size()) == block_);
  const Key& before = parent == kNone ? root_ : at(parent).key;
  std::memcpy(scratch_.data(), &before, sizeof before);
  std::memcpy(scratch_.data() + sizeof before, tokens.data(), tokens.size_bytes());
  const XXH128_hash_t hash = XXH3_128bits(scratch_.data(), scratch_.size());
  return {hash.low64, hash.high64};
}

std::span<TokenId> PrefixIndex::tokens_of(PageId page) const {
  return {text_.get() + page * block_, static_cast<std::size_t>(block_)};
}

PageId PrefixIndex::find(PageId parent, std::span<const TokenId> tokens) const {
  TG_CHECK(parent == kNone || contains(parent));
  const Key key = key_of(parent, tokens);
  for (PageId page = bucket(key); page != kNone; page = at(page).next) {
    if (at(page).key == key && at(page).parent == parent &&
        std::ranges::equal(tokens_of(page), tokens)) {
      return page;
    }
  }
  return kNone;
}

void PrefixIndex::add(PageId page, PageId parent, std::span<const TokenId> tokens) {
  TG_CHECK(!contains(page) && (parent == kNone || contains(parent)));
  const Key key = key_of(parent, tokens);
  std::ranges::copy(tokens, tokens_of(page).begin());
  at(page) = {key, parent, bucket(key), 0, true};
  bucket(key) = page;
  if (parent != kNone) ++at(parent).children;
  ++count_;
}

bool PrefixIndex::remove(PageId page) {
  if (!contains(page)) return false;
  Entry& entry = at(page);
  TG_CHECK(entry.children == 0);
  PageId* link = &bucket(entry.key);
  while (*link != page) link = &at(*link).next;
  *link = entry.next;
  if (entry.parent != kNone) --at(entry.parent).children;
  entry.present = false;
  --count_;
  return true;
}

}  // namespace tg
