// What: which KV pages of one domain are free. A page holds `block` positions of one sequence; the
//   memory itself is the runner's. PageTable: the pages of one sequence, in order of position.
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

  std::int64_t size() const { return static_cast<std::int64_t>(taken_.size()); }
  std::int64_t free_pages() const { return static_cast<std::int64_t>(free_.size()); }

  // Appends `count` pages to `table`; false, and nothing changed, when so many are not free.
  [[nodiscard]] bool allocate(std::int64_t count, PageTable& table);

  // Gives all pages of `table` back and empties it. A page that is not taken is our mistake
  // (TG_CHECK).
  void release(PageTable& table);

 private:
  std::vector<PageId> free_;  // a stack: the next page is the last entry
  std::vector<bool> taken_;   // [pages]
};

}  // namespace tg
