// GGUF files that we write, read back by our reader: config, every value, alignment, errors.
#include "checkpoint/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "checkpoint/config_writers.h"
#include "checkpoint/dequantize.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_source.h"
#include "checkpoint/known_shapes.h"
#include "checkpoint/quantize.h"
#include "checkpoint/random_source.h"
#include "test_files.h"

namespace tg {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class GgufWriter : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // The file's bytes; empty when it was not written.
  std::string written(const TensorSource& source, DType dtype, const std::string& name,
                      int threads = 2) const {
    const auto plan = plan_gguf(source, dtype);
    EXPECT_TRUE(plan) << plan.error().text();
    if (!plan) return {};
    ThreadTeam team(threads);
    const Status status = write_gguf(source, *plan, team, path(name), {});
    EXPECT_TRUE(status) << status.error().text();
    EXPECT_EQ(fs::file_size(path(name)), plan->bytes);
    return test::read_file(path(name));
  }

  fs::path folder_ = fs::temp_directory_path() / ("tg_gguf_writer_" + std::to_string(::getpid()));
};

std::unique_ptr<TensorSource> random_tiny(const char* shape = "tiny", std::int64_t layers = 2) {
  auto config = known_shape(shape);
  EXPECT_TRUE(config);
  config->layers = layers;
  config->name = "a name";
  auto source = open_random(*config, 7);
  EXPECT_TRUE(source);
  return std::move(*source);
}

TEST_F(GgufWriter, ConfigAndValuesComeBack) {
  const auto source = random_tiny();
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kQ8_0, DType::kQ4_0}) {
    const std::string file = fmt::format("{}.gguf", name(dtype));
    ASSERT_FALSE(written(*source, dtype, file).empty());
    auto opened = open_gguf(path(file));
    ASSERT_TRUE(opened) << opened.error().text();
    ModelConfig expected = source->config();
    // GGUF has these two as f32.
    expected.norm_eps = static_cast<double>(static_cast<float>(expected.norm_eps));
    expected.rope_theta = static_cast<double>(static_cast<float>(expected.rope_theta));
    EXPECT_EQ(config_difference((*opened)->config(), expected), "");
    EXPECT_EQ((*opened)->config().name, "a name");
    EXPECT_FALSE((*opened)->config().tied_embeddings);
    ASSERT_EQ((*opened)->tensors().size(), source->tensors().size());
    for (const TensorInfo& info : source->tensors()) {
      const TensorInfo* stored = (*opened)->find(info.name);
      ASSERT_NE(stored, nullptr) << info.name;
      EXPECT_EQ(stored->dtype, info.shape.size() == 2 ? dtype : DType::kF32) << info.name;
      std::vector<float> want(static_cast<std::size_t>(info.rows() * info.columns()));
      ASSERT_TRUE(source->read_rows(info, 0, info.rows(), want));
      if (info.shape.size() == 2) {
        const BlockSize block = block_size(dtype);
        std::vector<std::byte> blocks(want.size() / static_cast<std::size_t>(block.values) *
                                      static_cast<std::size_t>(block.bytes));
        quantize(dtype, want, blocks);
        dequantize(dtype, blocks, want);
      }
      std::vector<float> got(want.size());
      ASSERT_TRUE((*opened)->read_rows(*stored, 0, info.rows(), got));
      EXPECT_EQ(got, want) << info.name;
    }
  }
}

TEST_F(GgufWriter, TheBytesDoNotDependOnTheTeam) {
  const auto source = random_tiny("smollm2-135m", 1);
  const std::string one = written(*source, DType::kQ4_0, "one", 1);
  const std::string three = written(*source, DType::kQ4_0, "three", 3);
  EXPECT_TRUE(one == three);
}

