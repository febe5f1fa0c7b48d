// The functions on single rows: rms_norm, sum_of_squares, scale, rope, swiglu, softmax_numerators,
// embedding, store_kv.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernel_inputs.h"

namespace tg {
namespace {

class Rows : public EachTable {};

const ComputeDType kBothTypes[] = {ComputeDType::kBf16, ComputeDType::kF32};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_P(Rows, RmsNormAgreesWithDoublePrecision) {
  for (const ComputeDType dtype : kBothTypes) {
    for (const std::int64_t n : {1, 2, 7, 15, 16, 17, 63, 64, 65, 576, 1000, 8192}) {
      const std::vector<float> x = Numbers(1).floats(n, 3.0F);
      const std::vector<float> weight = Numbers(2).floats(n);
      OutputRow out(dtype, n + 1);
      kernels().rms_norm(x.data(), weight.data(), 1e-5F, n, dtype, out.data());
      double sum = 0.0;
      for (const float v : x) sum += static_cast<double>(v) * v;
      const double inverse = 1.0 / std::sqrt(sum / static_cast<double>(n) + 1e-5F);
      for (std::int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const double truth = x[at] * inverse * weight[at];
        ASSERT_NEAR(out[i], truth, std::abs(truth) * (rounding(dtype) + 1e-6)) << n;
      }
      EXPECT_TRUE(std::isnan(out[n])) << "written past the end, n = " << n;
    }
  }
}

TEST_P(Rows, RmsNormOfZerosIsZero) {
  const std::vector<float> zeros(40, 0.0F);
  const std::vector<float> weight(40, 1.0F);
  OutputRow out(ComputeDType::kF32, 40);
  kernels().rms_norm(zeros.data(), weight.data(), 1e-5F, 40, ComputeDType::kF32, out.data());
  for (std::int64_t i = 0; i < 40; ++i) EXPECT_EQ(out[i], 0.0F);
}

const std::int64_t kLengths[] = {1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 72, 127, 576, 1000, 2048};

TEST_P(Rows, SumOfSquaresAgreesWithTheReference) {
  const KernelTable& reference = **choose_kernels("reference");
  EXPECT_EQ(kernels().sum_of_squares(nullptr, 0), 0.0F);
  for (const std::int64_t n : kLengths) {
    std::vector<float> x = Numbers(20).floats(n, 3.0F);
    const float sum = kernels().sum_of_squares(x.data(), n);
    double truth = 0.0;
    for (const float v : x) truth += static_cast<double>(v) * v;
    EXPECT_NEAR(sum, truth, 2e-6 * truth) << n;
    EXPECT_NEAR(sum, reference.sum_of_squares(x.data(), n), 2e-6 * truth) << n;
    x.push_back(kNan);
    EXPECT_EQ(kernels().sum_of_squares(x.data(), n), sum) << "read past the end, n = " << n;
    // Every value counts, and once.
    std::vector<float> ones(static_cast<std::size_t>(n), 1.0F);
    EXPECT_EQ(kernels().sum_of_squares(ones.data(), n), static_cast<float>(n));
    ones[static_cast<std::size_t>(n / 2)] = 3.0F;
    EXPECT_EQ(kernels().sum_of_squares(ones.data(), n), static_cast<float>(n + 8));
    ones[static_cast<std::size_t>(n - 1)] = kNan;
    EXPECT_TRUE(std::isnan(kernels().sum_of_squares(ones.data(), n)));
  }
}

TEST_P(Rows, ScaleIsTheReferencesBitForBit) {
  const KernelTable& reference = **choose_kernels("reference");
  for (const ComputeDType dtype : kBothTypes) {
    for (const std::int64_t n : kLengths) {
      for (const float factor : {0.0F, 0.37F, -2.5e4F}) {
        const std::vector<float> x = Numbers(21).floats(n, 3.0F);
        const std::vector<float> weight = Numbers(22).floats(n);
        OutputRow out(dtype, n + 1);
        OutputRow expected(dtype, n + 1);
        kernels().scale(x.data(), weight.data(), factor, n, dtype, out.data());
        reference.scale(x.data(), weight.data(), factor, n, dtype, expected.data());
        ASSERT_TRUE(same_bits(out, expected)) << "n = " << n << ", factor " << factor;
        EXPECT_TRUE(std::isnan(out[n])) << "written past the end, n = " << n;
        const auto middle = static_cast<std::size_t>(n / 2);
        const double truth = static_cast<double>(x[middle]) * factor * weight[middle];
        ASSERT_NEAR(out[n / 2], truth, std::abs(truth) * (rounding(dtype) + 1e-6));
      }
    }
  }
}

// What the mesh relies on: the two halves are the whole.
TEST_P(Rows, SumOfSquaresAndScaleAreRmsNorm) {
  for (const std::int64_t n : kLengths) {
    const std::vector<float> x = Numbers(23).floats(n, 3.0F);
    const std::vector<float> weight = Numbers(24).floats(n);
    OutputRow whole(ComputeDType::kF32, n);
    OutputRow halves(ComputeDType::kF32, n);
    kernels().rms_norm(x.data(), weight.data(), 1e-5F, n, ComputeDType::kF32, whole.data());
    const double mean =
        static_cast<double>(kernels().sum_of_squares(x.data(), n)) / static_cast<double>(n);
    kernels().scale(x.data(), weight.data(), static_cast<float>(1.0 / std::sqrt(mean + 1e-5)), n,
                    ComputeDType::kF32, halves.data());
    for (std::int64_t i = 0; i < n; ++i) {
      ASSERT_NEAR(halves[i], whole[i], 1e-6 * std::abs(whole[i])) << n;
    }
  }
}

TEST_P(Rows, RopeRotatesPairs) {
  for (const std::int64_t head_dim : {2, 6, 8, 16, 30, 64, 80, 128, 256}) {
    for (const std::int64_t heads : {1, 3}) {
      const std::vector<float> angles = Numbers(3).floats(head_dim / 2, 10.0F);
      std::vector<float> cosine, sine;
      for (const float a : angles) {
        cosine.push_back(std::cos(a));
        sine.push_back(std::sin(a));
      }
      const std::vector<float> before = Numbers(4).floats(heads * head_dim + 1);
      std::vector<float> x = before;
      kernels().rope(x.data(), heads, head_dim, cosine.data(), sine.data());
      for (std::int64_t i = 0; i < heads * head_dim; i += 2) {
        const auto at = static_cast<std::size_t>(i);
        const auto angle = static_cast<std::size_t>(i % head_dim / 2);
        const double a = before[at];
        const double b = before[at + 1];
        ASSERT_NEAR(x[at], a * cosine[angle] - b * sine[angle], 2e-7);
        ASSERT_NEAR(x[at + 1], a * sine[angle] + b * cosine[angle], 2e-7);
      }
      EXPECT_EQ(x.back(), before.back()) << "written past the last head";
    }
  }
}

TEST_P(Rows, SwigluAgreesWithDoublePrecision) {
  std::vector<float> gate = Numbers(5).floats(3001, 30.0F);
  std::vector<float> up = Numbers(6).floats(3001);
  for (const float special : {0.0F, -0.0F, 1e-30F, -87.0F, -88.5F, 88.0F, 100.0F}) {
    gate.push_back(special);
    up.push_back(2.0F);
  }
  const auto n = static_cast<std::int64_t>(gate.size());
  for (const ComputeDType dtype : kBothTypes) {
    OutputRow out(dtype, n + 1);
    kernels().swiglu(gate.data(), up.data(), n, dtype, out.data());
    for (std::int64_t i = 0; i < n; ++i) {
      const double g = gate[static_cast<std::size_t>(i)];
      const double truth = g / (1.0 + std::exp(-g)) * up[static_cast<std::size_t>(i)];
      ASSERT_NEAR(out[i], truth, std::abs(truth) * (rounding(dtype) + 1e-6) + 1e-37) << g;
    }
    EXPECT_TRUE(std::isnan(out[n])) << "written past the end";
  }
}

// The vectors' exp seen through softmax: with a maximum of 0 the results are exp itself.
TEST_P(Rows, ExpIsWithinTwoUnitsInTheLastPlace) {
  std::vector<float> x = {0.0F};
  for (float v = -1e-7F; v > -87.3F; v *= 1.0007F) x.push_back(v);
  for (float v = -0.01F; v > -87.3F; v -= 0.0103F) x.push_back(v);
  const std::vector<float> before = x;
  float maximum = kNan;
  kernels().softmax_numerators(x.data(), static_cast<std::int64_t>(x.size()), &maximum);
  ASSERT_EQ(maximum, 0.0F);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double truth = std::exp(static_cast<double>(before[i]));
    const double unit =
        std::nextafter(static_cast<float>(truth), kInfinity) - static_cast<float>(truth);
    ASSERT_LE(std::abs(x[i] - truth), 2.0 * unit) << "exp(" << before[i] << ")";
  }
}

TEST_P(Rows, SoftmaxNumerators) {
  for (const std::int64_t n : {1, 2, 7, 8, 9, 15, 16, 17, 100, 1003}) {
    std::vector<float> x = Numbers(7).floats(n + 1, 20.0F);
    const std::vector<float> before = x;
    float maximum = kNan;
    const double sum = kernels().softmax_numerators(x.data(), n, &maximum);
    EXPECT_EQ(maximum, *std::max_element(before.begin(), before.end() - 1));
    double truth = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double e = std::exp(static_cast<double>(before[at]) - maximum);
      ASSERT_NEAR(x[at], e, 4e-6 * e) << n;  // the difference from the maximum is rounded, too
      truth += e;
    }
    EXPECT_NEAR(sum, truth, 4e-6 * truth);
    EXPECT_EQ(x.back(), before.back()) << "written past the end, n = " << n;
  }
}

