#include "engine/page_pool.h"

#include <utility>

namespace tg {

PagePool::PagePool(std::int64_t pages, std::optional<std::uint64_t> shuffle_seed)
    : taken_(static_cast<std::size_t>(pages), false) {
  // Descending, since the stack gives its last entry first.
  for (std::int64_t id = pages; id > 0; --id) free_.push_back(static_cast<PageId>(id - 1));
  if (!shuffle_seed) return;
  // Fisher-Yates; uniform_draw is the project's one keyed source of numbers, so a seed means the
  // same order with every standard library.
  for (std::size_t i = free_.size(); i > 1; --i) {
    const double u = uniform_draw(*shuffle_seed, i);
    std::swap(free_[i - 1], free_[static_cast<std::size_t>(u * static_cast<double>(i))]);
  }
}

bool PagePool::allocate(std::int64_t count, PageTable& table) {
  if (count > free_pages()) return false;
  for (; count > 0; --count) {
    const PageId id = free_.back();
    free_.pop_back();
    taken_[static_cast<std::size_t>(id)] = true;
    table.push_back(id);
  }
  return true;
}

void PagePool::release(PageTable& table) {
  while (!table.empty()) {
    const PageId id = table.back();
    TG_CHECK(id >= 0 && id < size() && taken_[static_cast<std::size_t>(id)]);
    taken_[static_cast<std::size_t>(id)] = false;
    free_.push_back(id);
    table.pop_back();
  }
}

}  // namespace tg
