#include "cli/mesh_options.h"

#include <CLI/CLI.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/number_option.h"

namespace tg {
namespace {

constexpr int kMostLinks = 64;

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts;
  for (;;) {
    const std::size_t end = text.find(at);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Result<HopAlgorithm> parse_algorithm(std::string_view text) {
  if (text == "ring") return HopAlgorithm::kRing;
  if (text == "line") return HopAlgorithm::kLine;
  return error(ErrorCode::kBadArgument, "'{}' is neither ring nor line", text);
}

std::string value_of(const Environment& environment, const char* variable) {
  const char* value = environment(variable);
  return value == nullptr ? std::string() : std::string(value);
}

Result<bool> switch_of(const Environment& environment, const char* variable) {
  const std::string value = value_of(environment, variable);
  if (value.empty() || value == "0") return false;
  if (value == "1") return true;
  return error(ErrorCode::kBadArgument, "{}='{}': need 0 or 1", variable, value);
}

// A set as Python writes one: {"QKV","WO"}; quotes, braces and blanks do not matter.
Status parse_line_ag_set(const std::string& text, CollectivePlan& plan) {
  std::string names;
  for (const char c : text) {
    if (std::string_view("{}[]()\"' ").find(c) == std::string_view::npos) names += c;
  }
  if (names.empty()) return {};
  for (const std::string& name : split(names, ',')) {
    if (name.empty()) continue;
    const Result<Use> use = parse_use(name);
    if (!use) return at_place(use.error(), "USE_LINE_AG");
    plan.all_gather[static_cast<std::size_t>(*use)] = HopAlgorithm::kLine;
  }
  return {};
}

Status topology_of_environment(const Environment& environment, CollectivePlan& plan) {
  TG_ASSIGN(const bool line_rs, switch_of(environment, "LINE_RS"));
  TG_ASSIGN(const bool line_ag, switch_of(environment, "LINE_AG"));
  if (line_rs) plan.reduce_scatter.fill(HopAlgorithm::kLine);
  if (line_ag) plan.all_gather.fill(HopAlgorithm::kLine);
  return parse_line_ag_set(value_of(environment, "USE_LINE_AG"), plan);
}

// The original knows boards by name; whatever is no Galaxy is one device here.
Result<MeshShape> mesh_of_environment(const Environment& environment) {
  for (const char* variable : {"MESH_DEVICE", "FAKE_DEVICE"}) {
    const std::string value = value_of(environment, variable);
    if (value.empty()) continue;
    for (const char* one_device : {"N150", "N300", "T3K", "P150", "P300", "CPU"}) {
      if (value == one_device) return MeshShape{};
    }
    Result<MeshShape> mesh = parse_mesh_shape(value);
    if (!mesh) return at_place(std::move(mesh).error(), variable);
    return mesh;
  }
  return MeshShape{};
}

}  // namespace

void add_mesh_options(CLI::App& app, MeshOptions& options) {
  app.add_option("--mesh", options.mesh,
                 "devices as ROWSxCOLS, or TG for the Galaxy's 8x4; default: MESH_DEVICE or "
                 "FAKE_DEVICE, else 1x1");
  app.add_option("--topology", options.topology,
                 "ring (default), line, or a list such as line,QKV.ag=ring; uses: QKV, WO, FF1, "
                 "FF3, FF2, LAYERNORM, SDPA, SAMPLING");
  app.add_option("--ccl-dtype", options.ccl_dtype,
                 "how values cross between devices: f32, bf16 or bfp8")
      ->capture_default_str();
  add_whole_number(app, "--num-links", "links between neighbours, for the cost model; default 4", 1,
                   kMostLinks, "", [&options](std::int64_t n) { options.links = n; });
  add_fraction(app, "--watchdog-s",
               "seconds after which a rank that does not answer ends the job (under mpirun)", 1.0,
               3600.0, options.watchdog_s);
}

Status parse_topology(const std::string& text, CollectivePlan& plan) {
  for (const std::string& word : split(text, ',')) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) {
      TG_ASSIGN(const HopAlgorithm all, parse_algorithm(word));
      plan.set_all(all);
      continue;
    }
    std::string use_name = word.substr(0, equals);
    const bool only_rs = use_name.ends_with(".rs");
    const bool only_ag = use_name.ends_with(".ag");
    if (only_rs || only_ag) use_name.resize(use_name.size() - 3);
    TG_ASSIGN(const Use use, parse_use(use_name));
    TG_ASSIGN(const HopAlgorithm algorithm, parse_algorithm(word.substr(equals + 1)));
    if (!only_ag) plan.reduce_scatter[static_cast<std::size_t>(use)] = algorithm;
    if (!only_rs) plan.all_gather[static_cast<std::size_t>(use)] = algorithm;
  }
  return {};
}

Result<MeshSettings> mesh_settings(const MeshOptions& options, const Environment& environment) {
  MeshSettings settings;
  settings.watchdog_s = options.watchdog_s;
  if (options.mesh.empty()) {
    TG_ASSIGN(settings.shape, mesh_of_environment(environment));
  } else {
    auto shape = parse_mesh_shape(options.mesh);
    if (!shape) return at_place(std::move(shape).error(), "--mesh");
    settings.shape = *shape;
  }
  CollectivePlan& plan = settings.collectives;
  if (options.topology.empty()) {
    TG_RETURN_IF_ERROR(topology_of_environment(environment, plan));
  } else if (Status status = parse_topology(options.topology, plan); !status) {
    return at_place(std::move(status).error(), "--topology");
  }
  auto payload = parse_payload_dtype(options.ccl_dtype);
  if (!payload) return at_place(std::move(payload).error(), "--ccl-dtype");
  plan.payload = *payload;
  if (options.links) {
    plan.links = *options.links;
  } else if (const std::string links = value_of(environment, "GALAXY_NUM_LINKS"); !links.empty()) {
    if (links.size() > 2 || links.find_first_not_of("0123456789") != std::string::npos ||
        std::stoi(links) < 1 || std::stoi(links) > kMostLinks) {
      return error(ErrorCode::kBadArgument, "GALAXY_NUM_LINKS='{}': need 1..{}", links, kMostLinks);
    }
    plan.links = std::stoi(links);
  }
  return settings;
}

}  // namespace tg
