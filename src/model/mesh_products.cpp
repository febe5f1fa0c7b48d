#include "model/mesh_products.h"

#include <algorithm>

namespace tg {
namespace {

// Panels that a piece starts at; kernels take four at once (their panels_for).
constexpr std::int64_t kPanelsAtOnce = 4;

// Where device (row, col)'s part of a tensor begins among the features that are here.
std::int64_t first_feature(const Mesh& mesh, const MeshTensor& t, std::int64_t row,
                           std::int64_t col) {
  if (t.rows == kShardFeatures) return t.width / mesh.block().rows() * row;
  if (t.cols == kShardFeatures) return t.width / mesh.shape().cols * (mesh.block().col_begin + col);
  return 0;
}

}  // namespace

std::vector<PackedView> MeshProducts::views(const ShardedMatrix& matrix) {
  std::vector<PackedView> views;
  for (const PackedMatrix& part : matrix) views.push_back(part.view());
  return views;
}

void MeshProducts::add_devices(const Mesh& mesh, const MeshTensor& x,
                               const PreparedInputs& prepared, std::span<const PackedView> weights,
                               Axis reduced, const MeshTensor& y, bool add,
                               std::vector<MatmulArgs>& products) {
  const bool partial = mesh.length(reduced) > 1;
  if (reduced == Axis::kCols) {
    expect_placement(x, kReplicate, kShardFeatures);
    expect_placement(y, kShardFeatures, partial ? kPartial : kReplicate);
  } else {
    expect_placement(x, kShardFeatures, kReplicate);
    expect_placement(y, partial ? kPartial : kReplicate, kShardFeatures);
  }
  std::size_t device = 0;
  for (std::int64_t row = 0; row < mesh.block().rows(); ++row) {
    for (std::int64_t col = 0; col < mesh.block().cols(); ++col) {
      const std::int64_t summand = !partial ? 0 : reduced == Axis::kCols ? col : row;
      MatmulArgs p;
      p.x = x.at(0, first_feature(mesh, x, row, col));
      p.ldx = x.width;
      p.m = x.tokens;
      p.w = weights[device++];
      p.y = y.f32(0, first_feature(mesh, y, row, col), summand);
      p.ldy = y.width;
      p.add = add;
      if (input_form(p.w) != InputForm::kPlain) {
        prepared.give(reduced == Axis::kCols ? col : row, p);
      }
      products.push_back(p);
    }
  }
}

void MeshProducts::run(std::span<const MatmulArgs> products) const {
  std::int64_t panels = 0;  // the vocabulary's last devices may have fewer
  for (const MatmulArgs& p : products) panels = std::max(panels, p.w.panels());
  for_panels(static_cast<std::int64_t>(products.size()), panels,
             [&](int member, std::int64_t device, std::int64_t first, std::int64_t last) {
               const MatmulArgs& product = products[static_cast<std::size_t>(device)];
               last = std::min(last, product.w.panels());
               if (first < last) run_panels(member, product, first, last);
             });
}

void MeshProducts::run_panels(int member, MatmulArgs product, std::int64_t begin,
                              std::int64_t end) const {
  switch (input_form(product.w)) {
    case InputForm::kTiles:
      product.scratch = scratch_ + member * kTileScratchFloats;
      return kernels_->matmul_tiles(product, begin, end);
    case InputForm::kQuantized:
      return kernels_->matmul_quantized(product, begin, end);
    case InputForm::kPlain:
      return (dtype_ == ComputeDType::kBf16 ? kernels_->matmul_bf16 : kernels_->matmul_f32)(
          product, begin, end);
  }
}

// Pieces small enough that a thread whose core is taken away for a moment does not hold up the
// others for long, large enough that each is a long run of memory.
std::int64_t MeshProducts::grain(std::int64_t panels) const {
  const std::int64_t grain = panels / (8 * mesh_->team().size());
  return std::max(kPanelsAtOnce, grain / kPanelsAtOnce * kPanelsAtOnce);
}

}  // namespace tg
