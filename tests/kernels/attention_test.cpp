#include "attention_cases.h"
#include "base/thread_team.h"

namespace tg {
namespace {

class Attention : public EachTable {};

const ComputeDType kBoth[] = {ComputeDType::kBf16, ComputeDType::kF32};

TEST_P(Attention, AgreesWithDoublePrecision) {
  for (const ComputeDType dtype : kBoth) {
    for (const std::int64_t head_dim : {2, 8, 16, 30, 64, 80, 128, 256}) {
      for (const std::int64_t group : {1, 3, 4, 7, 8}) {
        const Shape s{150, 32, head_dim, group, dtype};
        const Cache cache(kernels(), s, 5);
        const std::vector<float> q = queries(s);
        const OutputRow out = attend(kernels(), cache, q, 0, s.context, s.context);
        for (const std::int64_t p : {0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 149}) {
          for (std::int64_t g = 0; g < group; ++g) {
            const std::vector<double> expected = truth(cache, q, p, g);
            for (std::int64_t d = 0; d < head_dim; ++d) {
              const double e = expected[static_cast<std::size_t>(d)];
              ASSERT_NEAR(out[(p * group + g) * head_dim + d], e,
                          rounding(dtype) * std::abs(e) + 4e-6)
                  << "head_dim " << head_dim << " group " << group << " position " << p;
            }
          }
        }
      }
    }
  }
}

TEST_P(Attention, ARowDoesNotShowItsCompany) {
  for (const ComputeDType dtype : kBoth) {
    for (const Shape& s : {Shape{333, 16, 64, 3, dtype}, Shape{200, 64, 16, 1, dtype},
                           Shape{200, 32, 128, 8, dtype}, Shape{130, 16, 8, 30, dtype},
                           Shape{700, 16, 96, 4, dtype}, Shape{130, 16, 32, 40, dtype}}) {
      const Cache cache(kernels(), s);
      const std::vector<float> q = queries(s);
      const OutputRow whole = attend(kernels(), cache, q, 0, s.context, s.context);
      for (const std::int64_t chunk : {1, 2, 5, 16, 17, 64, 128}) {
        ASSERT_TRUE(same_bits(whole, attend(kernels(), cache, q, 0, s.context, chunk)))
            << "chunks of " << chunk << ", group " << s.group << ", head_dim " << s.head_dim;
      }
    }
  }
}

// One query head of a group computed as a group of its own.
TEST_P(Attention, AHeadDoesNotShowItsGroup) {
  for (const ComputeDType dtype : kBoth) {
    const Shape s{100, 16, 64, 7, dtype};
    const Shape single{100, 16, 64, 1, dtype};
    const Cache cache(kernels(), s);
    const Cache cache_single(kernels(), single);
    const std::vector<float> q = queries(s);
    const OutputRow whole = attend(kernels(), cache, q, 0, s.context, 20);
    for (std::int64_t g = 0; g < s.group; ++g) {
      std::vector<float> mine;
      for (std::int64_t p = 0; p < s.context; ++p) {
        const auto at = q.begin() + (p * s.group + g) * s.head_dim;
        mine.insert(mine.end(), at, at + s.head_dim);
      }
      const OutputRow out = attend(kernels(), cache_single, mine, 0, s.context, 9);
      for (std::int64_t p = 0; p < s.context; ++p) {
        for (std::int64_t d = 0; d < s.head_dim; ++d) {
          ASSERT_EQ(out[p * s.head_dim + d], whole[(p * s.group + g) * s.head_dim + d]);
        }
      }
    }
  }
}

TEST_P(Attention, PagesDoNotShow) {
  for (const ComputeDType dtype : kBoth) {
    const Shape s{300, 16, 64, 4, dtype};
    const std::vector<float> q = queries(s);
    const OutputRow expected = attend(kernels(), Cache(kernels(), s), q, 0, s.context, 31);
    for (const std::int64_t block : {16, 32, 48, 64, 128, 512}) {
      for (const std::uint64_t order : {0U, 1U, 2U}) {
        Shape other = s;
        other.block = block;
        const Cache cache(kernels(), other, order);
        ASSERT_TRUE(same_bits(expected, attend(kernels(), cache, q, 0, s.context, 31)))
            << "block " << block << " order " << order;
      }
    }
  }
}

// The row at position p with the cache ending at p (the rest NaN), and with later positions stored.
TEST_P(Attention, LaterPositionsDoNotShow) {
  for (const ComputeDType dtype : kBoth) {
    for (const std::int64_t position : {0, 7, 15, 16, 30, 63, 64, 100, 127}) {
      const Shape s{192, 64, 64, 3, dtype, 1};
      Cache cache(kernels(), s, 3);
      const std::vector<float> q = queries(s);
      const OutputRow full = attend(kernels(), cache, q, position, 1, 1, 0);
      std::vector<float> nan(static_cast<std::size_t>(s.head_dim),
                             std::numeric_limits<float>::quiet_NaN());
      for (std::int64_t p = position + 1; p < s.context; ++p) {
        kernels().store_kv(cache.layer, cache.pages[static_cast<std::size_t>(p / s.block)], 0,
                           p % s.block, nan.data(), nan.data());
      }
      // Pages past the row's own are not even looked up.
      cache.pages.resize(static_cast<std::size_t>(position / s.block + 1));
      cache.pages.shrink_to_fit();
      ASSERT_TRUE(same_bits(full, attend(kernels(), cache, q, position, 1, 1, 0))) << position;
    }
  }
}

// A NaN stored at a position is seen by the rows from it on, and by no earlier row of the same
// call.
TEST_P(Attention, NanReachesOnlyRowsThatSeeIt) {
  for (const ComputeDType dtype : kBoth) {
    const Shape s{90, 16, 64, 2, dtype, 1};
    Cache cache(kernels(), s);
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
    // Keys of all kinds must at least come back.
    value.assign(value.size(), -std::numeric_limits<float>::infinity());
    kernels().store_kv(cache.layer, cache.pages[0], 0, 0, value.data(), value.data());
    attend(kernels(), cache, q, 0, s.context, s.context, 0);
  }
}

// Large scores, as trained models have on their first token: the weights must not overflow.
TEST_P(Attention, LargeScores) {
  for (const ComputeDType dtype : kBoth) {
    const Shape s{200, 16, 64, 2, dtype};
    const Cache cache(kernels(), s);
    std::vector<float> q = queries(s);
    for (float& v : q) v *= 100.0F;
    const OutputRow out = attend(kernels(), cache, q, 0, s.context, 50);
    for (const std::int64_t p : {0, 64, 199}) {
      const std::vector<double> expected = truth(cache, q, p, 1);
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        const double e = expected[static_cast<std::size_t>(d)];
        // Scores of some thousands in f32 have errors of 1e-4, and so have the weights.
        ASSERT_NEAR(out[(p * s.group + 1) * s.head_dim + d], e,
                    rounding(dtype) * std::abs(e) + 2e-3);
      }
    }
  }
}

TEST_P(Attention, LongContext) {
  const Shape s{20000, 64, 64, 2, ComputeDType::kBf16, 1};
  const Cache cache(kernels(), s, 9);
  const std::vector<float> q = queries(s);
  const std::int64_t first = s.context - 3;
  const OutputRow out = attend(kernels(), cache, q, first, 3, 3, 0);
  for (std::int64_t r = 0; r < 3; ++r) {
    const std::vector<double> expected = truth(cache, q, first + r, 0, 0);
    for (std::int64_t d = 0; d < s.head_dim; ++d) {
      const double e = expected[static_cast<std::size_t>(d)];
      ASSERT_NEAR(out[r * s.group * s.head_dim + d], e, kBf16Half * std::abs(e) + 4e-6);
    }
  }
}

// Rows around the ends of spans, alone, in company, and with their contexts in parts.
TEST_P(Attention, PartsOfAContextDoNotShow) {
  for (const ComputeDType dtype : kBoth) {
    for (const std::int64_t head_dim : {16, 64}) {
      const std::int64_t group = head_dim == 64 ? 3 : 1;
      const Shape s{3 * kAttentionSpan + 70, 32, head_dim, group, dtype};
      const Cache cache(kernels(), s, 4);
      const std::vector<float> q = queries(s);
      for (const std::int64_t end :
           {kAttentionSpan, kAttentionSpan + 1, 2 * kAttentionSpan + 7, 3 * kAttentionSpan + 70}) {
        for (const std::int64_t rows : {1, 20}) {
          const OutputRow whole = attend(kernels(), cache, q, end - rows, rows, rows);
          ASSERT_TRUE(same_bits(whole, attend(kernels(), cache, q, end - rows, rows, 1)));
          for (const std::int64_t part : {1, 2, 3, 4}) {
            ASSERT_TRUE(
                same_bits(whole, attend_in_parts(kernels(), cache, q, end - rows, rows, part)))
                << "parts of " << part << ", " << rows << " rows up to " << end;
          }
          for (std::int64_t g = 0; g < group; ++g) {
            const std::vector<double> expected = truth(cache, q, end - 1, g);
            for (std::int64_t d = 0; d < head_dim; ++d) {
              const double e = expected[static_cast<std::size_t>(d)];
              ASSERT_NEAR(whole[((rows - 1) * group + g) * head_dim + d], e,
                          rounding(dtype) * std::abs(e) + 4e-6);
            }
          }
        }
      }
    }
  }
}

TEST_P(Attention, ThreadsDoNotShow) {
  const Shape s{260, 16, 64, 3, ComputeDType::kBf16};
  const Cache cache(kernels(), s);
  const std::vector<float> q = queries(s);
  const OutputRow expected = attend(kernels(), cache, q, 0, s.context, s.context);
  const std::int64_t width = s.group * s.head_dim;
  for (const int threads : {2, 3}) {
    ThreadTeam team(threads);
    OutputRow out(s.dtype, s.context * width);
    team.for_pieces(s.context, 7, [&](std::int64_t b, std::int64_t e) {
      const OutputRow piece = attend(kernels(), cache, q, b, e - b, e - b);
      std::copy(piece.bf16.begin(), piece.bf16.end(), out.bf16.begin() + b * width);
    });
    ASSERT_TRUE(same_bits(out, expected));
  }
}

TG_FOR_EACH_TABLE(Attention);

}  // namespace
}  // namespace tg