TEST_P(Rows, SoftmaxOfMaskedAndTinyValues) {
  std::vector<float> x = {-kInfinity, 5.0F, -kInfinity, 5.0F - 95.0F, 5.0F - 104.5F};
  float maximum = kNan;
  const double sum = kernels().softmax_numerators(x.data(), 5, &maximum);
  EXPECT_EQ(maximum, 5.0F);
  EXPECT_EQ(x[0], 0.0F);
  EXPECT_EQ(x[1], 1.0F);
  EXPECT_EQ(x[2], 0.0F);
  EXPECT_NEAR(x[3], std::exp(-95.0), 3e-45);  // subnormal, not lost
  EXPECT_GE(x[4], 0.0F);
  EXPECT_NEAR(sum, 1.0, 1e-12);
}

// A value's result may not depend on where in the row it stands: vector or tail.
TEST_P(Rows, PositionDoesNotShow) {
  const std::vector<float> values = Numbers(8).floats(37, 8.0F);
  for (const float v : values) {
    const std::vector<float> same(67, v);
    std::vector<float> numerators(same);
    numerators[0] = 9.0F;  // the common maximum
    float maximum = kNan;
    kernels().softmax_numerators(numerators.data(), 67, &maximum);
    OutputRow out(ComputeDType::kF32, 67);
    kernels().swiglu(same.data(), same.data(), 67, ComputeDType::kF32, out.data());
    for (std::int64_t i = 1; i < 67; ++i) {
      ASSERT_EQ(numerators[static_cast<std::size_t>(i)], numerators[1]);
      ASSERT_EQ(out[i], out[0]);
    }
  }
}

