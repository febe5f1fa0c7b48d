// What: a checkpoint on disk, of whatever format, as named tensors that are read by rows.
//   Names and row order are Meta's: "tok_embeddings.weight", "layers.3.attention.wq.weight",
//   "norm.weight", "output.weight"; q and k rows pair neighbours (2i, 2i+1) for rope. Sharded
//   tensors appear joined. Implementations: pth (Meta shards, repacked), safetensors (Hugging
//   Face), GGUF.
// Who owns: the caller of open_checkpoint. Thread: every const function from any thread at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/model_config.h"
#include "tensor/dtype.h"

namespace tg {

struct TensorInfo {
  std::string name;  // Meta's name
  DType dtype = DType::kBf16;
  std::vector<std::int64_t> shape;  // [out, in] of a matrix (row-major), [n] of a vector

  std::int64_t rows() const { return shape.size() == 2 ? shape[0] : 1; }
  std::int64_t columns() const { return shape.empty() ? 0 : shape.back(); }
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;

  virtual const ModelConfig& config() const = 0;
  // Every tensor of the model, each with the shape that config() implies (checked when opened);
  // a tied "output.weight" is absent.
  virtual std::span<const TensorInfo> tensors() const = 0;

  // Writes the values of rows [first_row, first_row + row_count) x columns [first_column,
  // first_column + column_count) as f32, row-major, into `out` (row_count * column_count values); a
  // vector is one row. Only the bytes of that rectangle are looked at (the whole blocks that it
  // touches, of quantised formats). Exact: every stored format is a subset of f32 (quantised blocks
  // as their definition computes them in f32). kNotFound for a tensor of another source,
  // kBadArgument for a rectangle outside of the tensor or an `out` of another size.
  virtual Status read_block(const TensorInfo& tensor, std::int64_t first_row,
                            std::int64_t row_count, std::int64_t first_column,
                            std::int64_t column_count, std::span<float> out) const = 0;

  // The same for whole rows.
  Status read_rows(const TensorInfo& tensor, std::int64_t first_row, std::int64_t row_count,
                   std::span<float> out) const {
    return read_block(tensor, first_row, row_count, 0, tensor.columns(), out);
  }

  // The bytes of whole rows as they are stored, row after row, where the tensor is quantised and
  // this source can show them in place; else nothing. They live as long as the source.
  virtual std::span<const std::byte> stored_blocks(const TensorInfo& /*tensor*/,
                                                   std::int64_t /*first_row*/,
                                                   std::int64_t /*row_count*/) const {
    return {};
  }

  // The files that hold the tensors, in a fixed order; none: they come from no file.
  virtual std::vector<std::string> files() const { return {}; }

  // Says that the tensor will not be read again, so its file pages need not stay in memory.
  virtual void release(const TensorInfo& tensor) const = 0;

  // nullptr when absent.
  const TensorInfo* find(std::string_view name) const {
    for (const TensorInfo& t : tensors()) {
      if (t.name == name) return &t;
    }
    return nullptr;
  }
};

// What read_block() refuses: a rectangle outside of the tensor, or values that do not fill it.
Status check_block(const TensorInfo& tensor, std::int64_t first_row, std::int64_t row_count,
                   std::int64_t first_column, std::int64_t column_count, std::size_t values);

struct OpenOptions {
  // Check the CRC-32 of every .pth record (reads the whole file).
  bool verify = false;
};

// Opens a checkpoint directory (Meta, repacked, Hugging Face) or a .gguf file and checks that it is
// a Llama model whose tensors have the shapes its config implies. Errors: one line with file,
// tensor and numbers; a model of another architecture is kUnsupported and named.
Result<std::unique_ptr<TensorSource>> open_checkpoint(const std::string& path,
                                                      const OpenOptions& options = {});

// The tensors that a model of this config must have, in Meta's names, with their shapes: the list
// that every reader checks itself against. dtype is not filled.
std::vector<TensorInfo> expected_tensors(const ModelConfig& config);

}  // namespace tg
