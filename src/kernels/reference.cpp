// The oracle: plain loops in the order of the formulas, sums in f64, no instruction beyond x86-64.
// Slow and meant to stay so; what it says is what the other tables are tested against.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/kv_codes.h"
#include "kernels/packed_codes.h"
#include "kernels/tables.h"

namespace tg {
namespace {

float input(const Bf16* x) { return to_float(*x); }
float input(const float* x) { return *x; }

template <typename X>
void matmul(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  const std::int64_t pairs = args.w.k_pairs();
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::int64_t width = std::min(kPanelWidth, args.w.n - p * kPanelWidth);
    for (std::int64_t row = 0; row < args.m; ++row) {
      const X* x = static_cast<const X*>(args.x) + row * args.ldx;
      const Bf16* w = args.w.panel(p);
      std::array<double, kPanelWidth> sums{};
      for (std::int64_t pair = 0; pair < pairs; ++pair, w += 2 * kPanelWidth) {
        const double even = input(x + 2 * pair);
        const double odd = input(x + 2 * pair + 1);
        for (std::size_t j = 0; j < kPanelWidth; ++j) {
          sums[j] += even * to_float(w[2 * j]) + odd * to_float(w[2 * j + 1]);
        }
      }
      float* y = args.y + row * args.ldy + p * kPanelWidth;
      for (std::int64_t j = 0; j < width; ++j) {
        const auto sum = static_cast<float>(sums[static_cast<std::size_t>(j)]);
        y[j] = args.add ? y[j] + sum : sum;
      }
    }
  }
}

// Up to 64 rows at a time share the decoding of a group.
void matmul_quantized(const MatmulArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  constexpr std::int64_t kRows = 64;
  const QuantizedRows& x = args.quantized;
  const WeightFormat format = args.w.format;
  const std::int64_t end = std::min(args.w.n, panel_end * kPanelWidth);
  for (std::int64_t output = panel_begin * kPanelWidth; output < end; ++output) {
    const std::byte* panel = args.w.panel_data(output / kPanelWidth);
    const std::int64_t lane = output % kPanelWidth;
    for (std::int64_t first = 0; first < args.m; first += kRows) {
      const std::int64_t rows = std::min(kRows, args.m - first);
      std::array<float, kRows> sums{};
      for (std::int64_t g = 0; g < args.w.groups(); ++g) {
        const std::byte* group = panel + g * group_bytes(format);
        std::array<int, kGroup> weights{};
        for (std::int64_t i = 0; i < kGroup; ++i) {
          weights[static_cast<std::size_t>(i)] = code_in_pairs(format, group, lane, i);
        }
        const float scale = scale_at(format, group, lane);
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t at = g * x.rows + first + r;
          int integer = 0;
          for (std::int64_t i = 0; i < kGroup; ++i) {
            integer += x.codes[at * kGroup + i] * weights[static_cast<std::size_t>(i)];
          }
          float& sum = sums[static_cast<std::size_t>(r)];
          sum = std::fma(static_cast<float>(integer) * scale, x.scales[at], sum);
        }
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        float& y = args.y[(first + r) * args.ldy + output];
        const float sum = sums[static_cast<std::size_t>(r)];
        y = args.add ? y + sum : sum;
      }
    }
  }
}

void quantize(const void* x, ComputeDType dtype, std::int64_t k, const QuantizedRows& out,
              std::int64_t row) {
  for (std::int64_t g = 0; g < out.groups; ++g) {
    std::array<float, kGroup> values{};
    std::uint32_t largest = 0;
    for (std::int64_t i = 0; i < std::min(kGroup, k - g * kGroup); ++i) {
      const std::int64_t from = g * kGroup + i;
      float& v = values[static_cast<std::size_t>(i)];
      v = dtype == ComputeDType::kBf16 ? input(static_cast<const Bf16*>(x) + from)
                                       : input(static_cast<const float*>(x) + from);
      largest = std::max(largest, std::bit_cast<std::uint32_t>(v) & 0x7fffffffU);
    }
    const GroupScale scale = group_scale(largest);
    const std::int64_t at = g * out.rows + row;
    int sum = 0;
    for (std::int64_t i = 0; i < kGroup; ++i) {
      const float v = values[static_cast<std::size_t>(i)];
      const int code =
          scale.inverse == 0.0F ? 0 : static_cast<int>(std::nearbyint(v * scale.inverse));
      out.codes[at * kGroup + i] = static_cast<std::int8_t>(code);
      sum += code;
    }
    out.scales[at] = scale.scale;
    out.corrections[at] = -128 * sum;
  }
}

