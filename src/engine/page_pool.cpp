#include "engine/page_pool.h"

#include <numeric>
#include <utility>

namespace tg {

PagePool::PagePool(std::int64_t pages, std::optional<std::uint64_t> shuffle_seed)
    : pages_(static_cast<std::size_t>(pages + 1)) {
  std::vector<PageId> order(static_cast<std::size_t>(pages));
  std::iota(order.rbegin(), order.rend(), 0);
  // Fisher-Yates; uniform_draw is the project's one keyed source of numbers, so a seed means the
  // same order with every standard library.
  for (std::size_t i = shuffle_seed ? order.size() : 0; i > 1; --i) {
    const double u = uniform_draw(*shuffle_seed, i);
    std::swap(order[i - 1], order[static_cast<std::size_t>(u * static_cast<double>(i))]);
  }
  at(list_end()) = {list_end(), list_end(), 0, false};
  for (const PageId page : order) link(page, at(list_end()).behind);
}

void PagePool::link(PageId page, PageId behind) {
  const PageId before = at(behind).before;
  at(page).before = before;
  at(page).behind = behind;
  at(before).behind = page;
  at(behind).before = page;
  ++free_pages_;
}

void PagePool::unlink(PageId page) {
  at(at(page).before).behind = at(page).behind;
  at(at(page).behind).before = at(page).before;
  --free_pages_;
}

bool PagePool::allocate(std::int64_t count, PageTable& table) {
  if (count > free_pages()) return false;
  for (; count > 0; --count) {
    const PageId page = at(list_end()).behind;
    unlink(page);
    at(page).holders = 1;
    at(page).kept = false;
    table.push_back(page);
  }
  return true;
}

void PagePool::share(PageId page) {
  if (at(page).holders++ == 0) unlink(page);
}

void PagePool::release(PageId page) {
  TG_CHECK(page >= 0 && page < size() && at(page).holders > 0);
  if (--at(page).holders > 0) return;
  // What was just written lies in the caches: it goes out first again, if nobody wants it.
  link(page, at(page).kept ? list_end() : at(list_end()).behind);
}

void PagePool::release(PageTable& table) {
  while (!table.empty()) {
    release(table.back());
    table.pop_back();
  }
}

}  // namespace tg
