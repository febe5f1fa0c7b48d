// What: an activation in the form that products with some weights take it in: rounded to integers,
//   or as tiles; made once per operation, for each share of the inputs that a device of the mesh
//   has.
// Who owns: the forward pass. Thread: one caller, which uses the team.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "kernels/kernel_table.h"
#include "mesh/mesh.h"
#include "tensor/aligned_buffer.h"

namespace tg {

class PreparedInputs {
 public:
  // Bytes for `tokens` rows of `shares` shares of so many groups each.
  static std::int64_t bytes(InputForm form, std::int64_t tokens, std::int64_t shares,
                            std::int64_t groups);

  // Room for the largest use: rows, and groups of the widest share.
  static Result<PreparedInputs> allocate(InputForm form, std::int64_t tokens, std::int64_t shares,
                                         std::int64_t groups);

  // Prepares x, whose features lie over `reduced`, for the devices of this process.
  void make(const Mesh& mesh, const KernelTable& kernels, const MeshTensor& x, Axis reduced);

  // Gives a product the share of the devices at this index of the block along `reduced`.
  void give(std::int64_t index, MatmulArgs& product) const;

 private:
  void quantize(const Mesh& mesh, const KernelTable& kernels, const MeshTensor& x,
                std::int64_t first, std::int64_t width);
  void make_tiles(const Mesh& mesh, const KernelTable& kernels, const MeshTensor& x,
                  std::int64_t first, std::int64_t width);

  InputForm form_ = InputForm::kPlain;
  AlignedBuffer buffer_;
  std::vector<QuantizedRows> quantized_;  // a share each; one of the two has any
  std::vector<InputTiles> tiles_;
};

}  // namespace tg
