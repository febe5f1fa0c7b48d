#include "mesh/mesh_shape.h"

#include <charconv>

namespace tg {
namespace {

constexpr std::int64_t kMostDevices = 4096;

// A positive number without sign or blanks; 0 for anything else.
std::int64_t parse_length(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = failure == std::errc() && end == text.data() + text.size();
  return whole && value > 0 && value <= kMostDevices ? value : 0;
}

}  // namespace

Result<MeshShape> parse_mesh_shape(std::string_view text) {
  if (text == "TG") return kGalaxy;
  const std::size_t cross = text.find('x');
  MeshShape mesh{0, 0};
  if (cross != std::string_view::npos) {
    mesh = {parse_length(text.substr(0, cross)), parse_length(text.substr(cross + 1))};
  }
  if (mesh.rows == 0 || mesh.cols == 0 || mesh.devices() > kMostDevices) {
    return error(ErrorCode::kBadArgument,
                 "'{}' is no mesh: need ROWSxCOLS with at most {} devices, such as 8x4, or TG for "
                 "8x4",
                 text, kMostDevices);
  }
  return mesh;
}

std::string text(const MeshShape& mesh) { return fmt::format("{}x{}", mesh.rows, mesh.cols); }

std::string text(const DeviceBlock& b) {
  if (b.devices() == 1) return fmt::format("({},{})", b.row_begin, b.col_begin);
  return fmt::format("({},{})..({},{})", b.row_begin, b.col_begin, b.row_end - 1, b.col_end - 1);
}

DeviceBlock RankGrid::block(std::int64_t rank) const {
  const std::int64_t rows = mesh.rows / over_rows;
  const std::int64_t cols = mesh.cols / over_cols;
  const std::int64_t row = rank / over_cols * rows;
  const std::int64_t col = rank % over_cols * cols;
  return {row, row + rows, col, col + cols};
}

std::int64_t RankGrid::rank_of(std::int64_t row, std::int64_t col) const {
  return row / (mesh.rows / over_rows) * over_cols + col / (mesh.cols / over_cols);
}

Result<RankGrid> share_mesh(const MeshShape& mesh, std::int64_t ranks) {
  if (ranks >= 1 && ranks <= mesh.rows && mesh.rows % ranks == 0) return RankGrid{mesh, ranks, 1};
  if (ranks > mesh.rows && ranks % mesh.rows == 0 && mesh.cols % (ranks / mesh.rows) == 0) {
    return RankGrid{mesh, mesh.rows, ranks / mesh.rows};
  }
  return error(ErrorCode::kBadArgument,
               "{} ranks cannot share a mesh of {}: ranks must divide the {} rows, or be the {} "
               "rows times a divisor of the {} columns",
               ranks, text(mesh), mesh.rows, mesh.rows, mesh.cols);
}

}  // namespace tg
