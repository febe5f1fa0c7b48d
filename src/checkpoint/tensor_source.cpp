#include "checkpoint/tensor_source.h"

namespace tg {

Status check_block(const TensorInfo& tensor, std::int64_t first_row, std::int64_t row_count,
                   std::int64_t first_column, std::int64_t column_count, std::size_t values) {
  const auto inside = [](std::int64_t first, std::int64_t count, std::int64_t size) {
    return first >= 0 && count >= 0 && first <= size && count <= size - first;
  };
  if (!inside(first_row, row_count, tensor.rows())) {
    return error(ErrorCode::kBadArgument,
                 "tensor \"{}\" has {} rows; {} from row {} were asked for", tensor.name,
                 tensor.rows(), row_count, first_row);
  }
  if (!inside(first_column, column_count, tensor.columns())) {
    return error(ErrorCode::kBadArgument,
                 "tensor \"{}\" has {} columns; {} from column {} were asked for", tensor.name,
                 tensor.columns(), column_count, first_column);
  }
  if (values != static_cast<std::size_t>(row_count * column_count)) {
    return error(ErrorCode::kBadArgument, "tensor \"{}\": {} rows of {} do not fill {} values",
                 tensor.name, row_count, column_count, values);
  }
  return {};
}

}  // namespace tg
