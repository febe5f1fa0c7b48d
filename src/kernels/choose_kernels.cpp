#include <array>
#include <string>

#include "kernels/kernel_table.h"
#include "kernels/tables.h"

namespace tg {
namespace {

// The tables this CPU runs, fastest first; `count` of them.
struct Available {
  std::array<const KernelTable*, 4> tables{};
  std::size_t count = 0;
};

Available look_at_cpu() {
  // Each answer includes that the operating system saves the registers in question.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  Available a;
  if (avx512 && __builtin_cpu_supports("avx512bf16")) a.tables[a.count++] = &kAvx512Bf16Kernels;
  if (avx512) a.tables[a.count++] = &kAvx512Kernels;
  if (avx2) a.tables[a.count++] = &kAvx2Kernels;
  a.tables[a.count++] = &kReferenceKernels;
  return a;
}

}  // namespace

std::span<const KernelTable* const> available_kernels() {
  static const Available available = look_at_cpu();
  return {available.tables.data(), available.count};
}

Result<const KernelTable*> choose_kernels(std::string_view name) {
  std::string names;
  for (const KernelTable* table : available_kernels()) {
    if (name.empty() || name == "auto" || name == table->name) return table;
    if (!names.empty()) names += ", ";
    names += table->name;
  }
  return error(ErrorCode::kBadArgument, "no kernels named '{}' on this CPU; it has {}", name,
               names);
}

std::int64_t attention_scratch_floats(std::int64_t rows, std::int64_t group,
                                      std::int64_t head_dim) {
  const std::int64_t slots = std::min(rows, attention_tile_rows(group)) * group;
  return slots * attention_slot_floats(head_dim);
}

}  // namespace tg
