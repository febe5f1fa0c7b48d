#include "cli/memory.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>

#include "model/kv_cache.h"
#include "model/llama_forward.h"
#include "model/llama_weights.h"

namespace tg {
namespace {

// The number in the file, or nothing: no such file, or "max" for no limit.
std::optional<std::int64_t> number_in(const std::string& path) {
  std::ifstream in(path);
  std::int64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

// The value of a line "KEY VALUE" or "KEY: VALUE kB".
std::optional<std::int64_t> field_of(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  std::string word;
  while (in >> word) {
    std::int64_t value = 0;
    if (word == key && in >> value) return value;
    in.ignore(1 << 16, '\n');
  }
  return std::nullopt;
}

// What is left of a cgroup limit; file pages that the kernel can drop count as left, the active
// ones too: a weights cache that the last run read is among them.
std::optional<std::int64_t> cgroup_rest() {
  struct Files {
    const char* limit;
    const char* used;
    const char* stat;
    std::array<const char*, 2> file_pages;
  };
  constexpr std::array kVersions = {Files{"/sys/fs/cgroup/memory.max",
                                          "/sys/fs/cgroup/memory.current",
                                          "/sys/fs/cgroup/memory.stat",
                                          {"inactive_file", "active_file"}},
                                    Files{"/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                          "/sys/fs/cgroup/memory/memory.usage_in_bytes",
                                          "/sys/fs/cgroup/memory/memory.stat",
                                          {"total_inactive_file", "total_active_file"}}};
  for (const Files& files : kVersions) {
    const auto limit = number_in(files.limit);
    const auto used = number_in(files.used);
    if (!limit || !used) continue;
    // Counted at different moments, so there may seem to be more file pages than pages; and no
    // limit is a number so large that nothing may be added to it.
    std::int64_t held = *used;
    for (const char* pages : files.file_pages) held -= field_of(files.stat, pages).value_or(0);
    return std::max<std::int64_t>(1, *limit - std::max<std::int64_t>(0, held));
  }
  return std::nullopt;
}

}  // namespace

MemoryNeed memory_need(const ModelConfig& config, const ShardPlan& plan, const DeviceBlock& block,
                       const WeightFormats& formats, ComputeDType dtype, KvFormat kv_format,
                       const KvCapacity& capacity, int threads) {
  MemoryNeed need;
  need.weights = packed_weight_bytes(config, plan, block, formats);
  need.weights_in = formats.text();
  need.computes_f32 = dtype == ComputeDType::kF32;
  // A column's pages hold the heads of the rows that are here.
  need.kv_position = kv_bytes_per_position(config, dtype, kv_format);
  need.kv_cache = need.kv_position * capacity.block * capacity.blocks * block.cols() *
                  block.rows() / plan.mesh().rows;
  need.activations = LlamaForward::activation_bytes(
      config, plan, block, {nullptr, dtype, capacity.max_rows, formats.inputs()}, threads);
  return need;
}

std::int64_t available_memory() {
  const std::int64_t machine = field_of("/proc/meminfo", "MemAvailable:").value_or(0) * 1024;
  const auto group = cgroup_rest();
  if (!group) return machine;
  return machine == 0 ? *group : std::min(machine, *group);
}

std::int64_t private_memory() {
  constexpr const char* kStatus = "/proc/self/status";
  return 1024 *
         (field_of(kStatus, "RssAnon:").value_or(0) + field_of(kStatus, "VmSwap:").value_or(0));
}

Status check_memory(const MemoryNeed& need, const KvCapacity& capacity, std::int64_t domains,
                    int ranks_here, std::int64_t available) {
  const std::int64_t total = need.total() * ranks_here;
  if (available == 0 || total <= available) return {};
  const std::string each = ranks_here == 1 ? ""
                                           : fmt::format(" on this host, {} ranks of {} each",
                                                         ranks_here, bytes_text(need.total()));
  return error(
      ErrorCode::kOutOfCapacity,
      "the run needs {}{}: weights {} (in {}) + KV cache {} ({} pages x {} positions "
      "x {} bytes{}) + activations {}; available are {}. Fewer users, a smaller --max-seq-len or "
      "fewer pages (--page-params) need less{}",
      bytes_text(total), each, bytes_text(need.weights), need.weights_in, bytes_text(need.kv_cache),
      capacity.blocks, capacity.block, need.kv_position,
      domains == 1 ? "" : fmt::format(" on each of {} columns", domains),
      bytes_text(need.activations), bytes_text(available),
      need.computes_f32 ? ", and so does --compute-dtype bf16"
                        : ", and so do --weights-dtype int8 and int4 and --kv-dtype int8");
}

std::string bytes_text(std::int64_t bytes) {
  constexpr std::array kUnits = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} bytes", bytes)
                   : fmt::format("{:.{}f} {}", value, value < 10.0 ? 1 : 0, kUnits[unit]);
}

}  // namespace tg
