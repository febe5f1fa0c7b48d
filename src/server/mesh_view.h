// What: GET /mesh: the devices, and which user's KV pages are on which column of them. Beside
//   /metrics, as a label for every user would grow without bound.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <string>

#include "engine/engine_thread.h"

namespace tg {

struct MeshView {
  std::int64_t rows = 1;
  std::int64_t columns = 1;    // a KV domain each
  std::int64_t max_users = 0;  // of all columns
};

// {"rows", "columns", "max_users", "total_pages", "free_pages", "users": [{"id", "column",
// "prompt_tokens", "generated_tokens", "cached_tokens", "pages"}]}
std::string mesh_json(const MeshView& mesh, const EngineSnapshot& snapshot);

}  // namespace tg