void store(ComputeDType dtype, void* out, std::int64_t i, float value) {
  if (dtype == ComputeDType::kBf16) {
    static_cast<Bf16*>(out)[i] = to_bf16(value);
  } else {
    static_cast<float*>(out)[i] = value;
  }
}

double sum_of_squares(const float* x, std::int64_t n) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

void scale(const float* x, const float* weight, float factor, std::int64_t n, ComputeDType dtype,
           void* out) {
  for (std::int64_t i = 0; i < n; ++i) store(dtype, out, i, x[i] * factor * weight[i]);
}

void rms_norm(const float* x, const float* weight, float eps, std::int64_t n, ComputeDType dtype,
              void* out) {
  const double mean = sum_of_squares(x, n) / static_cast<double>(n);
  scale(x, weight, static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps))), n, dtype,
        out);
}

float sum_of_squares_f32(const float* x, std::int64_t n) {
  return static_cast<float>(sum_of_squares(x, n));
}

void rope(float* x, std::int64_t heads, std::int64_t head_dim, const float* cos, const float* sin) {
  for (std::int64_t h = 0; h < heads; ++h, x += head_dim) {
    for (std::int64_t i = 0; i < head_dim / 2; ++i) {
      const float a = x[2 * i];
      const float b = x[2 * i + 1];
      x[2 * i] = a * cos[i] - b * sin[i];
      x[2 * i + 1] = a * sin[i] + b * cos[i];
    }
  }
}

void swiglu(const float* gate, const float* up, std::int64_t n, ComputeDType dtype, void* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    store(dtype, out, i, gate[i] / (1.0F + std::exp(-gate[i])) * up[i]);
  }
}

// One element of a page as f32.
float element(ComputeDType dtype, const std::byte* p, std::int64_t i) {
  if (dtype == ComputeDType::kBf16) return to_float(reinterpret_cast<const Bf16*>(p)[i]);
  return reinterpret_cast<const float*>(p)[i];
}

// Of a position of a group of keys or values.
float key_at(const KvLayer& kv, const std::byte* group, std::int64_t lane, std::int64_t d) {
  if (kv.format != KvFormat::kCompute) {
    const auto code = static_cast<std::int8_t>(group[key_code_at(lane, d)]);
    return to_float(kv_decoded(code, kv_scale_at(kv, group, lane, d)));
  }
  const bool bf16 = kv.dtype == ComputeDType::kBf16;
  return element(kv.dtype, group,
                 bf16 ? (d / 2 * kKeyGroup + lane) * 2 + d % 2 : d * kKeyGroup + lane);
}

float value_at(const KvLayer& kv, const std::byte* group, std::int64_t lane, std::int64_t d) {
  if (kv.format != KvFormat::kCompute) {
    const auto code = static_cast<std::int8_t>(group[value_code_at(kv, lane, d)]);
    return to_float(kv_decoded(code, kv_scale_at(kv, group, lane, d)));
  }
  const bool bf16 = kv.dtype == ComputeDType::kBf16;
  return element(kv.dtype, group,
                 bf16 ? (lane / 2 * kv.head_dim + d) * 2 + lane % 2 : lane * kv.head_dim + d);
}