TEST_P(Rows, RoundingToBf16IsTheScalarOne) {
  // Products with 1 and a gate so large that silu is the identity: what comes out is the rounding
  // alone.
  std::vector<float> values = Numbers(9).floats(1000);
  for (const std::uint32_t bits : {0x3f808000U, 0x3f818000U, 0x3f808001U, 0x7f7fffffU, 0x00000001U,
                                   0x00018000U, 0x80000000U, 0x7f800000U, 0xff800000U}) {
    values.push_back(std::bit_cast<float>(bits));
  }
  const auto n = static_cast<std::int64_t>(values.size());
  OutputRow out(ComputeDType::kBf16, n);
  std::vector<float> wide(values.size());
  const std::vector<float> gate(values.size(), 200.0F);
  kernels().swiglu(gate.data(), values.data(), n, ComputeDType::kBf16, out.data());
  kernels().swiglu(gate.data(), values.data(), n, ComputeDType::kF32, wide.data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(out.bf16[i].bits, to_bf16(wide[i]).bits) << values[i];
  }
}

TEST_P(Rows, NanStaysNanAndInfinityComesBack) {
  for (const ComputeDType dtype : kBothTypes) {
    std::vector<float> x(37, 1.0F);
    x[20] = kNan;
    x[36] = kInfinity;
    x[3] = -kInfinity;
    const std::vector<float> ones(37, 1.0F);
    OutputRow out(dtype, 37);
    kernels().swiglu(x.data(), ones.data(), 37, dtype, out.data());
    EXPECT_TRUE(std::isnan(out[20]));
    EXPECT_EQ(out[36], kInfinity);
    EXPECT_TRUE(std::isfinite(out[19]));
    kernels().rms_norm(x.data(), ones.data(), 1e-5F, 37, dtype, out.data());
    EXPECT_TRUE(std::isnan(out[20]));
    EXPECT_TRUE(std::isnan(out[0]));  // the mean is not a number
  }
}