TEST_F(GgufWriter, TiedHeadPlainRopeAndStopIds) {
  const auto source = random_tiny("smollm2-135m", 1);
  written(*source, DType::kQ8_0, "m");
  auto opened = open_gguf(path("m"));
  ASSERT_TRUE(opened) << opened.error().text();
  EXPECT_TRUE((*opened)->config().tied_embeddings);
  EXPECT_EQ((*opened)->config().rope_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_EQ((*opened)->config().bos_id, std::nullopt);
  EXPECT_TRUE((*opened)->config().stop_ids.empty());

  ModelConfig config = source->config();
  config.bos_id = 3;
  config.stop_ids = {4, 5, 6};
  config.rope_scaling.kind = RopeScaling::Kind::kLinear;
  config.rope_scaling.factor = 4;
  auto other = open_random(config, 1);
  ASSERT_TRUE(other);
  written(**other, DType::kQ8_0, "m");
  opened = open_gguf(path("m"));
  ASSERT_TRUE(opened) << opened.error().text();
  EXPECT_EQ((*opened)->config().bos_id, 3);
  EXPECT_THAT((*opened)->config().stop_ids, testing::UnorderedElementsAre(4, 5, 6));
  EXPECT_EQ((*opened)->config().rope_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ((*opened)->config().rope_scaling.factor, 4);
  // No tokenizer, which is no damage.
  EXPECT_EQ(read_gguf_tokenizer(path("m")).error().code, ErrorCode::kNotFound);
}

TEST_F(GgufWriter, RopeDivisorsAreThoseOfTheRule) {
  const auto source = random_tiny("llama3.2-1b", 1);
  const std::vector<float> divisors = rope_divisors(source->config());
  ASSERT_EQ(divisors.size(), 32U);
  EXPECT_EQ(divisors.front(), 1.0F);  // the shortest wave stays
  EXPECT_EQ(divisors.back(), 32.0F);  // the longest is stretched by all of the factor
  // Pair 16: wavelength 2 pi 500000^0.5 = 4442.9, between 8192 / 4 and 8192; by hand
  // (8192 / 4442.9 - 1) / 3 = 0.28127 and 1 / (0.71873 / 32 + 0.28127) = 3.2924.
  EXPECT_NEAR(divisors[16], 3.2924, 1e-3);
  EXPECT_TRUE(rope_divisors(random_tiny("smollm2-135m", 1)->config()).empty());
}

TEST_F(GgufWriter, TensorsLieAtMultiplesOf32) {
  const auto source = random_tiny();
  const std::string bytes = written(*source, DType::kQ4_0, "m");
  EXPECT_EQ(bytes.size() % 32, 0U);
  const auto file = GgufFile::parse(test::as_bytes(bytes));
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->tensors().size(), source->tensors().size() + 1);  // rope_freqs.weight
  for (const GgufTensor& tensor : file->tensors()) EXPECT_EQ(tensor.offset % 32, 0U);
}

TEST_F(GgufWriter, RefusedByName) {
  const auto source = random_tiny();
  const auto q5 = plan_gguf(*source, DType::kQ5K);
  ASSERT_FALSE(q5);
  EXPECT_THAT(q5.error().text(), HasSubstr("Q5_K"));
  const auto rest = plan_gguf(*source, DType::kQ4K);  // its w2 has rows of 352
  ASSERT_FALSE(rest);
  EXPECT_THAT(rest.error().text(), HasSubstr("Q4_K needs multiples of 256"));

  ModelConfig config = source->config();
  config.ffn_dim = 340;  // rows of w2: not a multiple of 32
  auto odd = open_random(config, 1);
  ASSERT_TRUE(odd);
  const auto plan = plan_gguf(**odd, DType::kQ8_0);
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().text(), HasSubstr("340"));
  EXPECT_TRUE(plan_gguf(**odd, DType::kBf16));

  config = source->config();
  config.stop_ids = {1, 2, 3, 4};
  auto many = open_random(config, 1);
  ASSERT_TRUE(many);
  EXPECT_THAT(plan_gguf(**many, DType::kBf16).error().text(), HasSubstr("not for 4"));
}

TEST_F(GgufWriter, StoppedLeavesNothing) {
  const auto source = random_tiny();
  const auto plan = plan_gguf(*source, DType::kBf16);
  ASSERT_TRUE(plan);
  ThreadTeam team(1);
  RepackHooks hooks;
  std::int64_t shown = 0;
  hooks.stopped = [&shown] { return shown > 3; };
  hooks.progress = [&shown](auto, auto) { ++shown; };
  const Status status = write_gguf(*source, *plan, team, path("m"), hooks);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().text(), HasSubstr("stopped after"));
  EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace tg
