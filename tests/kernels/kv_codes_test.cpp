// Keys and values as codes: what they stand for, by formulas of their own, and that every table
// attends to them as to a cache of bf16 with these values, to the last bit.
#include "kernels/kv_codes.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "attention_cases.h"

namespace tg {
namespace {

const KvFormat kCodes[] = {KvFormat::kInt8, KvFormat::kBfp8};

// Of values that share a scale, by the definitions: what they become before the rounding to bf16.
std::vector<double> rounded_to_codes(KvFormat format, std::span<const float> x) {
  std::vector<double> out;
  double largest = 0.0;
  bool finite = true;
  for (const float v : x) {
    finite = finite && std::isfinite(v);
    largest = std::max(largest, std::abs(static_cast<double>(v)));
  }
  if (format == KvFormat::kInt8) {
    const float scale = to_float(to_bf16(static_cast<float>(largest) / 127.0F));
    for (const float v : x) {
      const double code = largest < 0x1p-100 ? 0.0 : std::nearbyint(v * (1.0F / scale));
      out.push_back(finite ? code * scale : std::nan(""));
    }
    return out;
  }
  // The significand that is aligned to the largest exponent loses bits below 2^-23 of it first.
  const int exponent = largest < 0x1p-126 ? 0 : std::ilogb(finite ? largest : 0x1p128);
  for (const float v : x) {
    if (!std::isfinite(v)) {
      out.push_back(std::copysign(HUGE_VAL, v));
      continue;
    }
    const bool counts = std::abs(v) >= 0x1p-126F;
    const double kept =
        std::trunc(counts ? std::ldexp(std::abs(static_cast<double>(v)), 23 - exponent) : 0.0);
    const double magnitude = std::min(127.0, std::nearbyint(std::ldexp(kept, -17)));
    const double value = std::ldexp(magnitude, exponent - 6);
    out.push_back(std::signbit(v) && value != 0.0 ? -value : value);
  }
  return out;
}

// To 8 significant bits, ties away from zero.
float to_bf16_away(double v) {
  if (!std::isfinite(v) || v == 0.0) return static_cast<float>(v);
  const int shift = 7 - std::max(std::ilogb(v), -126);
  return static_cast<float>(std::ldexp(std::round(std::ldexp(v, shift)), -shift));
}

std::vector<float> decoded(KvFormat format, std::int64_t head_dim, const std::vector<float>& x) {
  std::vector<float> out;
  const std::int64_t shared = kv_values_per_scale(format);
  for (std::size_t at = 0; at < x.size(); at += static_cast<std::size_t>(head_dim)) {
    const auto vector = std::span(x).subspan(at, static_cast<std::size_t>(head_dim));
    for (std::int64_t d = 0; d < head_dim; d += shared) {
      const auto part = vector.subspan(static_cast<std::size_t>(d),
                                       static_cast<std::size_t>(std::min(shared, head_dim - d)));
      for (const double v : rounded_to_codes(format, part)) out.push_back(to_bf16_away(v));
    }
  }
  return out;
}

// The same sequence as a cache of bf16 with the values that the codes stand for.
Cache decoded_cache(const KernelTable& kernels, const Cache& coded) {
  Shape s = coded.shape;
  s.format = KvFormat::kCompute;
  Cache cache(kernels, s);
  const std::vector<float> keys = decoded(coded.shape.format, s.head_dim, coded.keys);
  const std::vector<float> values = decoded(coded.shape.format, s.head_dim, coded.values);
  for (std::int64_t i = 0; i < s.kv_heads * s.context; ++i) {
    const std::int64_t p = i % s.context;
    kernels.store_kv(cache.layer, cache.pages[static_cast<std::size_t>(p / s.block)], i / s.context,
                     p % s.block, keys.data() + i * s.head_dim, values.data() + i * s.head_dim);
  }
  return cache;
}

// What a page of one head has for a key and a value at a position.
struct Stored {
  std::vector<float> exact;  // code times scale
  std::vector<Bf16> bf16;
};

Stored stored(const KvLayer& kv, const std::byte* base, std::int64_t position, bool key) {
  Stored out;
  const std::int64_t lane = position % kKeyGroup;
  const std::byte* group =
      base + (position - lane) * kv_vector_bytes(kv.format, kv.dtype, kv.head_dim);
  for (std::int64_t d = 0; d < kv.head_dim; ++d) {
    const auto code =
        static_cast<std::int8_t>(group[key ? key_code_at(lane, d) : value_code_at(kv, lane, d)]);
    const float scale = kv_scale_at(kv, group, lane, d);
    out.exact.push_back(static_cast<float>(code) * scale);
    out.bf16.push_back(kv_decoded(code, scale));
  }
  return out;
}

TEST(KvCodes, Sizes) {
  constexpr ComputeDType kBf16 = ComputeDType::kBf16;
  EXPECT_EQ(kv_vector_bytes(KvFormat::kCompute, kBf16, 128), 256);
  EXPECT_EQ(kv_vector_bytes(KvFormat::kCompute, ComputeDType::kF32, 128), 512);
  EXPECT_EQ(kv_vector_bytes(KvFormat::kInt8, kBf16, 128), 128 + 8);
  EXPECT_EQ(kv_vector_bytes(KvFormat::kBfp8, kBf16, 128), 128 + 8);
  EXPECT_EQ(kv_vector_bytes(KvFormat::kInt8, kBf16, 80), 80 + 6);
  EXPECT_EQ(kv_vector_bytes(KvFormat::kBfp8, kBf16, 80), 80 + 5);
}

TEST(KvCodes, Bfp8IsTenstorrents) {
  std::ifstream file(TG_SOURCE_DIR "/tests/golden/blockfloat.json");
  const auto rows = nlohmann::json::parse(file)["rows"];
  ASSERT_GE(rows.size(), 30U);
  const auto bits = [](const nlohmann::json& hex) {
    return static_cast<std::uint32_t>(std::stoul(hex.get<std::string>(), nullptr, 16));
  };
  for (const auto& [label, row] : rows.items()) {
    std::vector<float> input;
    for (const auto& hex : row["input_f32_bits"]) input.push_back(std::bit_cast<float>(bits(hex)));
    const Shape s{16, 16, 16, 1, ComputeDType::kBf16, 1, KvFormat::kBfp8};
    const Cache cache(*choose_kernels("reference").value(), s);
    store_kv_codes(cache.layer, 0, 0, 5, input.data(), input.data());
    for (const bool key : {true, false}) {
      const Stored out = stored(cache.layer, key ? cache.layer.keys : cache.layer.values, 5, key);
      for (std::size_t i = 0; i < 16; ++i) {
        const std::uint32_t expected = bits(row["bfp8_b"]["decoded_f32_bits"][i]);
        EXPECT_EQ(std::bit_cast<std::uint32_t>(out.exact[i]), expected) << label << " " << i;
        // Nothing is left to round, not even of subnormals.
        EXPECT_EQ(std::uint32_t{out.bf16[i].bits} << 16, expected) << label << " " << i;
      }
    }
  }
}

TEST(KvCodes, StandForWhatTheDefinitionsSay) {
  for (const KvFormat format : kCodes) {
    for (const std::int64_t head_dim : {2, 16, 30, 64, 80, 256}) {
      const Shape s{64, 32, head_dim, 1, ComputeDType::kBf16, 2, format};
      Cache cache(*choose_kernels("reference").value(), s);
      Numbers numbers(3);
      for (std::int64_t p = 0; p < s.context; ++p) {
        // From subnormal to infinite, and in some vectors the neighbours of the largest are small.
        std::vector<float> x = numbers.floats(head_dim);
        for (float& v : x) {
          v = std::ldexp(v, static_cast<int>(p * 4 - 126) +
                                static_cast<int>(numbers.below(p % 3 == 0 ? 12 : 2)));
        }
        if (p == 9) x[1] = std::numeric_limits<float>::infinity();
        if (p == 8) std::fill(x.begin(), x.end(), -0.0F);
        const PageId page = cache.pages[static_cast<std::size_t>(p / s.block)];
        store_kv_codes(cache.layer, page, 1, p % s.block, x.data(), x.data());
        const std::vector<float> expected = decoded(format, head_dim, x);
        for (const bool key : {true, false}) {
          const std::byte* base = (key ? cache.layer.keys : cache.layer.values) +
                                  page * cache.layer.page_stride + cache.layer.head_stride;
          const Stored out = stored(cache.layer, base, p % s.block, key);
          for (std::size_t d = 0; d < x.size(); ++d) {
            const float value = to_float(out.bf16[d]);
            if (std::isnan(expected[d])) {
              EXPECT_TRUE(std::isnan(value)) << p << " " << d;
            } else {
              EXPECT_EQ(value, expected[d])
                  << name(format, s.dtype) << " " << head_dim << ": " << x[d] << " at " << p;
            }
          }
        }
      }
    }
  }
}

// How far a value may be from what was stored, in parts of the largest that shares its scale.
TEST(KvCodes, AreNear) {
  Numbers numbers(4);
  for (const KvFormat format : kCodes) {
    const std::int64_t shared = kv_values_per_scale(format);
    for (int i = 0; i < 100; ++i) {
      const std::vector<float> x = numbers.floats(shared, 3.0F);
      const std::vector<float> y = decoded(format, shared, x);
      float largest = 0.0F;
      for (const float v : x) largest = std::max(largest, std::abs(v));
      for (std::size_t d = 0; d < x.size(); ++d) {
        // Half a code; int8's then lose half a place of bf16, and bfp8's largest saturate.
        const float code = format == KvFormat::kInt8 ? largest / 126.5F : largest / 64.0F;
        EXPECT_LE(std::abs(x[d] - y[d]), 0.5001F * code + std::abs(x[d]) * 0x1p-8F);
      }
    }
  }
}

class KvCodesAttention : public EachTable {};

TEST_P(KvCodesAttention, IsThatOfABf16CacheWithTheirValues) {
  for (const KvFormat format : kCodes) {
    for (const std::int64_t head_dim : {2, 8, 16, 30, 64, 80, 96, 128, 256}) {
      for (const std::int64_t group : {1, 4, 7}) {
        // The plain loops are slow, and know of no groups or tails.
        if (kernels().name == "reference" && (group != 4 || head_dim > 64)) continue;
        const Shape s{150, 32, head_dim, group, ComputeDType::kBf16, 2, format};
        const Cache cache(kernels(), s, 5);
        const std::vector<float> q = queries(s);
        ASSERT_TRUE(same_bits(
            attend(kernels(), cache, q, 0, s.context, 32),
            attend(kernels(), decoded_cache(kernels(), cache), q, 0, s.context, s.context)))
            << name(format, s.dtype) << " head_dim " << head_dim << " group " << group;
      }
    }
  }
}

// Alone and in company, in any pages, the context in parts.
TEST_P(KvCodesAttention, NothingElseShows) {
  for (const KvFormat format : kCodes) {
    const Shape s{2 * kAttentionSpan + 70, 32, 64, 3, ComputeDType::kBf16, 2, format};
    const std::vector<float> q = queries(s);
    const std::int64_t rows = 20;
    const std::int64_t first = s.context - rows;
    const OutputRow expected =
        attend(kernels(), decoded_cache(kernels(), Cache(kernels(), s)), q, first, rows, rows);
    for (const std::int64_t block : {16, 48, 64, 512}) {
      if (kernels().name == "reference" && block != 48) continue;
      Shape other = s;
      other.block = block;
      const Cache cache(kernels(), other, static_cast<std::uint64_t>(block));
      for (const std::int64_t chunk : {1, 7, 20}) {
        ASSERT_TRUE(same_bits(expected, attend(kernels(), cache, q, first, rows, chunk)))
            << name(format, s.dtype) << " block " << block << " chunk " << chunk;
      }
      for (const std::int64_t part : {1, 2}) {
        ASSERT_TRUE(same_bits(expected, attend_in_parts(kernels(), cache, q, first, rows, part)))
            << name(format, s.dtype) << " block " << block << " parts of " << part;
      }
    }
  }
}

// One position is its own answer: values of every size, which are every scale there is.
TEST_P(KvCodesAttention, EveryScale) {
  for (const KvFormat format : kCodes) {
    const Shape s{1, 16, 64, 1, ComputeDType::kBf16, 2, format};
    Cache cache(kernels(), s);
    for (int exponent = -130; exponent <= 128; ++exponent) {
      Numbers numbers(static_cast<std::uint64_t>(exponent + 200));
      cache.values = numbers.floats(s.kv_heads * s.head_dim);
      for (float& v : cache.values) v = std::ldexp(v, exponent);
      for (std::int64_t h = 0; h < s.kv_heads; ++h) {
        kernels().store_kv(cache.layer, cache.pages[0], h, 0, cache.keys.data() + h * s.head_dim,
                           cache.values.data() + h * s.head_dim);
      }
      const std::vector<float> q = queries(s);
      ASSERT_TRUE(same_bits(attend(kernels(), cache, q, 0, 1, 1),
                            attend(kernels(), decoded_cache(kernels(), cache), q, 0, 1, 1)))
          << name(format, s.dtype) << " 2^" << exponent;
    }
  }
}

// What is not finite is seen by the rows from it on, and by no earlier row of the same call.
TEST_P(KvCodesAttention, NanReachesOnlyRowsThatSeeIt) {
  for (const KvFormat format : kCodes) {
    const Shape s{90, 16, 64, 2, ComputeDType::kBf16, 1, format};
    const Cache cache(kernels(), s);
    const std::vector<float> q = queries(s);
    const OutputRow clean = attend(kernels(), cache, q, 0, s.context, s.context, 0);
    const std::int64_t bad = 70;
    std::vector<float> value(static_cast<std::size_t>(s.head_dim),
                             std::numeric_limits<float>::infinity());
    value[3] = std::numeric_limits<float>::quiet_NaN();
    kernels().store_kv(cache.layer, cache.pages[bad / 16], 0, bad % 16,
                       cache.keys.data() + bad * s.head_dim, value.data());
    const OutputRow out = attend(kernels(), cache, q, 0, s.context, s.context, 0);
    const std::int64_t width = s.group * s.head_dim;
    for (std::int64_t i = 0; i < s.context * width; ++i) {
      if (i / width < bad) {
        ASSERT_EQ(out[i], clean[i]) << "row " << i / width;
      } else {
        ASSERT_FALSE(std::isfinite(out[i])) << "row " << i / width;
      }
    }
  }
}

TG_FOR_EACH_TABLE(KvCodesAttention);

}  // namespace
}  // namespace tg
