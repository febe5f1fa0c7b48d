#include "model/prepared_inputs.h"

#include <algorithm>

namespace tg {
namespace {

// What the kernels may read behind the last scale and the last correction (QuantizedRows).
constexpr std::int64_t kRoom = 16;

// Work below so many values is done by the caller alone (as in llama_forward.cpp).
constexpr std::int64_t kAloneValues = 16 * 1024;

std::int64_t share_bytes(InputForm form, std::int64_t tokens, std::int64_t groups) {
  if (form == InputForm::kPlain) return 0;
  const std::int64_t bytes = form == InputForm::kTiles
                                 ? InputTiles::bytes(tokens, groups)
                                 : tokens * groups * kGroup + 2 * (tokens * groups + kRoom) * 4;
  return (bytes + 63) / 64 * 64;
}

// f(begin, end) for `pieces` pieces of so many values each, on the team if that is worth it.
template <typename F>
void for_pieces(const Mesh& mesh, std::int64_t pieces, std::int64_t values, const F& f) {
  const bool alone = pieces * values <= kAloneValues;
  const std::int64_t parts = 4 * static_cast<std::int64_t>(mesh.team().size());
  const std::int64_t grain =
      std::max<std::int64_t>(1, alone ? pieces : (pieces + parts - 1) / parts);
  mesh.team().for_pieces(pieces, grain, f);
}

}  // namespace

std::int64_t PreparedInputs::bytes(InputForm form, std::int64_t tokens, std::int64_t shares,
                                   std::int64_t groups) {
  return shares * share_bytes(form, tokens, groups);
}

Result<PreparedInputs> PreparedInputs::allocate(InputForm form, std::int64_t tokens,
                                                std::int64_t shares, std::int64_t groups) {
  PreparedInputs inputs;
  inputs.form_ = form;
  const std::int64_t size = bytes(form, tokens, shares, groups);
  TG_ASSIGN(inputs.buffer_, AlignedBuffer::allocate(static_cast<std::size_t>(size)));
  inputs.quantized_.reserve(static_cast<std::size_t>(shares));
  inputs.tiles_.reserve(static_cast<std::size_t>(shares));
  return inputs;
}

void PreparedInputs::make(const Mesh& mesh, const KernelTable& kernels, const MeshTensor& x,
                          Axis reduced) {
  const DeviceBlock& block = mesh.block();
  const bool over_cols = reduced == Axis::kCols;
  const std::int64_t count = over_cols ? block.cols() : block.rows();
  const std::int64_t width = x.width / (over_cols ? mesh.shape().cols : block.rows());
  const std::int64_t first = over_cols ? block.col_begin * width : 0;
  const std::int64_t groups = (width + kGroup - 1) / kGroup;
  TG_CHECK(bytes(form_, x.tokens, count, groups) <= static_cast<std::int64_t>(buffer_.size()));
  quantized_.clear();
  tiles_.clear();
  for (std::int64_t i = 0; i < count; ++i) {
    std::byte* at = buffer_.data() + i * share_bytes(form_, x.tokens, groups);
    if (form_ == InputForm::kTiles) {
      tiles_.push_back({reinterpret_cast<Bf16*>(at), x.tokens, groups});
      continue;
    }
    QuantizedRows share;
    share.rows = x.tokens;
    share.groups = groups;
    share.codes = reinterpret_cast<std::int8_t*>(at);
    share.scales = reinterpret_cast<float*>(at + x.tokens * groups * kGroup);
    share.corrections = reinterpret_cast<std::int32_t*>(share.scales + x.tokens * groups + kRoom);
    quantized_.push_back(share);
  }
  if (form_ == InputForm::kTiles) {
    make_tiles(mesh, kernels, x, first, width);
  } else {
    quantize(mesh, kernels, x, first, width);
  }
}

void PreparedInputs::quantize(const Mesh& mesh, const KernelTable& kernels, const MeshTensor& x,
                              std::int64_t first, std::int64_t width) {
  const auto shares = static_cast<std::int64_t>(quantized_.size());
  for_pieces(mesh, x.tokens * shares, width, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t share = i / x.tokens;
      const std::int64_t token = i % x.tokens;
      kernels.quantize(x.at(token, first + share * width), x.dtype, width,
                       quantized_[static_cast<std::size_t>(share)], token);
    }
  });
}

void PreparedInputs::make_tiles(const Mesh& mesh, const KernelTable& kernels, const MeshTensor& x,
                                std::int64_t first, std::int64_t width) {
  const auto shares = static_cast<std::int64_t>(tiles_.size());
  const std::int64_t blocks = tiles_[0].blocks();
  const std::int64_t values = tiles_[0].block_rows() * width;
  for_pieces(mesh, blocks * shares, values, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t share = i / blocks;
      kernels.make_tiles(reinterpret_cast<const Bf16*>(x.at(0, first + share * width)), x.width,
                         width, tiles_[static_cast<std::size_t>(share)], i % blocks);
    }
  });
}

void PreparedInputs::give(std::int64_t index, MatmulArgs& product) const {
  const auto i = static_cast<std::size_t>(index);
  if (form_ == InputForm::kTiles) product.tiles = tiles_[i];
  if (form_ == InputForm::kQuantized) product.quantized = quantized_[i];
}

}  // namespace tg
