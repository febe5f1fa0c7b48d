// The oracle's tiny model in its four stored forms: one model, so the same bits everywhere.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/mapped_file.h"
#include "checkpoint/safetensors_file.h"
#include "test_files.h"

namespace tg {
namespace {

const std::string kTinyForms = TG_BINARY_DIR "/tiny/";

class TinyForm : public testing::TestWithParam<const char*> {};

TEST_P(TinyForm, ConfigIsTheModels) {
  const auto source = test::open_or_fail(kTinyForms + GetParam());
  ASSERT_NE(source, nullptr);
  const ModelConfig& config = source->config();
  EXPECT_EQ(config.dim, 256);
  EXPECT_EQ(config.layers, 4);
  EXPECT_EQ(config.heads, 16);
  EXPECT_EQ(config.kv_heads, 8);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.ffn_dim, 352);
  EXPECT_EQ(config.vocab, 1024);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(config.rope_theta, 500000.0);
  EXPECT_EQ(config.rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(config.rope_scaling.factor, 8.0);
  EXPECT_EQ(config.rope_scaling.low_frequency_factor, 1.0);
  EXPECT_EQ(config.rope_scaling.high_frequency_factor, 4.0);
  EXPECT_EQ(config.rope_scaling.original_context, 8192);
  EXPECT_EQ(config.max_context, 131072);
  EXPECT_FALSE(config.tied_embeddings);
}

TEST_P(TinyForm, TensorsAreBitIdenticalToTheSingleFile) {
  const auto reference = test::open_or_fail(kTinyForms + "meta");
  const auto source = test::open_or_fail(kTinyForms + GetParam());
  ASSERT_NE(source, nullptr);
  ASSERT_EQ(source->tensors().size(), 39U);
  test::expect_same_tensors(*reference, *source);
  for (const TensorInfo& info : source->tensors()) EXPECT_EQ(info.dtype, DType::kBf16);
}

// The golden hidden states start with the embedding rows of the prompt.
TEST_P(TinyForm, EmbeddingRowsAreTheGoldens) {
  const auto source = test::open_or_fail(kTinyForms + GetParam());
  ASSERT_NE(source, nullptr);
  const TensorInfo* embedding = source->find("tok_embeddings.weight");
  ASSERT_NE(embedding, nullptr);
  std::ifstream in(TG_SOURCE_DIR "/tests/golden/model_tiny.json");
  const auto golden = nlohmann::json::parse(in);
  const std::vector<int> ids = golden.at("prompts").at("33").at("ids").get<std::vector<int>>();
  ASSERT_EQ(ids.size(), 33U);
  const auto file = MappedFile::open(TG_SOURCE_DIR "/tests/golden/model_tiny.safetensors");
  ASSERT_TRUE(file);
  const auto entries = parse_safetensors(file->bytes());
  ASSERT_TRUE(entries);
  const auto hidden = std::find_if(entries->begin(), entries->end(),
                                   [](const auto& e) { return e.name == "hidden33.f32"; });
  ASSERT_NE(hidden, entries->end());
  ASSERT_EQ(hidden->shape, (std::vector<std::int64_t>{6, 33, 256}));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    std::vector<float> row(256);
    ASSERT_TRUE(source->read_rows(*embedding, ids[i], 1, row));
    EXPECT_EQ(std::memcmp(row.data(), file->bytes().data() + hidden->offset + i * 1024, 1024), 0)
        << "token " << i;
  }
}

TEST_P(TinyForm, ReleasedTensorsReadAgain) {
  const auto source = test::open_or_fail(kTinyForms + GetParam());
  ASSERT_NE(source, nullptr);
  for (const char* name : {"layers.1.feed_forward.w2.weight", "layers.2.attention.wk.weight"}) {
    const TensorInfo* info = source->find(name);
    ASSERT_NE(info, nullptr);
    const std::vector<float> before = test::read_all(*source, *info);
    source->release(*info);
    EXPECT_EQ(test::read_all(*source, *info), before);
  }
}

TEST_P(TinyForm, TwoThreadsReadAtOnce) {
  const auto source = test::open_or_fail(kTinyForms + GetParam());
  ASSERT_NE(source, nullptr);
  const TensorInfo* info = source->find("layers.0.attention.wo.weight");
  ASSERT_NE(info, nullptr);
  std::vector<float> first, second;
  std::thread one([&] { first = test::read_all(*source, *info, 1); });
  std::thread two([&] { second = test::read_all(*source, *info, 3); });
  one.join();
  two.join();
  EXPECT_EQ(first, second);
}

TEST_P(TinyForm, WrongReadsAreErrorsWithNumbers) {
  const auto source = test::open_or_fail(kTinyForms + GetParam());
  ASSERT_NE(source, nullptr);
  const TensorInfo* info = source->find("layers.0.attention.wq.weight");
  ASSERT_NE(info, nullptr);
  std::vector<float> out(256);
  EXPECT_TRUE(source->read_rows(*info, 255, 1, out));
  for (const auto& [first, count] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {256, 1}, {-1, 1}, {0, -1}, {0, 2}, {INT64_MAX, 1}, {1, INT64_MAX}}) {
    const Status status = source->read_rows(*info, first, count, out);
    ASSERT_FALSE(status) << first << " " << count;
    EXPECT_EQ(status.error().code, ErrorCode::kBadArgument);
    EXPECT_NE(status.error().text().find("256"), std::string::npos);
  }
  EXPECT_TRUE(source->read_rows(*info, 256, 0, {}));
  TensorInfo other = *info;
  other.name = "layers.9.attention.wq.weight";
  EXPECT_EQ(source->read_rows(other, 0, 1, out).error().code, ErrorCode::kNotFound);
}

INSTANTIATE_TEST_SUITE_P(Forms, TinyForm, testing::Values("meta", "meta_mp8", "repacked", "hf"),
                         [](const auto& form) { return std::string(form.param); });

TEST(TinyForms, FormatsAndIds) {
  EXPECT_EQ(test::open_or_fail(kTinyForms + "meta")->config().format, "meta");
  EXPECT_EQ(test::open_or_fail(kTinyForms + "meta_mp8")->config().format, "meta");
  EXPECT_EQ(test::open_or_fail(kTinyForms + "repacked")->config().format, "repacked");
  const auto hf = test::open_or_fail(kTinyForms + "hf");
  EXPECT_EQ(hf->config().format, "huggingface");
  EXPECT_EQ(hf->config().bos_id, 768);
  EXPECT_EQ(hf->config().stop_ids, (std::vector<std::int32_t>{769, 776, 777}));
  EXPECT_TRUE(test::open_or_fail(kTinyForms + "meta_mp8")->config().stop_ids.empty());
}

TEST(TinyForms, VerifyPassesOnWholeFiles) {
  for (const char* form : {"meta", "meta_mp8", "repacked", "hf"}) {
    EXPECT_NE(test::open_or_fail(kTinyForms + form, {.verify = true}), nullptr);
  }
}

}  // namespace
}  // namespace tg
