#include <array>
#include <string>

#include "kernels/kernel_table.h"
#include "kernels/tables.h"

namespace tg {
namespace {

// The tables this CPU runs, fastest first; `count` of them.
struct Available {
  std::array<const KernelTable*, 5> tables{};
  std::size_t count = 0;

  void add_if(bool possible, const KernelTable& table) {
    if (possible) tables[count++] = &table;
  }
};

Available look_at_cpu() {
  // Each answer includes that the operating system saves the registers in question.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  // Every CPU with the one has the other so far.
  const bool bf16 =
      avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  // Measured per thread, GFLOP/s of vdpbf16ps and vfmadd: 230 and 117 on a Zen 4, but 120 and 245
  // on an Intel CPU with AMX.
  const bool bf16_is_fast = bf16 && !__builtin_cpu_is("intel");
  Available a;
  a.add_if(avx512 && enable_amx(), kAmxKernels);
  a.add_if(bf16_is_fast, kAvx512Bf16Kernels);
  a.add_if(avx512, kAvx512Kernels);
  a.add_if(bf16 && !bf16_is_fast, kAvx512Bf16Kernels);
  a.add_if(avx2, kAvx2Kernels);
  a.add_if(true, kReferenceKernels);
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
  const std::int64_t slots = std::min(rows, attention_tile_rows(group, kAttentionSlots)) * group;
  return slots * (attention_slot_floats(head_dim) + attention_partial_floats(head_dim)) +
         attention_expanded_floats(head_dim);
}

// Output, 16 partial sums of the denominator, the maximum (16 to keep alignment).
std::int64_t attention_partial_floats(std::int64_t head_dim) {
  return padded_head_dim(head_dim) + 16 + 16;
}

}  // namespace tg
