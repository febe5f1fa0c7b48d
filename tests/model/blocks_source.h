// What: a checkpoint whose matrices are blocks with any codes and scales, of which no rounding of
//   the values would give the same again.
// Who owns: each test its own. Thread: any.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/dequantize.h"
#include "checkpoint/tensor_source.h"

namespace tg::test {

class BlocksSource final : public TensorSource {
 public:
  // dtype_of(name) of each matrix.
  BlocksSource(const ModelConfig& config, const std::function<DType(const std::string&)>& dtype_of)
      : config_(config) {
    std::uint32_t state = 1;
    for (TensorInfo t : expected_tensors(config)) {
      t.dtype = t.shape.size() == 1 ? DType::kF32 : dtype_of(t.name);
      const BlockSize size = block_size(t.dtype);
      std::vector<std::byte>& bytes = bytes_[t.name];
      bytes.resize(static_cast<std::size_t>(t.rows() * t.columns() / size.values * size.bytes));
      for (std::byte& b : bytes) {
        state = state * 1664525 + 1013904223;  // Knuth's constants
        b = static_cast<std::byte>(state >> 24);
      }
      for (std::size_t i = 0; t.dtype != DType::kF32 && i < bytes.size();
           i += static_cast<std::size_t>(size.bytes)) {
        set_scales(t.dtype, &bytes[i]);
      }
      tensors_.push_back(t);
    }
  }

  const ModelConfig& config() const override { return config_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  float value(const TensorInfo& t, std::int64_t row, std::int64_t column) const {
    float v = 0.0F;
    TG_CHECK(read_block(t, row, 1, column, 1, {&v, 1}));
    return v;
  }
  Status read_block(const TensorInfo& t, std::int64_t first_row, std::int64_t row_count,
                    std::int64_t first_column, std::int64_t column_count,
                    std::span<float> out) const override {
    if (t.shape.size() == 1) {
      std::fill(out.begin(), out.end(), 1.0F);
      return {};
    }
    const BlockSize size = block_size(t.dtype);
    std::vector<float> block(static_cast<std::size_t>(size.values));
    for (std::int64_t i = 0; i < row_count * column_count;) {
      const std::int64_t at =
          (first_row + i / column_count) * t.columns() + first_column + i % column_count;
      dequantize(t.dtype,
                 std::span(bytes_.at(t.name))
                     .subspan(static_cast<std::size_t>(at / size.values * size.bytes),
                              static_cast<std::size_t>(size.bytes)),
                 block);
      const std::int64_t count =
          std::min(size.values - at % size.values, column_count - i % column_count);
      std::copy_n(block.begin() + at % size.values, count, out.begin() + i);
      i += count;
    }
    return {};
  }
  std::span<const std::byte> stored_blocks(const TensorInfo& t, std::int64_t first_row,
                                           std::int64_t row_count) const override {
    const BlockSize size = block_size(t.dtype);
    if (size.values == 1) return {};
    const std::int64_t row_bytes = t.columns() / size.values * size.bytes;
    return std::span(bytes_.at(t.name))
        .subspan(static_cast<std::size_t>(first_row * row_bytes),
                 static_cast<std::size_t>(row_count * row_bytes));
  }
  void release(const TensorInfo&) const override {}

 private:
  // An f16 of either sign with this exponent field, from its high byte.
  static void limit(std::byte& high, unsigned exponent) {
    high = (high & std::byte{0x83}) | static_cast<std::byte>(exponent << 2);
  }

  // So that weights are some tenths.
  static void set_scales(DType dtype, std::byte* block) {
    switch (dtype) {
      case DType::kBf16:
        block[1] = (block[1] & std::byte{0x80}) | std::byte{0x3d};
        break;
      case DType::kQ4K:
        limit(block[1], 4);
        limit(block[3], 7);
        break;
      case DType::kQ6K:
        limit(block[209], 2);
        break;
      default:
        limit(block[1], 8);
    }
  }

  ModelConfig config_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::vector<std::byte>> bytes_;
};

}  // namespace tg::test
