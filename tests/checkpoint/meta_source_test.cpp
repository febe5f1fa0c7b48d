// Meta shards and repacked files, made here in good and bad forms.
#include "checkpoint/meta_source.h"

#include <gtest/gtest.h>

#include "test_files.h"

namespace tg {
namespace {

using test::TestTensor;

bool is_norm(const std::string& name) { return name.ends_with("norm.weight"); }
bool cut_by_columns(const std::string& name) {
  return name.ends_with("wo.weight") || name.ends_with("w2.weight");
}

// Shard `part` of `parts` of the small model, as Meta cuts it (Llama 2: embedding by columns).
std::vector<TestTensor> shard(std::size_t part, std::size_t parts, bool llama2 = false) {
  std::vector<TestTensor> out;
  for (const TestTensor& t : test::small_model()) {
    const bool columns = cut_by_columns(t.name) || (llama2 && t.name == "tok_embeddings.weight");
    out.push_back(is_norm(t.name) ? t : test::slice(t, columns ? 1 : 0, part, parts));
  }
  return out;
}

void write_shards(const test::TempDirectory& directory, std::size_t parts, bool llama2 = false) {
  directory.write("params.json", test::kSmallParams);
  for (std::size_t i = 0; i < parts; ++i) {
    directory.write("consolidated.0" + std::to_string(i) + ".pth",
                    test::pth_bytes(shard(i, parts, llama2)));
  }
}

// The tensors of layers [first, last]; those of no layer go with layer 0.
std::vector<TestTensor> layers(int first, int last) {
  std::vector<TestTensor> out;
  for (const TestTensor& t : test::small_model()) {
    const int layer = t.name.starts_with("layers.") ? t.name[7] - '0' : 0;
    if (layer >= first && layer <= last) out.push_back(t);
  }
  return out;
}

void expect_small_model(const std::string& path) {
  const auto source = test::open_or_fail(path);
  ASSERT_NE(source, nullptr);
  const std::vector<TestTensor> model = test::small_model();
  ASSERT_EQ(source->tensors().size(), model.size());
  for (std::size_t i = 0; i < model.size(); ++i) {
    EXPECT_EQ(source->tensors()[i].name, model[i].name);
    EXPECT_EQ(test::read_all(*source, source->tensors()[i], 3), model[i].values) << model[i].name;
  }
}

void expect_source_refused(const std::string& path, std::string_view part) {
  const std::string message = test::refusal(path);
  EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_NE(message.find(path), std::string::npos) << message;
}

TEST(MetaSource, JoinsOneOrTwoShards) {
  for (const std::size_t parts : {1U, 2U}) {
    const test::TempDirectory directory;
    write_shards(directory, parts);
    expect_small_model(directory.path());
  }
}

TEST(MetaSource, JoinsAnEmbeddingCutByColumns) {
  const test::TempDirectory directory;
  write_shards(directory, 2, /*llama2=*/true);
  expect_small_model(directory.path());
}

TEST(MetaSource, TakesTheVocabularyFromTheEmbedding) {
  for (const bool llama2 : {false, true}) {
    const test::TempDirectory directory;
    write_shards(directory, 2, llama2);
    std::string params(test::kSmallParams);
    params.replace(params.find("\"vocab_size\": 6"), 15, "\"vocab_size\": -1");
    directory.write("params.json", params);
    expect_small_model(directory.path());
    EXPECT_EQ(test::open_or_fail(directory.path())->config().vocab, 6);
  }
}

TEST(MetaSource, RefusesMissingShards) {
  const test::TempDirectory directory;
  write_shards(directory, 2);
  std::filesystem::remove(directory.path() + "/consolidated.00.pth");
  expect_source_refused(directory.path(), "consolidated.00.pth is missing");
  directory.write("consolidated.00.pth", test::pth_bytes(shard(0, 2)));
  std::filesystem::remove(directory.path() + "/consolidated.01.pth");
  expect_source_refused(directory.path(), "tensor \"tok_embeddings.weight\" has shape [3, 8]");
  directory.write("consolidated.1.pth", test::pth_bytes(shard(1, 2)));
  expect_small_model(directory.path());
  directory.write("consolidated.01.pth", test::pth_bytes(shard(1, 2)));
  expect_source_refused(directory.path(), "both shard 1");
}

TEST(MetaSource, RefusesShardsThatDisagree) {
  const test::TempDirectory directory;
  write_shards(directory, 2);
  std::vector<TestTensor> second = shard(1, 2);
  second[2].shape = {8, 4};
  directory.write("consolidated.01.pth", test::pth_bytes(second));
  expect_source_refused(directory.path(), "[4, 8] in one shard and F32 [8, 4] in another");
  second = shard(1, 2);
  second.erase(second.begin() + 2);
  directory.write("consolidated.01.pth", test::pth_bytes(second));
  expect_source_refused(directory.path(),
                        "\"layers.0.attention.wq.weight\" is in 1 files, not in 2");
}

TEST(MetaSource, RefusesMissingAndForeignTensors) {
  const test::TempDirectory directory;
  directory.write("params.json", test::kSmallParams);
  std::vector<TestTensor> model = test::small_model();
  model.push_back({"rope.freqs", {1}, {1}});
  directory.write("consolidated.00.pth", test::pth_bytes(model));
  expect_small_model(directory.path());
  model.push_back({"layers.2.attention.wq.weight", {1}, {1}});
  directory.write("consolidated.00.pth", test::pth_bytes(model));
  expect_source_refused(directory.path(),
                        "\"layers.2.attention.wq.weight\" is no part of a Llama model with 2");
  model.resize(model.size() - 3);
  directory.write("consolidated.00.pth", test::pth_bytes(model));
  expect_source_refused(directory.path(), "\"output.weight\" is missing");
}

TEST(MetaSource, NeedsParams) {
  const test::TempDirectory directory;
  directory.write("consolidated.00.pth", test::pth_bytes(test::small_model()));
  expect_source_refused(directory.path(), "/params.json: no such file");
  directory.write("params.json", "[]");
  expect_source_refused(directory.path(), "/params.json: not a JSON object");
}

TEST(MetaSource, RefusesBadPlacesInStorages) {
  const test::TempDirectory directory;
  directory.write("params.json", test::kSmallParams);
  test::PickleTensor good;
  good.name = "norm.weight";
  good.elements = 8;
  good.shape = {8};
  good.strides = {1};
  const auto write = [&](const test::PickleTensor& t, std::size_t bytes = 32) {
    directory.write("consolidated.00.pth",
                    test::zip_bytes({{"x/data.pkl", test::pickle_dict({t})},
                                     {"x/data/0", std::string(bytes, '\0')}}));
  };
  write(good);
  expect_source_refused(directory.path(), "\"tok_embeddings.weight\" is missing");
  write(good, 28);
  expect_source_refused(directory.path(),
                        "norm.weight: its storage of 32 bytes has a record of 28 bytes");
  test::PickleTensor t = good;
  t.offset = 1;
  write(t);
  expect_source_refused(directory.path(), "norm.weight: shape [8] from element 1 needs 36 bytes");
  t = good;
  t.key = "../../../etc/passwd";
  write(t);
  expect_source_refused(directory.path(), "passwd\", is missing");
  t = good;
  t.shape = {2, 4};
  t.strides = {1, 2};
  write(t);
  expect_source_refused(directory.path(),
                        "norm.weight: shape [2, 4] with strides [1, 2] is not contiguous");
}

TEST(RepackedSource, ReadsByNumberAndIgnoresShards) {
  const test::TempDirectory directory;
  directory.write("params.json", test::kSmallParams);
  directory.write("layers_1-1.pth", test::pth_bytes(layers(1, 1)));
  directory.write("layers_0-0.pth", test::pth_bytes(layers(0, 0)));
  directory.write("consolidated.00.pth", "not read");
  directory.write("layers_2-2.pth.tmp", "not read");
  expect_small_model(directory.path());
  EXPECT_EQ(test::open_or_fail(directory.path())->config().format, "repacked");
}

// As text "layers_10-11" comes before "layers_2-9".
TEST(RepackedSource, OrdersByNumber) {
  EXPECT_EQ(layer_range("layers_10-19.pth")->first, 10);
  EXPECT_EQ(layer_range("layers_10-19.pth")->last, 19);
  for (const char* name :
       {"layers_10.pth", "layers_-19.pth", "layers_1-.pth", "layers_1-2.pth.tmp", "xlayers_1-2.pth",
        "layers_1-99999999999999999999.pth", "layers_+1-2.pth", "layers_.pth", "layers_ 1-2.pth"}) {
    EXPECT_FALSE(layer_range(name)) << name;
  }
  EXPECT_EQ(shard_number("consolidated.07.pth"), 7);
  EXPECT_FALSE(shard_number("consolidated.pth"));
  EXPECT_FALSE(shard_number("consolidated..pth"));
  EXPECT_FALSE(shard_number("consolidated.x.pth"));
  const test::TempDirectory directory;
  std::string params(test::kSmallParams);
  params.replace(params.find("\"n_layers\": 2"), 13, "\"n_layers\": 12");
  directory.write("params.json", params);
  directory.write("layers_0-1.pth", test::pth_bytes(layers(0, 1)));
  directory.write("layers_2-9.pth", test::pth_bytes({}));
  directory.write("layers_10-11.pth", test::pth_bytes({}));
  expect_source_refused(directory.path(), "\"layers.2.attention_norm.weight\" is missing");
}

TEST(RepackedSource, RefusesGapsAndOverlaps) {
  const test::TempDirectory directory;
  directory.write("params.json", test::kSmallParams);
  directory.write("layers_1-1.pth", test::pth_bytes(layers(1, 1)));
  expect_source_refused(directory.path(), "\"layers_1-1.pth\" should start at layer 0");
  directory.write("layers_0-1.pth", test::pth_bytes(layers(0, 1)));
  expect_source_refused(directory.path(), "\"layers_1-1.pth\" should start at layer 2");
  std::filesystem::remove(directory.path() + "/layers_0-1.pth");
  std::filesystem::remove(directory.path() + "/layers_1-1.pth");
  directory.write("layers_0-0.pth", test::pth_bytes(layers(0, 0)));
  expect_source_refused(directory.path(), "layers 0 to 0, params.json says 2 layers");
  directory.write("layers_1-3.pth", test::pth_bytes(layers(1, 1)));
  expect_source_refused(directory.path(), "end before layer 2");
}

TEST(RepackedSource, RefusesATensorInTwoFiles) {
  const test::TempDirectory directory;
  directory.write("params.json", test::kSmallParams);
  directory.write("layers_0-0.pth", test::pth_bytes(layers(0, 1)));
  directory.write("layers_1-1.pth", test::pth_bytes(layers(1, 1)));
  expect_source_refused(directory.path(), "is in 2 files, not in 1");
}

}  // namespace
}  // namespace tg
