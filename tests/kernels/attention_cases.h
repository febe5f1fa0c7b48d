// What: sequences in pages and calls of attention on them, for the tests of it.
// Who owns: each test its own. Thread: none shared.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernel_inputs.h"

namespace tg {

struct Shape {
  std::int64_t context, block, head_dim, group;
  ComputeDType dtype;
  std::int64_t kv_heads = 2;
  KvFormat format = KvFormat::kCompute;
};

// Keys and values of a sequence, known as f32 and stored in pages; everything else in the pool is
// NaN.
struct Cache {
  Shape shape;
  std::vector<float> keys, values;  // [kv_heads][context][head_dim], not rounded
  std::vector<float> memory;        // the pool; float for its alignment
  std::vector<PageId> pages;
  KvLayer layer;

  Cache(const KernelTable& kernels, const Shape& s, std::uint64_t page_order = 0) : shape(s) {
    Numbers numbers(11);
    keys = numbers.floats(s.kv_heads * s.context * s.head_dim, 2.0F);
    values = numbers.floats(s.kv_heads * s.context * s.head_dim);
    const std::int64_t count = (s.context + s.block - 1) / s.block;
    const std::int64_t pool = count + 3;
    const std::int64_t head_bytes = s.block * kv_vector_bytes(s.format, s.dtype, s.head_dim);
    const std::int64_t page_bytes = 2 * s.kv_heads * head_bytes;  // keys of all heads, then values
    // All bits set is a NaN in bf16 and in f32, and so is a scale of int8. In bfp8 it is 2^122.
    memory.resize(static_cast<std::size_t>(pool * page_bytes / 4));
    std::memset(memory.data(), 0xff, memory.size() * 4);
    layer.keys = reinterpret_cast<std::byte*>(memory.data());
    layer.values = layer.keys + s.kv_heads * head_bytes;
    layer.page_stride = page_bytes;
    layer.head_stride = head_bytes;
    layer.block = s.block;
    layer.head_dim = s.head_dim;
    layer.dtype = s.dtype;
    layer.format = s.format;
    std::vector<PageId> ids(static_cast<std::size_t>(pool));
    std::iota(ids.begin(), ids.end(), 0);
    Numbers order(page_order);
    if (page_order != 0) {
      for (std::size_t i = ids.size(); i > 1; --i) std::swap(ids[i - 1], ids[order.below(i)]);
    }
    pages.assign(ids.begin(), ids.begin() + count);
    for (std::int64_t h = 0; h < s.kv_heads; ++h) {
      for (std::int64_t p = 0; p < s.context; ++p) {
        const std::int64_t at = (h * s.context + p) * s.head_dim;
        kernels.store_kv(layer, pages[static_cast<std::size_t>(p / s.block)], h, p % s.block,
                         keys.data() + at, values.data() + at);
      }
    }
  }

  float round(float v) const {
    return shape.dtype == ComputeDType::kBf16 ? to_float(to_bf16(v)) : v;
  }
};

// Queries of all positions of the sequence: [context][group][head_dim].
inline std::vector<float> queries(const Shape& s) {
  return Numbers(12).floats(s.context * s.group * s.head_dim, 2.0F);
}

// Attention of rows [first, first + rows) in calls of at most `chunk` rows.
inline OutputRow attend(const KernelTable& kernels, const Cache& cache, const std::vector<float>& q,
                        std::int64_t first, std::int64_t rows, std::int64_t chunk,
                        std::int64_t kv_head = 1) {
  const Shape& s = cache.shape;
  const std::int64_t width = s.group * s.head_dim;
  OutputRow out(s.dtype, rows * width);
  std::vector<float> scratch(
      static_cast<std::size_t>(attention_scratch_floats(chunk, s.group, s.head_dim)),
      std::numeric_limits<float>::quiet_NaN());
  for (std::int64_t r = 0; r < rows; r += chunk) {
    AttentionArgs args;
    args.q = q.data() + (first + r) * width;
    args.q_stride = width;
    args.rows = std::min(chunk, rows - r);
    args.group = s.group;
    args.first_position = first + r;
    args.kv = cache.layer;
    args.kv_head = kv_head;
    args.pages = cache.pages.data();
    args.scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
    args.out = out.data(r * width);
    args.out_stride = width;
    args.scratch = scratch.data();
    kernels.attention(args);
  }
  return out;
}

// The same rows with the context cut into parts of so many spans, the last part first.
inline OutputRow attend_in_parts(const KernelTable& kernels, const Cache& cache,
                                 const std::vector<float>& q, std::int64_t first, std::int64_t rows,
                                 std::int64_t part) {
  const Shape& s = cache.shape;
  const std::int64_t width = s.group * s.head_dim;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  OutputRow out(s.dtype, rows * width);
  std::vector<float> scratch(
      static_cast<std::size_t>(attention_scratch_floats(rows, s.group, s.head_dim)), nan);
  AttentionArgs args;
  args.q = q.data() + first * width;
  args.q_stride = width;
  args.rows = rows;
  args.group = s.group;
  args.first_position = first;
  args.kv = cache.layer;
  args.kv_head = 1;
  args.pages = cache.pages.data();
  args.scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
  args.out = out.data();
  args.out_stride = width;
  args.scratch = scratch.data();
  args.spans = attention_spans(first + rows - 1);
  std::vector<float> partials(
      static_cast<std::size_t>(rows * s.group * args.spans * attention_partial_floats(s.head_dim)),
      nan);
  args.partials = partials.data();
  for (std::int64_t begin = (args.spans - 1) / part * part; begin >= 0; begin -= part) {
    args.span_begin = begin;
    args.span_end = std::min(begin + part, args.spans);
    kernels.attention(args);
  }
  kernels.merge_attention(args);
  return out;
}

// One output row in double precision.
inline std::vector<double> truth(const Cache& cache, const std::vector<float>& q,
                                 std::int64_t position, std::int64_t g, std::int64_t kv_head = 1) {
  const Shape& s = cache.shape;
  const float* query = q.data() + (position * s.group + g) * s.head_dim;
  const std::int64_t base = kv_head * s.context * s.head_dim;
  std::vector<double> scores;
  for (std::int64_t p = 0; p <= position; ++p) {
    double sum = 0.0;
    for (std::int64_t d = 0; d < s.head_dim; ++d) {
      sum += static_cast<double>(cache.round(query[d])) *
             cache.round(cache.keys[static_cast<std::size_t>(base + p * s.head_dim + d)]);
    }
    scores.push_back(sum / std::sqrt(static_cast<double>(s.head_dim)));
  }
  const double maximum = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  std::vector<double> out(static_cast<std::size_t>(s.head_dim), 0.0);
  for (std::int64_t p = 0; p <= position; ++p) {
    const double weight = std::exp(scores[static_cast<std::size_t>(p)] - maximum);
    total += weight;
    for (std::int64_t d = 0; d < s.head_dim; ++d) {
      out[static_cast<std::size_t>(d)] +=
          weight * cache.round(cache.values[static_cast<std::size_t>(base + p * s.head_dim + d)]);
    }
  }
  for (double& v : out) v /= total;
  return out;
}

}  // namespace tg
