// What: which KV pages of one domain are free, and how many hold each of the others. A page holds
//   `block` positions; the memory itself is the runner's. PageTable: the pages of one sequence, in
//   order of position; several sequences may have the same pages in front (prefix_index.h).
// Who owns: the engine, one pool per KV domain. Thread: the engine's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/model_runner.h"

namespace tg {

using PageTable = std::vector<PageId>;

// Pages that hold `positions` positions: positions / block, rounded up.
inline std::int64_t pages_for(std::int64_t positions, std::int64_t block) {
  return (positions + block - 1) / block;
}

class PagePool {
 public:
  // Ids 0..pages-1, all free, handed out in ascending order; with a seed in the order of a random
  // permutation, so that nothing can come to depend on pages being neighbours.
  explicit PagePool(std::int64_t pages, std::optional<std::uint64_t> shuffle_seed = std::nullopt);

  std::int64_t size() const { return static_cast<std::int64_t>(pages_.size()) - 1; }
  std::int64_t free_pages() const { return free_pages_; }
  std::int64_t holders(PageId page) const { return at(page).holders; }

  // Appends `count` pages to `table`, each with one holder; false, and nothing changed, when so
  // many are not free.
  [[nodiscard]] bool allocate(std::int64_t count, PageTable& table);

  // One more holder: of a page that others hold, or of a free one, whose contents are still there.
  void share(PageId page);

  // One holder less; without any the page is free. More releases than holders are our mistake
  // (TG_CHECK).
  void release(PageId page);
  // All of the table's, the last first; the table is empty then.
  void release(PageTable& table);

  // The page's contents are worth keeping: when it is free it is handed out after all that are
  // not, those first that have been free for longest. Until it is handed out.
  void keep(PageId page) { at(page).kept = true; }

 private:
  struct Page {
    PageId before = 0;  // of the list of free pages
    PageId behind = 0;
    std::int32_t holders = 0;
    bool kept = false;
  };
  Page& at(PageId page) { return pages_[static_cast<std::size_t>(page)]; }
  const Page& at(PageId page) const { return pages_[static_cast<std::size_t>(page)]; }
  PageId list_end() const { return static_cast<PageId>(size()); }
  void link(PageId page, PageId behind);  // into the list, in front of `behind`
  void unlink(PageId page);

  // A ring of the free pages; the last entry is no page but the ring's beginning and end.
  std::vector<Page> pages_;
  std::int64_t free_pages_ = 0;
};

}  // namespace tg
