#include "mesh/mesh_tensor.h"

#include <fmt/format.h>

#include <cstdio>

namespace tg {
namespace {

const char* text(Placement p) {
  switch (p.kind) {
    case Placement::Kind::kReplicate:
      return "replicated";
    case Placement::Kind::kShard:
      return p.dim == Dim::kTokens ? "sharded by tokens" : "sharded by features";
    case Placement::Kind::kPartial:
      return "partial";
  }
  return "?";
}

}  // namespace

void expect_placement(const MeshTensor& tensor, Placement rows, Placement cols) {
  if (tensor.rows == rows && tensor.cols == cols) return;
  fmt::print(stderr,
             "tensor {} is {} over rows and {} over columns; the operation needs {} and {}\n",
             tensor.name, text(tensor.rows), text(tensor.cols), text(rows), text(cols));
  TG_CHECK(tensor.rows == rows && tensor.cols == cols);
}

}  // namespace tg
