// What: the mesh and its collectives as options and as the original's environment variables.
//   --mesh, else MESH_DEVICE or FAKE_DEVICE (TG = 8x4; other names of devices are one device here).
//   --topology, else LINE_RS, LINE_AG and USE_LINE_AG; --num-links, else GALAXY_NUM_LINKS.
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "mesh/collective_plan.h"
#include "mesh/mesh_shape.h"

namespace CLI {
class App;  // not the header: it takes seconds to compile
}

namespace tg {

struct MeshOptions {
  std::string mesh = {};
  std::string topology = {};
  std::string ccl_dtype = "f32";
  std::optional<std::int64_t> links = {};
  double watchdog_s = 10.0;
};

void add_mesh_options(CLI::App& app, MeshOptions& options);

// The value of an environment variable, or nullptr.
using Environment = std::function<const char*(const char* name)>;

struct MeshSettings {
  MeshShape shape;
  CollectivePlan collectives;
  double watchdog_s = 10.0;
};

// kBadArgument naming the option or the variable.
Result<MeshSettings> mesh_settings(const MeshOptions& options, const Environment& environment);

// "line", "ring", or a list of changes to ring such as "line,QKV=ring,FF2.rs=ring": USE=ALGORITHM
// for both collectives of a use, USE.rs and USE.ag for one.
Status parse_topology(const std::string& text, CollectivePlan& plan);

}  // namespace tg
