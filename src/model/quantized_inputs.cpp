#include "model/quantized_inputs.h"

#include <algorithm>

namespace tg {
namespace {

// What the kernels may read behind the last scale and the last correction (QuantizedRows).
constexpr std::int64_t kRoom = 16;

// Work below so many values is done by the caller alone (as in llama_forward.cpp).
constexpr std::int64_t kSerialValues = 16 * 1024;

std::int64_t share_bytes(std::int64_t tokens, std::int64_t groups) {
  const std::int64_t bytes = tokens * groups * kGroup + 2 * (tokens * groups + kRoom) * 4;
  return (bytes + 63) / 64 * 64;
}

}  // namespace

std::int64_t QuantizedInputs::bytes(std::int64_t tokens, std::int64_t shares, std::int64_t groups) {
  return shares * share_bytes(tokens, groups);
}

Result<QuantizedInputs> QuantizedInputs::allocate(std::int64_t tokens, std::int64_t shares,
                                                  std::int64_t groups) {
  QuantizedInputs inputs;
  TG_ASSIGN(inputs.buffer_,
            AlignedBuffer::allocate(static_cast<std::size_t>(bytes(tokens, shares, groups))));
  inputs.shares_.reserve(static_cast<std::size_t>(shares));
  return inputs;
}

void QuantizedInputs::make(const Mesh& mesh, const KernelTable& kernels, const MeshTensor& x,
                           Axis reduced) {
  const DeviceBlock& block = mesh.block();
  const bool over_cols = reduced == Axis::kCols;
  const std::int64_t count = over_cols ? block.cols() : block.rows();
  const std::int64_t width = x.width / (over_cols ? mesh.shape().cols : block.rows());
  const std::int64_t first = over_cols ? block.col_begin * width : 0;
  const std::int64_t groups = (width + kGroup - 1) / kGroup;
  TG_CHECK(bytes(x.tokens, count, groups) <= static_cast<std::int64_t>(buffer_.size()));
  shares_.clear();
  std::byte* at = buffer_.data();
  for (std::int64_t i = 0; i < count; ++i) {
    QuantizedRows share;
    share.rows = x.tokens;
    share.groups = groups;
    share.codes = reinterpret_cast<std::int8_t*>(at);
    share.scales = reinterpret_cast<float*>(at + x.tokens * groups * kGroup);
    share.corrections = reinterpret_cast<std::int32_t*>(share.scales + x.tokens * groups + kRoom);
    at += share_bytes(x.tokens, groups);
    shares_.push_back(share);
  }
  const std::int64_t pieces = x.tokens * count;
  const bool alone = pieces * width <= kSerialValues;
  const std::int64_t parts = 4 * static_cast<std::int64_t>(mesh.team().size());
  const std::int64_t grain =
      std::max<std::int64_t>(1, alone ? pieces : (pieces + parts - 1) / parts);
  mesh.team().for_pieces(pieces, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t share = i / x.tokens;
      const std::int64_t token = i % x.tokens;
      kernels.quantize(x.at(token, first + share * width), x.dtype, width,
                       shares_[static_cast<std::size_t>(share)], token);
    }
  });
}

}  // namespace tg