TEST_P(Rows, EmbeddingReadsARow) {
  constexpr std::int64_t kN = 70;
  constexpr std::int64_t kK = 50;
  auto matrix = PackedMatrix::allocate(kN, kK);
  ASSERT_TRUE(matrix);
  const std::vector<float> values = Numbers(10).floats(kN * kK);
  matrix->set_rows(0, kN, values);
  for (std::int64_t row = 0; row < kN; ++row) {
    std::vector<float> out(kK + 1, -1.0F);
    kernels().embedding(matrix->view(), row, out.data());
    for (std::int64_t i = 0; i < kK; ++i) {
      ASSERT_EQ(out[static_cast<std::size_t>(i)],
                to_float(to_bf16(values[static_cast<std::size_t>(row * kK + i)])));
    }
    EXPECT_EQ(out.back(), -1.0F);
  }
}

// The layout of kernel_table.h, written out index by index.
TEST_P(Rows, StoreKvKeepsTheLayout) {
  constexpr std::int64_t kBlock = 32;
  constexpr std::int64_t kHeads = 2;
  constexpr PageId kPages = 3;
  for (const ComputeDType dtype : kBothTypes) {
    for (const std::int64_t head_dim : {2, 8, 64, 80}) {
      const std::int64_t head = kBlock * head_dim;
      const std::int64_t page = 2 * kHeads * head;  // keys of all heads, then values
      OutputRow memory(dtype, kPages * page);
      const std::int64_t bytes = dtype == ComputeDType::kBf16 ? 2 : 4;
      KvLayer kv;
      kv.keys = static_cast<std::byte*>(memory.data());
      kv.values = static_cast<std::byte*>(memory.data(kHeads * head));
      kv.page_stride = page * bytes;
      kv.head_stride = head * bytes;
      kv.block = kBlock;
      kv.head_dim = head_dim;
      kv.dtype = dtype;
      const std::int64_t offset = 21;
      const Row key(dtype, Numbers(11).floats(head_dim));
      const Row value(dtype, Numbers(12).floats(head_dim));
      kernels().store_kv(kv, 2, 1, offset, key.f32.data(), value.f32.data());
      std::int64_t written = 0;
      for (std::int64_t i = 0; i < kPages * page; ++i) written += !std::isnan(memory[i]);
      EXPECT_EQ(written, 2 * head_dim);
      for (std::int64_t d = 0; d < head_dim; ++d) {
        const std::int64_t group = offset / 16 * 16 * head_dim;
        const std::int64_t inside = dtype == ComputeDType::kBf16
                                        ? d / 2 * 32 + offset % 16 * 2 + d % 2
                                        : d * 16 + offset % 16;
        ASSERT_EQ(memory[2 * page + head + group + inside], key.f32[static_cast<std::size_t>(d)]);
        const std::int64_t place = dtype == ComputeDType::kBf16
                                       ? (offset / 2 * head_dim + d) * 2 + offset % 2
                                       : offset * head_dim + d;
        ASSERT_EQ(memory[2 * page + kHeads * head + head + place],
                  value.f32[static_cast<std::size_t>(d)]);
      }
    }
  }
}

TG_FOR_EACH_TABLE(Rows);

}  // namespace
}  // namespace tg
