// What: inputs for the kernel tests: repeatable random numbers, weights, a paged cache whose pages
//   lie in any order among garbage, and the instruction sets to run each test on.
// Who owns: each test its own. Thread: none shared.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernel_table.h"

namespace tg {

// Names a table in test output.
inline void PrintTo(const KernelTable* table, std::ostream* out) { *out << table->name; }

// Base of the tests that run once per table that this CPU can run.
class EachTable : public ::testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& kernels() const { return *GetParam(); }
};

inline std::string table_name(const ::testing::TestParamInfo<const KernelTable*>& info) {
  return std::string(info.param->name);
}

#define TG_FOR_EACH_TABLE(Suite)                                                         \
  INSTANTIATE_TEST_SUITE_P(, Suite,                                                      \
                           ::testing::ValuesIn(std::vector<const KernelTable*>(          \
                               available_kernels().begin(), available_kernels().end())), \
                           table_name)

// Uniform in [-scale, scale); the generator's bits are fixed by the standard, unlike
// distributions'.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : bits_(seed) {}
  float next(float scale = 1.0F) {
    return (static_cast<float>(bits_() >> 40) * 0x1p-23F - 1.0F) * scale;
  }
  std::vector<float> floats(std::int64_t count, float scale = 1.0F) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& v : values) v = next(scale);
    return values;
  }
  std::uint64_t below(std::uint64_t limit) { return bits_() % limit; }

 private:
  std::mt19937_64 bits_;
};

// Values in the compute dtype, and what they are after its rounding.
struct Row {
  ComputeDType dtype;
  std::vector<Bf16> bf16;
  std::vector<float> f32;  // the values themselves, rounded if the dtype is bf16

  Row(ComputeDType type, std::vector<float> values) : dtype(type), f32(std::move(values)) {
    if (dtype != ComputeDType::kBf16) return;
    for (float& v : f32) {
      bf16.push_back(to_bf16(v));
      v = to_float(bf16.back());
    }
  }
  const void* data(std::int64_t at = 0) const {
    if (dtype == ComputeDType::kBf16) return bf16.data() + at;
    return f32.data() + at;
  }
};

// An output buffer of the compute dtype, readable as f32.
struct OutputRow {
  ComputeDType dtype;
  std::vector<Bf16> bf16;
  std::vector<float> f32;

  OutputRow(ComputeDType type, std::int64_t count) : dtype(type) {
    const auto n = static_cast<std::size_t>(count);
    if (dtype == ComputeDType::kBf16) {
      bf16.assign(n, Bf16{0x7fc1});  // NaN: an element that nobody writes is found
    } else {
      f32.assign(n, std::numeric_limits<float>::quiet_NaN());
    }
  }
  void* data(std::int64_t at = 0) {
    if (dtype == ComputeDType::kBf16) return bf16.data() + at;
    return f32.data() + at;
  }
  float operator[](std::int64_t i) const {
    const auto at = static_cast<std::size_t>(i);
    return dtype == ComputeDType::kBf16 ? to_float(bf16[at]) : f32[at];
  }
};

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}
inline bool same_bits(const OutputRow& a, const OutputRow& b) {
  if (a.dtype == ComputeDType::kF32) return same_bits(a.f32, b.f32);
  return a.bf16.size() == b.bf16.size() &&
         std::memcmp(a.bf16.data(), b.bf16.data(), a.bf16.size() * sizeof(Bf16)) == 0;
}

// The whole product that `args` describes but for y, whose rows get a stride of their own: panels
// in the pieces between `cuts`, each by multiply(args, begin, end). [m][n], and nothing is written
// past the last output.
template <typename Multiply>
std::vector<float> whole_product(MatmulArgs args, std::vector<std::int64_t> cuts, bool add,
                                 const Multiply& multiply) {
  const std::int64_t n = args.w.n;
  args.ldy = n + 5;
  args.add = add;
  std::vector<float> y(static_cast<std::size_t>(args.m * args.ldy), add ? 0.5F : -7.0F);
  args.y = y.data();
  cuts.insert(cuts.begin(), 0);
  cuts.push_back(args.w.panels());
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) multiply(args, cuts[i], cuts[i + 1]);
  std::vector<float> dense;
  for (std::int64_t r = 0; r < args.m; ++r) {
    const auto row = y.begin() + r * args.ldy;
    dense.insert(dense.end(), row, row + n);
    for (std::int64_t j = n; j < args.ldy; ++j) {
      EXPECT_EQ(row[j], add ? 0.5F : -7.0F) << "written past the last output, row " << r;
    }
  }
  return dense;
}

// Half a unit in the last place of bf16, relative.
inline constexpr double kBf16Half = 0x1p-8;

inline double rounding(ComputeDType dtype) {
  return dtype == ComputeDType::kBf16 ? kBf16Half : 0.0;
}

}  // namespace tg
