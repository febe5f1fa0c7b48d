// What: matrix products on all devices of this process in one parallel region: the panels of all
//   devices are one list of work for the thread team, so 32 devices on two cores cost what their
//   arithmetic costs.
// Who owns: the forward pass. Thread: one caller, which uses the team.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_team.h"
#include "kernels/kernel_table.h"
#include "mesh/mesh.h"
#include "model/llama_weights.h"
#include "model/prepared_inputs.h"

namespace tg {

class MeshProducts {
 public:
  MeshProducts() = default;
  // `scratch`: kTileScratchFloats values for each member of the team, if products are on tiles.
  MeshProducts(const KernelTable& kernels, ComputeDType dtype, const Mesh& mesh, float* scratch)
      : kernels_(&kernels), dtype_(dtype), mesh_(&mesh), scratch_(scratch) {}

  // The product of each device with its part of a weight: where the inputs lie over `reduced`, the
  // outputs over the other axis. y has a summand per device along `reduced`, or, on an axis of
  // length 1, is the whole product (added to what is there with `add`). `prepared` is x for
  // weights that take it so, made along the same axis.
  // Appended to `products`, whose memory a step finds again in the next one.
  static void add_devices(const Mesh& mesh, const MeshTensor& x, const PreparedInputs& prepared,
                          std::span<const PackedView> weights, Axis reduced, const MeshTensor& y,
                          bool add, std::vector<MatmulArgs>& products);
  static std::vector<PackedView> views(const ShardedMatrix& matrix);
  // Whether a product with these needs its inputs prepared.
  static bool need_preparing(std::span<const PackedView> weights) {
    return std::any_of(weights.begin(), weights.end(),
                       [](const PackedView& w) { return input_form(w) != InputForm::kPlain; });
  }

  void run(std::span<const MatmulArgs> products) const;

  // Panels [begin, end) of one product, by this member of the team.
  void run_panels(int member, MatmulArgs product, std::int64_t begin, std::int64_t end) const;

  // Calls f(member, device, first panel, last panel) for all panels of so many devices, on the
  // team.
  template <typename F>
  void for_panels(std::int64_t devices, std::int64_t panels, const F& f) const {
    mesh_->team().for_pieces_by_member(devices * panels, grain(devices * panels),
                                       [&](int member, std::int64_t begin, std::int64_t end) {
                                         while (begin < end) {
                                           const std::int64_t device = begin / panels;
                                           const std::int64_t first = begin % panels;
                                           const std::int64_t last =
                                               std::min(panels, first + end - begin);
                                           f(member, device, first, last);
                                           begin += last - first;
                                         }
                                       });
  }

 private:
  std::int64_t grain(std::int64_t panels) const;

  const KernelTable* kernels_ = nullptr;
  ComputeDType dtype_ = ComputeDType::kBf16;
  const Mesh* mesh_ = nullptr;
  float* scratch_ = nullptr;
};

}  // namespace tg
