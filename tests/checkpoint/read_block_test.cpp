// Rectangles of tensors: what read_block gives is what whole rows have there, in every format.
#include <random>

#include "base/bf16.h"
#include "checkpoint/known_shapes.h"
#include "checkpoint/random_source.h"
#include "test_files.h"

namespace tg {
namespace {

// Every cut in two of the columns, single values, and random rectangles.
void expect_blocks_of(const TensorSource& source, const TensorInfo& info) {
  const std::int64_t rows = info.rows();
  const std::int64_t columns = info.columns();
  const std::vector<float> whole = test::read_all(source, info, rows);
  std::mt19937 random(7);
  const auto pick = [&](std::int64_t below) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(below));
  };
  for (int i = 0; i < 60; ++i) {
    const std::int64_t row = pick(rows);
    const std::int64_t column = i % 4 == 0 ? columns - 1 : pick(columns);
    const std::int64_t row_count = i % 3 == 0 ? 1 : 1 + pick(rows - row);
    const std::int64_t column_count = i % 5 == 0 ? 1 : 1 + pick(columns - column);
    std::vector<float> block(static_cast<std::size_t>(row_count * column_count));
    const Status status = source.read_block(info, row, row_count, column, column_count, block);
    ASSERT_TRUE(status) << status.error().text();
    for (std::int64_t r = 0; r < row_count; ++r) {
      for (std::int64_t c = 0; c < column_count; ++c) {
        ASSERT_EQ(block[static_cast<std::size_t>(r * column_count + c)],
                  whole[static_cast<std::size_t>((row + r) * columns + column + c)])
            << info.name << " row " << row + r << " column " << column + c;
      }
    }
  }
}

void expect_refusals(const TensorSource& source, const TensorInfo& info) {
  std::vector<float> out(4);
  const std::int64_t columns = info.columns();
  for (const auto& [first, count] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {columns, 4}, {-1, 4}, {0, -4}, {columns - 3, 4}, {0, 3}, {INT64_MAX, 4}}) {
    EXPECT_EQ(source.read_block(info, 0, 1, first, count, out).error().code,
              ErrorCode::kBadArgument)
        << first << " " << count;
  }
  EXPECT_TRUE(source.read_block(info, 0, 1, columns - 4, 4, out));
  EXPECT_TRUE(source.read_block(info, 0, 1, columns, 0, {}));
}

class ReadBlock : public testing::TestWithParam<std::string> {};

TEST_P(ReadBlock, IsWhatTheRowsHaveThere) {
  const auto source = test::open_or_fail(std::string(TG_BINARY_DIR) + "/tiny/" + GetParam());
  ASSERT_NE(source, nullptr);
  for (const char* name :
       {"tok_embeddings.weight", "layers.1.attention.wq.weight", "layers.0.attention.wk.weight",
        "layers.3.attention.wo.weight", "layers.2.feed_forward.w2.weight", "norm.weight"}) {
    expect_blocks_of(*source, *source->find(name));
  }
  expect_refusals(*source, *source->find("layers.3.attention.wo.weight"));
}

INSTANTIATE_TEST_SUITE_P(Forms, ReadBlock, testing::Values("meta_mp8", "repacked", "hf"),
                         [](const auto& form) { return form.param; });

TEST(ReadBlock, OfQuantisedGguf) {
  const std::string path = std::string(TG_SOURCE_DIR) + "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no real model here";
  const auto source = test::open_or_fail(path);
  ASSERT_NE(source, nullptr);
  for (const char* name : {"layers.0.attention.wk.weight", "layers.7.feed_forward.w2.weight"}) {
    expect_blocks_of(*source, *source->find(name));
  }
  expect_refusals(*source, *source->find("layers.0.attention.wk.weight"));
}

TEST(RandomSource, AnyCutGivesTheSame) {
  const auto source = open_random(*known_shape("tiny"), 42);
  ASSERT_TRUE(source);
  for (const TensorInfo& info : (*source)->tensors()) {
    if (info.name.starts_with("layers.1") || info.name.starts_with("tok")) {
      expect_blocks_of(**source, info);
    }
  }
  expect_refusals(**source, *(*source)->find("output.weight"));
  TensorInfo other = (*source)->tensors()[0];
  other.name = "layers.4.attention.wq.weight";
  EXPECT_EQ((*source)->read_rows(other, 0, 0, {}).error().code, ErrorCode::kNotFound);
}

TEST(RandomSource, HasTheSpreadItPromises) {
  ModelConfig config = *known_shape("tiny");
  config.layers = 8;
  const auto source = open_random(config, 1);
  const auto spread = [&](const char* name) {
    double sum = 0;
    double squares = 0;
    const std::vector<float> values = test::read_all(**source, *(*source)->find(name), 64);
    for (const float x : values) {
      EXPECT_EQ(to_float(to_bf16(x)), x);
      sum += x;
      squares += static_cast<double>(x) * x;
    }
    const auto n = static_cast<double>(values.size());
    return std::pair(sum / n, std::sqrt(squares / n - sum * sum / n / n));
  };
  EXPECT_NEAR(spread("tok_embeddings.weight").first, 0.0, 0.01);
  EXPECT_NEAR(spread("tok_embeddings.weight").second, 1.0, 0.01);
  EXPECT_NEAR(spread("layers.0.attention.wq.weight").second, 1.0 / 16.0, 0.001);
  EXPECT_NEAR(spread("layers.7.attention.wo.weight").second, 1.0 / 64.0, 0.0003);
  EXPECT_NEAR(spread("norm.weight").first, 1.0, 0.01);
}

// Literal values: another machine or a later version must make the same model of a seed.
TEST(RandomSource, SeedsAndNamesGiveTheirOwnValues) {
  const auto first_of = [](std::uint64_t seed, const char* name) {
    const auto source = open_random(*known_shape("llama3.3-70b"), seed);
    std::vector<float> value(3);
    EXPECT_TRUE((*source)->read_block(*(*source)->find(name), 8191, 1, 8189, 3, value));
    return value;
  };
  const char* wq = "layers.79.attention.wq.weight";
  EXPECT_EQ(first_of(0, wq), first_of(0, wq));
  EXPECT_NE(first_of(0, wq), first_of(1, wq));
  EXPECT_NE(first_of(0, wq), first_of(0, "layers.78.attention.wq.weight"));
  EXPECT_EQ(first_of(42, wq),
            (std::vector<float>{-0.000640869140625F, -0.017822265625F, 0.01708984375F}));
}

TEST(KnownShapes, AreThePublishedOnes) {
  EXPECT_EQ(known_shape("llama3.3-70b")->parameters(), 70553706496);
  EXPECT_EQ(known_shape("llama3.1-8b")->parameters(), 8030261248);
  EXPECT_EQ(known_shape("llama3.2-1b")->parameters(), 1235814400);
  EXPECT_EQ(known_shape("llama3.2-3b")->parameters(), 3212749824);
  EXPECT_EQ(known_shape("smollm2-135m")->parameters(), 134515008);
  EXPECT_EQ(known_shape("llama4").error().text().substr(0, 45),
            "'llama4' is no known shape; known are llama3.");
  ModelConfig none = *known_shape("tiny");
  none.layers = 0;
  EXPECT_FALSE(open_random(none, 1));
}

}  // namespace
}  // namespace tg
