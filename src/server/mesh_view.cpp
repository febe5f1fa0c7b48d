#include "server/mesh_view.h"

#include <fmt/format.h>

#include <iterator>

namespace tg {

std::string mesh_json(const MeshView& mesh, const EngineSnapshot& snapshot) {
  std::string body = fmt::format(
      R"({{"rows":{},"columns":{},"max_users":{},"total_pages":{},"free_pages":{},"users":[)",
      mesh.rows, mesh.columns, mesh.max_users, snapshot.total_pages, snapshot.free_pages);
  const char* comma = "";
  for (const RunningUser& user : snapshot.users) {
    fmt::format_to(std::back_inserter(body),
                   R"({}{{"id":{},"column":{},"prompt_tokens":{},"generated_tokens":{},)"
                   R"("cached_tokens":{},"pages":{}}})",
                   comma, user.id, user.kv_domain, user.prompt_tokens, user.sampled_tokens,
                   user.cached_tokens, user.pages);
    comma = ",";
  }
  return body + "]}";
}

}  // namespace tg
