// What: a TensorSource over mapped .pth or safetensors files: each tensor is one or several stored
//   pieces side by side, read in place and widened row by row; nothing is ever copied whole.
// Who owns: it owns the mapped files. Thread: every const function from any thread at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "checkpoint/stored_tensor.h"
#include "checkpoint/tensor_source.h"

namespace tg {

// How a tensor was cut into its pieces.
enum class Cut : std::uint8_t { kRows, kColumns };

struct Piece {
  std::size_t file = 0;  // index of the mapped file
  StoredTensor stored;
};

// One tensor and where its values are. Pieces are of equal shape, in order along the cut.
struct JoinedTensor {
  TensorInfo info;
  Cut cut = Cut::kRows;
  std::vector<Piece> pieces;
  // When not 0: rows lie in so many heads, in each of which the stored order is all even rows and
  // then all odd rows (Hugging Face pairs row i with i + head_dim/2 for rope, Meta 2i with 2i + 1).
  std::int64_t half_split_heads = 0;
};

// Puts the pieces of one tensor together and checks that they give `expected`'s shape (its dtype is
// taken from the pieces). kBadInput with shapes; `stored_name` is how the files call the tensor.
Result<JoinedTensor> join_pieces(const TensorInfo& expected, Cut cut, std::vector<Piece> pieces,
                                 std::string_view stored_name);

class JoinedSource final : public TensorSource {
 public:
  JoinedSource(ModelConfig config, std::vector<MappedFile> files,
               std::vector<JoinedTensor> tensors);

  const ModelConfig& config() const override { return config_; }
  std::span<const TensorInfo> tensors() const override { return infos_; }
  Status read_block(const TensorInfo& tensor, std::int64_t first_row, std::int64_t row_count,
                    std::int64_t first_column, std::int64_t column_count,
                    std::span<float> out) const override;
  std::vector<std::string> files() const override;
  void release(const TensorInfo& tensor) const override;

 private:
  const JoinedTensor* find_joined(std::string_view name) const;
  const std::byte* data(const Piece& piece) const;
  void read_row_cut(const JoinedTensor& tensor, std::int64_t first_row, std::int64_t row_count,
                    std::int64_t first_column, std::int64_t column_count,
                    std::span<float> out) const;
  void read_column_cut(const JoinedTensor& tensor, std::int64_t first_row, std::int64_t row_count,
                       std::int64_t first_column, std::int64_t column_count,
                       std::span<float> out) const;

  ModelConfig config_;
  std::vector<MappedFile> files_;
  std::vector<JoinedTensor> joined_;
  std::vector<TensorInfo> infos_;  // joined_[i].info, in the form that tensors() gives out
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

}  // namespace tg
