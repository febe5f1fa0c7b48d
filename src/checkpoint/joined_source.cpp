#include "checkpoint/joined_source.h"

#include <algorithm>
#include <utility>

#include "checkpoint/file_kind.h"

namespace tg {
namespace {

// Where Meta's row `row` is in a half-split tensor of `rows` rows.
std::int64_t half_split_row(std::int64_t row, std::int64_t rows, std::int64_t heads) {
  const std::int64_t head_dim = rows / heads;
  const std::int64_t head = row / head_dim;
  const std::int64_t within = row % head_dim;
  return head * head_dim + within / 2 + (within % 2) * (head_dim / 2);
}

std::size_t as_size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

Result<JoinedTensor> join_pieces(const TensorInfo& expected, Cut cut, std::vector<Piece> pieces,
                                 std::string_view stored_name) {
  TG_CHECK(!pieces.empty());
  const StoredTensor& first = pieces.front().stored;
  for (const Piece& piece : pieces) {
    if (piece.stored.shape != first.shape || piece.stored.dtype != first.dtype) {
      return error(ErrorCode::kBadInput, "tensor \"{}\" is {} {} in one shard and {} {} in another",
                   printable(stored_name), name(first.dtype), shape_text(first.shape),
                   name(piece.stored.dtype), shape_text(piece.stored.shape));
    }
  }
  const std::size_t cut_dimension = cut == Cut::kRows ? 0 : 1;
  std::vector<std::int64_t> shape = first.shape;
  const auto count = static_cast<std::int64_t>(pieces.size());
  const bool fits = cut_dimension < shape.size() &&
                    !__builtin_mul_overflow(shape[cut_dimension], count, &shape[cut_dimension]);
  if (!fits || shape != expected.shape) {
    const std::string sum =
        count == 1 ? std::string() : fmt::format(" in each of {} shards", count);
    return error(ErrorCode::kBadInput,
                 "tensor \"{}\" has shape {}{}; the model's config asks for {}",
                 printable(stored_name), shape_text(first.shape), sum, shape_text(expected.shape));
  }
  JoinedTensor joined{.info = expected, .cut = cut, .pieces = {}};
  joined.info.dtype = first.dtype;
  joined.pieces = std::move(pieces);
  return joined;
}

JoinedSource::JoinedSource(ModelConfig config, std::vector<MappedFile> files,
                           std::vector<JoinedTensor> tensors)
    : config_(std::move(config)), files_(std::move(files)), joined_(std::move(tensors)) {
  for (std::size_t i = 0; i < joined_.size(); ++i) {
    infos_.push_back(joined_[i].info);
    by_name_.emplace(joined_[i].info.name, i);
  }
}

const JoinedTensor* JoinedSource::find_joined(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &joined_[found->second];
}

const std::byte* JoinedSource::data(const Piece& piece) const {
  return files_[piece.file].bytes().data() + piece.stored.offset;
}

Status JoinedSource::read_block(const TensorInfo& tensor, std::int64_t first_row,
                                std::int64_t row_count, std::int64_t first_column,
                                std::int64_t column_count, std::span<float> out) const {
  const JoinedTensor* joined = find_joined(tensor.name);
  if (joined == nullptr) {
    return error(ErrorCode::kNotFound, "no tensor \"{}\" in this checkpoint",
                 printable(tensor.name));
  }
  TG_RETURN_IF_ERROR(
      check_block(joined->info, first_row, row_count, first_column, column_count, out.size()));
  if (joined->cut == Cut::kRows) {
    read_row_cut(*joined, first_row, row_count, first_column, column_count, out);
  } else {
    read_column_cut(*joined, first_row, row_count, first_column, column_count, out);
  }
  return {};
}

void JoinedSource::read_row_cut(const JoinedTensor& tensor, std::int64_t first_row,
                                std::int64_t row_count, std::int64_t first_column,
                                std::int64_t column_count, std::span<float> out) const {
  const std::int64_t rows = tensor.info.rows();
  const std::int64_t columns = tensor.info.columns();
  const std::int64_t rows_per_piece = rows / static_cast<std::int64_t>(tensor.pieces.size());
  for (std::int64_t done = 0; done < row_count;) {
    std::int64_t row = first_row + done;
    std::int64_t run = 1;
    if (tensor.half_split_heads != 0) {
      row = half_split_row(row, rows, tensor.half_split_heads);
    } else if (column_count == columns) {  // as many rows as lie one after the other
      run = std::min(row_count - done, rows_per_piece - row % rows_per_piece);
    }
    const Piece& piece = tensor.pieces[as_size(row / rows_per_piece)];
    const std::int64_t skipped = row % rows_per_piece * columns + first_column;
    const std::byte* from = data(piece) + as_size(skipped * block_size(piece.stored.dtype).bytes);
    widen(piece.stored.dtype, piece.stored.big_endian, from,
          out.subspan(as_size(done * column_count), as_size(run * column_count)));
    done += run;
  }
}

void JoinedSource::read_column_cut(const JoinedTensor& tensor, std::int64_t first_row,
                                   std::int64_t row_count, std::int64_t first_column,
                                   std::int64_t column_count, std::span<float> out) const {
  const std::int64_t columns = tensor.info.columns();
  const std::int64_t per_piece = columns / static_cast<std::int64_t>(tensor.pieces.size());
  for (std::int64_t done = 0; done < row_count; ++done) {
    std::span<float> row = out.subspan(as_size(done * column_count), as_size(column_count));
    std::int64_t column = first_column;
    while (!row.empty()) {
      const Piece& piece = tensor.pieces[as_size(column / per_piece)];
      const std::int64_t within = column % per_piece;
      const std::int64_t run = std::min(per_piece - within, static_cast<std::int64_t>(row.size()));
      const std::int64_t skipped = (first_row + done) * per_piece + within;
      const std::byte* from = data(piece) + as_size(skipped * block_size(piece.stored.dtype).bytes);
      widen(piece.stored.dtype, piece.stored.big_endian, from, row.first(as_size(run)));
      row = row.subspan(as_size(run));
      column += run;
    }
  }
}

std::vector<std::string> JoinedSource::files() const {
  std::vector<std::string> paths;
  paths.reserve(files_.size());
  for (const MappedFile& file : files_) paths.push_back(file.path());
  return paths;
}

void JoinedSource::release(const TensorInfo& tensor) const {
  const JoinedTensor* joined = find_joined(tensor.name);
  if (joined == nullptr) return;
  for (const Piece& piece : joined->pieces) {
    files_[piece.file].drop(piece.stored.offset, piece.stored.bytes);
  }
}

}  // namespace tg
