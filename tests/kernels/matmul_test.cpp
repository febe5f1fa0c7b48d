#include <gtest/gtest.h>

#include <bit>
#include <utility>

#include "base/thread_team.h"
#include "kernel_inputs.h"

namespace tg {
namespace {

struct Weights {
  std::int64_t n, k;
  std::vector<float> values;  // [n][k], rounded to bf16
  PackedMatrix packed;

  Weights(std::int64_t outputs, std::int64_t inputs, std::uint64_t seed = 1)
      : n(outputs), k(inputs), values(Numbers(seed).floats(outputs * inputs)) {
    auto made = PackedMatrix::allocate(n, k);
    EXPECT_TRUE(made) << made.error().text();
    packed = std::move(*made);
    packed.set_rows(0, n, values);
    for (float& v : values) v = to_float(to_bf16(v));
  }
};

// y of the whole product with rows at a stride of their own; panels in the given pieces.
std::vector<float> product(const KernelTable& kernels, const Weights& w, const Row& x,
                           std::int64_t first_row, std::int64_t rows,
                           std::vector<std::int64_t> cuts = {}, bool add = false) {
  MatmulArgs args;
  args.x = x.data(first_row * w.k);
  args.ldx = w.k;
  args.m = rows;
  args.w = w.packed.view();
  return whole_product(args, std::move(cuts), add,
                       x.dtype == ComputeDType::kBf16 ? kernels.matmul_bf16 : kernels.matmul_f32);
}

class Matmul : public EachTable {};

TEST_P(Matmul, AgreesWithDoublePrecision) {
  struct Shape {
    std::int64_t m, n, k;
  };
  for (const Shape s :
       {Shape{1, 32, 2}, Shape{1, 96, 64}, Shape{2, 33, 510}, Shape{3, 160, 514},
        Shape{5, 31, 2050}, Shape{7, 64, 130}, Shape{12, 40, 64}, Shape{13, 129, 96},
        Shape{121, 32, 66}, Shape{250, 70, 34}, Shape{9, 130, 1026}}) {
    const Weights w(s.n, s.k);
    for (const ComputeDType dtype : {ComputeDType::kBf16, ComputeDType::kF32}) {
      const Row x(dtype, Numbers(2).floats(s.m * s.k));
      for (const bool add : {false, true}) {
        const std::vector<float> y = product(kernels(), w, x, 0, s.m, {}, add);
        for (std::int64_t i = 0; i < s.m; ++i) {
          for (std::int64_t j = 0; j < s.n; ++j) {
            double truth = 0.0;
            double size = 0.0;
            for (std::int64_t k = 0; k < s.k; ++k) {
              const double term =
                  static_cast<double>(x.f32[static_cast<std::size_t>(i * s.k + k)]) *
                  w.values[static_cast<std::size_t>(j * s.k + k)];
              truth += term;
              size += std::abs(term);
            }
            // A chain of k roundings of a partial sum; random walk, so far below k * 2^-24.
            ASSERT_NEAR(y[static_cast<std::size_t>(i * s.n + j)], truth + (add ? 0.5 : 0.0),
                        2e-6 * size + 1e-7)
                << s.m << " x " << s.n << " x " << s.k << " at " << i << ", " << j;
          }
        }
      }
    }
  }
}

// The promise of kernel_table.h: a row alone, and the same row in any company.
TEST_P(Matmul, ARowDoesNotShowItsCompany) {
  const Weights w(32 * 9 + 7, 2302);  // more than one visit of k in every table
  constexpr std::int64_t kRows = 40;
  for (const ComputeDType dtype : {ComputeDType::kBf16, ComputeDType::kF32}) {
    const Row x(dtype, Numbers(3).floats(kRows * w.k));
    std::vector<std::vector<float>> alone;
    for (std::int64_t r = 0; r < kRows; ++r) alone.push_back(product(kernels(), w, x, r, 1));
    for (std::int64_t m = 1; m <= kRows; ++m) {
      const std::int64_t first = (kRows - m) / 2;  // so that positions in the batch differ too
      const std::vector<float> y = product(kernels(), w, x, first, m);
      for (std::int64_t r = 0; r < m; ++r) {
        const std::span<const float> row(y.data() + r * w.n, static_cast<std::size_t>(w.n));
        ASSERT_TRUE(same_bits(row, alone[static_cast<std::size_t>(first + r)]))
            << "row " << r << " of " << m;
      }
    }
  }
}

TEST_P(Matmul, ARowDoesNotShowALongPrefill) {
  const Weights w(64, 130);
  for (const std::int64_t m : {239, 240, 241, 481, 4097}) {
    const Row x(ComputeDType::kBf16, Numbers(4).floats(m * w.k));
    const std::vector<float> y = product(kernels(), w, x, 0, m);
    for (const std::int64_t r : {std::int64_t{0}, m / 3, m / 2, m - 1}) {
      const std::span<const float> row(y.data() + r * w.n, static_cast<std::size_t>(w.n));
      ASSERT_TRUE(same_bits(row, product(kernels(), w, x, r, 1))) << "row " << r << " of " << m;
    }
  }
}

// Magnitudes from 2^-70 to 2^60, subnormals and zeros of both signs: sums that lose almost
// everything, where any other order or rounding shows.
TEST_P(Matmul, HardNumbersDoNotShowTheirCompany) {
  constexpr std::int64_t kN = 100;
  Numbers numbers(8);
  const auto hard = [&numbers](std::int64_t count) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < count; ++i) {
      const int exponent = static_cast<int>(numbers.below(64)) - (i % 3 == 0 ? 70 : 4);
      float v = std::ldexp(numbers.next(), exponent);
      if (numbers.below(16) == 0)
        v = std::bit_cast<float>(numbers.below(2) != 0U ? 0x80050000U : 0U);
      values.push_back(v);
    }
    return values;
  };
  for (const std::int64_t k : {2, 30, 32, 34, 300, 1030}) {
    Weights w(kN, k);
    w.packed.set_rows(0, kN, hard(kN * k));
    for (const ComputeDType dtype : {ComputeDType::kBf16, ComputeDType::kF32}) {
      const Row x(dtype, hard(40 * k));
      const std::vector<float> all = product(kernels(), w, x, 0, 40);
      for (const std::int64_t m : {1, 2, 3, 5, 17}) {
        for (std::int64_t first = 0; first + m <= 40; first += m) {
          const std::span<const float> rows(all.data() + first * kN,
                                            static_cast<std::size_t>(m * kN));
          ASSERT_TRUE(same_bits(rows, product(kernels(), w, x, first, m)))
              << m << " rows from " << first << ", k = " << k;
        }
      }
    }
  }
}

