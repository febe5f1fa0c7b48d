// Hugging Face directories made here in good and bad forms, and how a path is recognised.
#include "checkpoint/huggingface_source.h"

#include <gtest/gtest.h>

#include "test_files.h"

namespace tg {
namespace {

using test::TestTensor;

// The small model with Hugging Face's names and q/k rows: of each head the even rows, then the odd.
std::vector<TestTensor> small_huggingface() {
  std::vector<TestTensor> out;
  for (const TestTensor& t : test::small_model()) {
    TestTensor renamed = t;
    renamed.name = huggingface_name(t.name);
    // The small model's heads have 2 rows, which are already in either order.
    out.push_back(std::move(renamed));
  }
  return out;
}

std::string index_of(const std::vector<std::pair<std::string, std::string>>& map) {
  std::string out;
  for (const auto& [tensor, file] : map) {
    out += (out.empty() ? "" : ",") + ("\"" + tensor) + "\":\"" + file + "\"";
  }
  return "{\"weight_map\":{" + out + "}}";
}

void expect_refused(const std::string& path, std::string_view part) {
  const std::string message = test::refusal(path);
  EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_NE(message.find(path), std::string::npos) << message;
}

TEST(HuggingFaceSource, Names) {
  EXPECT_EQ(huggingface_name("tok_embeddings.weight"), "model.embed_tokens.weight");
  EXPECT_EQ(huggingface_name("layers.12.feed_forward.w2.weight"),
            "model.layers.12.mlp.down_proj.weight");
}

TEST(HuggingFaceSource, ReadsASingleFile) {
  const test::TempDirectory directory;
  directory.write("config.json", test::kSmallConfig);
  directory.write("model.safetensors", test::safetensors_bytes(small_huggingface()));
  const auto source = test::open_or_fail(directory.path());
  ASSERT_NE(source, nullptr);
  const std::vector<TestTensor> model = test::small_model();
  ASSERT_EQ(source->tensors().size(), model.size());
  for (std::size_t i = 0; i < model.size(); ++i) {
    EXPECT_EQ(test::read_all(*source, source->tensors()[i]), model[i].values) << model[i].name;
  }
}

// With heads of 4 rows, rows 0 1 2 3 of a stored head are Meta's rows 0 2 1 3.
TEST(HuggingFaceSource, ReordersRowsByHead) {
  const test::TempDirectory directory;
  std::string config(test::kSmallConfig);
  config.insert(1, "\"head_dim\": 4,");
  directory.write("config.json", config);
  ModelConfig wide = test::small_config();
  wide.head_dim = 4;
  std::vector<TestTensor> model;
  for (const TensorInfo& info : expected_tensors(wide)) {
    TestTensor t{huggingface_name(info.name), info.shape, {}};
    for (std::int64_t r = 0; r < info.rows(); ++r) {
      t.values.insert(t.values.end(), static_cast<std::size_t>(info.columns()),
                      static_cast<float>(r));
    }
    model.push_back(std::move(t));
  }
  directory.write("model.safetensors", test::safetensors_bytes(model));
  const auto source = test::open_or_fail(directory.path());
  ASSERT_NE(source, nullptr);
  const auto first_column = [&](const char* name) {
    const TensorInfo* info = source->find(name);
    const std::vector<float> all = test::read_all(*source, *info);
    std::vector<int> out;
    for (std::size_t i = 0; i < all.size(); i += 8) out.push_back(static_cast<int>(all[i]));
    return out;
  };
  EXPECT_EQ(first_column("layers.0.attention.wk.weight"),
            (std::vector<int>{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(first_column("layers.1.attention.wq.weight"),
            (std::vector<int>{0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15}));
  EXPECT_EQ(first_column("layers.0.attention.wv.weight"),
            (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(HuggingFaceSource, FollowsTheIndex) {
  const test::TempDirectory directory;
  directory.write("config.json", test::kSmallConfig);
  const std::vector<TestTensor> model = small_huggingface();
  std::vector<std::pair<std::string, std::string>> map;
  std::vector<TestTensor> first, second;
  for (std::size_t i = 0; i < model.size(); ++i) {
    (i < 9 ? first : second).push_back(model[i]);
    map.emplace_back(model[i].name, i < 9 ? "a.safetensors" : "b.safetensors");
  }
  directory.write("model.safetensors.index.json", index_of(map));
  directory.write("a.safetensors", test::safetensors_bytes(first));
  directory.write("left-over.safetensors", "not read");
  expect_refused(directory.path(), "/b.safetensors: no such file");
  directory.write("b.safetensors", test::safetensors_bytes(second));
  EXPECT_NE(test::open_or_fail(directory.path()), nullptr);
  // A tensor of the map that its file does not hold.
  second.pop_back();
  directory.write("b.safetensors", test::safetensors_bytes(second));
  expect_refused(directory.path(), "\"lm_head.weight\" is missing");
  // A tensor that the map does not know.
  second.push_back({"extra", {1}, {1}});
  directory.write("b.safetensors", test::safetensors_bytes(second));
  expect_refused(directory.path(), "tensor \"extra\" is not in model.safetensors.index.json");
}

TEST(HuggingFaceSource, RefusesAnIndexThatLeavesTheDirectory) {
  const test::TempDirectory directory;
  directory.write("config.json", test::kSmallConfig);
  for (const char* name :
       {"../a.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "", "a\\\\b", "a\\u0000b"}) {
    directory.write("model.safetensors.index.json", index_of({{"lm_head.weight", name}}));
    expect_refused(directory.path(), "not to a plain file name");
  }
  directory.write("model.safetensors.index.json", "{}");
  expect_refused(directory.path(), "weight_map");
  directory.write("model.safetensors.index.json", R"({"weight_map": {"a": 1}})");
  expect_refused(directory.path(), "\"a\" is not mapped to a file name");
  directory.write("model.safetensors.index.json", "<html>");
  expect_refused(directory.path(), "index.json: not a JSON object");
}

TEST(HuggingFaceSource, ExtraTensors) {
  const test::TempDirectory directory;
  directory.write("config.json", test::kSmallConfig);
  std::vector<TestTensor> model = small_huggingface();
  model.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {1}, {1}});
  directory.write("model.safetensors", test::safetensors_bytes(model));
  EXPECT_NE(test::open_or_fail(directory.path()), nullptr);
  model.push_back({"model.layers.0.self_attn.q_proj.bias", {8}, std::vector<float>(8)});
  directory.write("model.safetensors", test::safetensors_bytes(model));
  expect_refused(directory.path(), "\"model.layers.0.self_attn.q_proj.bias\": biases");
  model.back().name = "model.layers.2.mlp.up_proj.weight";
  directory.write("model.safetensors", test::safetensors_bytes(model));
  expect_refused(directory.path(), "\"model.layers.2.mlp.up_proj.weight\" is no part");
}

TEST(HuggingFaceSource, RefusesQuantizedModelsOfFloatTensors) {
  const test::TempDirectory directory;
  std::string config(test::kSmallConfig);
  config.insert(1, R"("quantization_config": {"quant_method": "awq"},)");
  directory.write("config.json", config);
  directory.write("model.safetensors", test::safetensors_bytes(small_huggingface()));
  expect_refused(directory.path(), "method \"awq\"");
}

TEST(HuggingFaceSource, NamesTheConfigThatIsWrong) {
  const test::TempDirectory directory;
  directory.write("config.json", test::kSmallConfig);
  directory.write("model.safetensors", test::safetensors_bytes(small_huggingface()));
  directory.write("generation_config.json", R"({"eos_token_id": "x"})");
  expect_refused(directory.path(), "/generation_config.json: \"eos_token_id\"");
  directory.write("config.json", "{}");
  expect_refused(directory.path(), "/config.json: neither");
}

TEST(OpenCheckpoint, SaysWhatItLookedFor) {
  const test::TempDirectory directory;
  EXPECT_NE(test::refusal(directory.path() + "/none").find("no such file or directory"),
            std::string::npos);
  expect_refused(directory.path(), "the directory has 0 files");
  directory.write("pytorch_model.bin", "x");
  directory.write("config.json", test::kSmallConfig);
  expect_refused(directory.path(), "has 2 files: config.json, pytorch_model.bin");
  directory.write("a.gguf", "x");
  directory.write("b.gguf", "x");
  expect_refused(directory.path(), "2 .gguf files, among them a.gguf and b.gguf");
  const std::string part = directory.write("part.safetensors", test::safetensors_bytes({}));
  expect_refused(part, "give the directory");
  const std::string text = directory.write("notes.txt", "hello");
  expect_refused(text, "it starts with \"hello\"");
  std::filesystem::remove(directory.path() + "/config.json");
  expect_refused(directory.path(), "/config.json: no such file, though");
  directory.write("config.json", test::kSmallConfig);
  directory.write("second.safetensors", test::safetensors_bytes({}));
  expect_refused(directory.path(), "2 .safetensors files but no model.safetensors.index.json");
}

TEST(OpenCheckpoint, OpensTheOnlyGgufFile) {
  const test::TempDirectory directory;
  directory.write("only.gguf", "GGUF but not more");
  expect_refused(directory.path(), "/only.gguf");
  const std::string odd = directory.write("weights.bin", "GGUF but not more");
  // Recognised by its first bytes: the GGUF reader's words, not "not a checkpoint".
  EXPECT_EQ(test::refusal(odd).find("not a checkpoint that"), std::string::npos);
}

TEST(OpenCheckpoint, OpensASplitGgufModel) {
  const test::TempDirectory directory;
  directory.write("m-00002-of-00002.gguf", "GGUF but not more");
  directory.write("m-00001-of-00002.gguf", "GGUF but not more");
  expect_refused(directory.path(), "/m-00001-of-00002.gguf");
  directory.write("n-00001-of-00002.gguf", "GGUF but not more");
  expect_refused(directory.path(), "3 .gguf files");
}

TEST(ExpectedTensors, ListAndShapes) {
  ModelConfig config = test::small_config();
  std::vector<TensorInfo> tensors = expected_tensors(config);
  ASSERT_EQ(tensors.size(), 21U);
  std::int64_t parameters = 0;
  for (const TensorInfo& t : tensors) parameters += t.rows() * t.columns();
  EXPECT_EQ(parameters, config.parameters());
  config.tied_embeddings = true;
  tensors = expected_tensors(config);
  ASSERT_EQ(tensors.size(), 20U);
  EXPECT_EQ(tensors.back().name, "norm.weight");
}

}  // namespace
}  // namespace tg
