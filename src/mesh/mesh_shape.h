// What: the mesh of devices as numbers: rows x cols, its two axes, and which rectangle of devices a
//   process (a rank) owns.
// Who owns: plain values. Thread: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace tg {

// The direction in which a collective goes. kRows: through the rows, so among the devices of one
// column (the original's cluster_axis 0); kCols: among the devices of one row (cluster_axis 1).
enum class Axis : std::uint8_t { kRows, kCols };
inline const char* name(Axis axis) { return axis == Axis::kRows ? "rows" : "cols"; }

struct MeshShape {
  std::int64_t rows = 1;
  std::int64_t cols = 1;

  std::int64_t devices() const { return rows * cols; }
  std::int64_t length(Axis axis) const { return axis == Axis::kRows ? rows : cols; }
  bool operator==(const MeshShape&) const = default;
};

// A Galaxy of 32 chips.
inline constexpr MeshShape kGalaxy{8, 4};

// "8x4" (rows x cols), or "TG" for the Galaxy. kBadArgument for anything else, also for more than
// 4096 devices.
Result<MeshShape> parse_mesh_shape(std::string_view text);
std::string text(const MeshShape& mesh);  // "8x4"

// A rectangle of devices: rows [row_begin, row_end) x cols [col_begin, col_end).
struct DeviceBlock {
  std::int64_t row_begin = 0;
  std::int64_t row_end = 1;
  std::int64_t col_begin = 0;
  std::int64_t col_end = 1;

  std::int64_t rows() const { return row_end - row_begin; }
  std::int64_t cols() const { return col_end - col_begin; }
  std::int64_t devices() const { return rows() * cols(); }
  std::int64_t begin(Axis axis) const { return axis == Axis::kRows ? row_begin : col_begin; }
  std::int64_t length(Axis axis) const { return axis == Axis::kRows ? rows() : cols(); }
};
std::string text(const DeviceBlock& block);  // "(4,0)..(7,3)", first and last device

// How `ranks` processes share the mesh: whole rows each, or, with more ranks than rows, equal parts
// of one row.
struct RankGrid {
  MeshShape mesh;
  std::int64_t over_rows = 1;  // ranks that share a column
  std::int64_t over_cols = 1;  // ranks that share a row

  std::int64_t ranks() const { return over_rows * over_cols; }
  DeviceBlock block(std::int64_t rank) const;
  std::int64_t rank_of(std::int64_t row, std::int64_t col) const;
};

// kBadArgument with the arithmetic when equal rectangles are not possible.
Result<RankGrid> share_mesh(const MeshShape& mesh, std::int64_t ranks);

}  // namespace tg