TEST_P(Matmul, PiecesOfPanelsDoNotShow) {
  const Weights w(32 * 11 + 3, 260);
  for (const ComputeDType dtype : {ComputeDType::kBf16, ComputeDType::kF32}) {
    for (const std::int64_t m : {1, 2, 4, 6, 9, 12, 30}) {
      const Row x(dtype, Numbers(5).floats(m * w.k));
      const std::vector<float> whole = product(kernels(), w, x, 0, m);
      EXPECT_TRUE(same_bits(whole, product(kernels(), w, x, 0, m, {1})));
      EXPECT_TRUE(same_bits(whole, product(kernels(), w, x, 0, m, {5, 5, 11})));
      EXPECT_TRUE(
          same_bits(whole, product(kernels(), w, x, 0, m, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})));
    }
  }
}

TEST_P(Matmul, ThreadsDoNotShow) {
  const Weights w(32 * 40 + 1, 192);
  for (const std::int64_t m : {1, 17}) {
    const Row x(ComputeDType::kBf16, Numbers(6).floats(m * w.k));
    const std::vector<float> expected = product(kernels(), w, x, 0, m);
    for (const int threads : {1, 2, 3}) {
      ThreadTeam team(threads);
      for (int repeat = 0; repeat < 20; ++repeat) {
        std::vector<float> y(static_cast<std::size_t>(m * w.n), -7.0F);
        const MatmulArgs args{x.data(), w.k, m, w.packed.view(), y.data(), w.n, false};
        team.for_pieces(args.w.panels(), 1 + repeat,
                        [&](std::int64_t b, std::int64_t e) { kernels().matmul_bf16(args, b, e); });
        ASSERT_TRUE(same_bits(y, expected)) << threads << " threads";
      }
    }
  }
}

// What is not a number stays in its row and its output.
TEST_P(Matmul, NanAndInfinityStayWhereTheyBelong) {
  const Weights w(70, 128);
  for (const ComputeDType dtype : {ComputeDType::kBf16, ComputeDType::kF32}) {
    std::vector<float> values = Numbers(7).floats(3 * w.k);
    const std::vector<float> clean = product(kernels(), w, Row(dtype, values), 0, 3);
    values[static_cast<std::size_t>(w.k + 9)] = std::numeric_limits<float>::quiet_NaN();
    values[static_cast<std::size_t>(2 * w.k + 9)] = std::numeric_limits<float>::infinity();
    const std::vector<float> y = product(kernels(), w, Row(dtype, values), 0, 3);
    const auto n = static_cast<std::size_t>(w.n);
    EXPECT_TRUE(same_bits(std::span(y).first(n), std::span(clean).first(n)));
    for (std::size_t j = 0; j < n; ++j) {
      EXPECT_TRUE(std::isnan(y[n + j]));
      EXPECT_FALSE(std::isfinite(y[2 * n + j]));
    }
  }
}

TG_FOR_EACH_TABLE(Matmul);

}  // namespace
}  // namespace tg