// Softmax over positions 0 .. last of q . k / sqrt(d), then the mean of the values with it. Two
// passes over the keys (maximum, then weights), so that nothing is rescaled and no scratch is
// needed.
void attention_row(const AttentionArgs& args, const float* q, std::int64_t last, void* out,
                   std::int64_t out_start) {
  const KvLayer& kv = args.kv;
  const bool bf16 = kv.dtype == ComputeDType::kBf16;
  const auto score = [&](std::int64_t position) {
    const KeyGroup group =
        find_key_group(kv, args.kv_head, args.pages, position & ~(kKeyGroup - 1));
    const std::int64_t lane = position % kKeyGroup;
    double sum = 0.0;
    for (std::int64_t d = 0; d < kv.head_dim; ++d) {
      const float query = bf16 ? to_float(to_bf16(q[d])) : q[d];
      sum += static_cast<double>(query) * key_at(kv, group.keys, lane, d);
    }
    return sum * static_cast<double>(args.scale);
  };
  double maximum = -std::numeric_limits<double>::infinity();
  for (std::int64_t p = 0; p <= last; ++p) maximum = std::max(maximum, score(p));

  double total = 0.0;
  std::array<double, kMaxHeadDim> sums{};
  for (std::int64_t p = 0; p <= last; ++p) {
    const KeyGroup group = find_key_group(kv, args.kv_head, args.pages, p & ~(kKeyGroup - 1));
    const double weight = std::exp(score(p) - maximum);
    total += weight;
    const std::int64_t lane = p % kKeyGroup;
    for (std::int64_t d = 0; d < kv.head_dim; ++d) {
      sums[static_cast<std::size_t>(d)] +=
          weight * static_cast<double>(value_at(kv, group.values, lane, d));
    }
  }
  for (std::int64_t d = 0; d < kv.head_dim; ++d) {
    store(kv.dtype, out, out_start + d,
          static_cast<float>(sums[static_cast<std::size_t>(d)] / total));
  }
}

// Spans are no matter here: rows are done whole, when all parts have been asked for.
void merge_attention(const AttentionArgs& args) {
  for (std::int64_t row = 0; row < args.rows; ++row) {
    for (std::int64_t g = 0; g < args.group; ++g) {
      const std::int64_t head = g * args.kv.head_dim;
      attention_row(args, args.q + row * args.q_stride + head, args.first_position + row, args.out,
                    row * args.out_stride + head);
    }
  }
}

void attention(const AttentionArgs& args) {
  if (args.partials == nullptr) merge_attention(args);
}

double softmax_numerators(float* x, std::int64_t n, float* max_out) {
  float maximum = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < n; ++i) maximum = std::max(maximum, x[i]);
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    x[i] = std::exp(x[i] - maximum);
    sum += static_cast<double>(x[i]);
  }
  *max_out = maximum;
  return sum;
}

}  // namespace

void store_kv_portable(const KvLayer& kv, PageId page, std::int64_t head,
                       std::int64_t offset_in_page, const float* key, const float* value) {
  if (kv.format != KvFormat::kCompute) {
    store_kv_codes(kv, page, head, offset_in_page, key, value);
    return;
  }
  const std::int64_t d = kv.head_dim;
  const std::int64_t start = page * kv.page_stride + head * kv.head_stride;
  const std::int64_t group = offset_in_page / kKeyGroup;
  const std::int64_t lane = offset_in_page % kKeyGroup;
  if (kv.dtype == ComputeDType::kBf16) {
    auto* keys = reinterpret_cast<Bf16*>(kv.keys + start) + group * kKeyGroup * d + lane * 2;
    auto* values = reinterpret_cast<Bf16*>(kv.values + start) + offset_in_page / 2 * 2 * d +
                   offset_in_page % 2;
    for (std::int64_t i = 0; i < d; i += 2, keys += 2 * kKeyGroup) {
      keys[0] = to_bf16(key[i]);
      keys[1] = to_bf16(key[i + 1]);
    }
    for (std::int64_t i = 0; i < d; ++i) values[2 * i] = to_bf16(value[i]);
  } else {
    auto* keys = reinterpret_cast<float*>(kv.keys + start) + group * kKeyGroup * d + lane;
    auto* values = reinterpret_cast<float*>(kv.values + start) + offset_in_page * d;
    for (std::int64_t i = 0; i < d; ++i) keys[i * kKeyGroup] = key[i];
    std::memcpy(values, value, static_cast<std::size_t>(d) * sizeof(float));
  }
}

constinit const KernelTable kReferenceKernels = {
    "reference",
    matmul<Bf16>,
    matmul<float>,
    matmul_quantized,
    quantize,
    rms_norm,
    sum_of_squares_f32,
    scale,
    rope,
    swiglu,
    store_kv_portable,
    attention,
    merge_attention,
    embedding_portable,
    softmax_numerators,
};

}  // namespace tg
