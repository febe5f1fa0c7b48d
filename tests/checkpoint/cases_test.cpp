// Cases from the field C37, C39, C41, C44 and C46: the inputs are made by make_ckpt_cases.py, which
// also says what must become of each (expected.tsv).
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <sstream>

#include "base/mapped_file.h"
#include "checkpoint/safetensors_file.h"
#include "test_files.h"

namespace tg {
namespace {

class CheckpointCases : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = std::make_unique<test::TempDirectory>();
    const std::string command = "python3 '" TG_SOURCE_DIR "/tests/tools/make_ckpt_cases.py' '" +
                                directory_->path() + "' > /dev/null";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
    std::istringstream lines(test::read_file(directory_->path() + "/expected.tsv"));
    for (std::string line; std::getline(lines, line);) {
      const std::size_t tab = line.find('\t');
      verdicts_[line.substr(0, tab)] = line.substr(tab + 1, line.find('\t', tab + 1) - tab - 1);
    }
    ASSERT_EQ(verdicts_.size(), 49U);
  }
  static void TearDownTestSuite() { directory_.reset(); }

  static std::string path(const std::string& name) { return directory_->path() + "/" + name; }

  // {name, verdict} of the cases that start with `prefix`.
  static std::map<std::string, std::string> cases(std::string_view prefix) {
    std::map<std::string, std::string> out;
    for (const auto& [name, verdict] : verdicts_) {
      if (name.starts_with(prefix)) out.emplace(name, verdict);
    }
    return out;
  }

  static std::unique_ptr<test::TempDirectory> directory_;
  static std::map<std::string, std::string> verdicts_;
};

std::unique_ptr<test::TempDirectory> CheckpointCases::directory_;
std::map<std::string, std::string> CheckpointCases::verdicts_;

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_F(CheckpointCases, C37SafetensorsContainers) {
  const auto all = cases("c37_safetensors/");
  ASSERT_EQ(all.size(), 23U);
  for (const auto& [name, verdict] : all) {
    const auto file = MappedFile::open(path(name));
    ASSERT_TRUE(file);
    const auto entries = parse_safetensors(file->bytes());
    EXPECT_EQ(entries.has_value(), verdict == "load") << name;
    if (verdict == "load") continue;
    const std::string message = test::refusal(path(name));
    EXPECT_TRUE(contains(message, name)) << message;
    EXPECT_FALSE(contains(message, "\n")) << message;
  }
}

TEST_F(CheckpointCases, C37MessagesNameTheTensor) {
  for (const char* name : {"past_end", "shape_bytes", "span_larger", "reversed", "negative",
                           "one_offset", "shape_wraps", "dtype"}) {
    const std::string file = path(std::string("c37_safetensors/bad_") + name + ".safetensors");
    const std::string message = test::refusal(file);
    EXPECT_TRUE(contains(message, "tensor \"a\"")) << message;
  }
}

TEST_F(CheckpointCases, C39BrokenPthFiles) {
  const std::map<std::string, std::string> words = {{"bad_half", "cut off"},
                                                    {"bad_empty", "empty (0 bytes)"},
                                                    {"bad_lfs_pointer", "git-lfs"},
                                                    {"bad_html", "web page"},
                                                    {"bad_legacy_pickle", "before 2020"}};
  std::size_t refused = 0;
  for (const auto& [name, verdict] : cases("c39_pth/")) {
    const std::string short_name = name.substr(name.find('/') + 1);
    if (verdict == "reject") {
      const std::string message = test::refusal(path(name));
      EXPECT_TRUE(contains(message, words.at(short_name))) << message;
      EXPECT_TRUE(contains(message, short_name + "/consolidated.00.pth")) << message;
      ++refused;
    } else if (verdict == "reject-under-verify") {
      EXPECT_NE(test::open_or_fail(path(name)), nullptr);
      const std::string message = test::refusal(path(name), {.verify = true});
      EXPECT_TRUE(contains(message, "CRC-32")) << message;
      EXPECT_TRUE(contains(message, "consolidated.00.pth")) << message;
    } else {
      EXPECT_NE(test::open_or_fail(path(name), {.verify = true}), nullptr);
    }
  }
  EXPECT_EQ(refused, words.size());
}

TEST_F(CheckpointCases, C41ZipLayoutsLoadAlike) {
  const auto reference = test::open_or_fail(path("c39_pth/ok"));
  ASSERT_NE(reference, nullptr);
  const auto all = cases("c41_zip/");
  ASSERT_EQ(all.size(), 7U);
  for (const auto& [name, verdict] : all) {
    const auto source = test::open_or_fail(path(name), {.verify = true});
    ASSERT_NE(source, nullptr) << name;
    test::expect_same_tensors(*reference, *source);
  }
}

TEST_F(CheckpointCases, C44HuggingFaceRowsBecomeMetas) {
  const auto meta = test::open_or_fail(path("c44_pair/meta"));
  const auto hf = test::open_or_fail(path("c44_pair/hf"));
  ASSERT_NE(meta, nullptr);
  ASSERT_NE(hf, nullptr);
  EXPECT_EQ(hf->config().kv_heads, 2);
  test::expect_same_tensors(*meta, *hf);
  EXPECT_EQ(hf->config().stop_ids, (std::vector<std::int32_t>{128001, 128008, 128009}));
}

TEST_F(CheckpointCases, C46DTypesThatLoad) {
  const auto reference = test::open_or_fail(path("c44_pair/meta"));
  for (const char* name : {"ok_mixed_norm_f32", "ok_all_f32", "ok_all_f16"}) {
    const auto source = test::open_or_fail(path(std::string("c46_dtypes/") + name));
    ASSERT_NE(source, nullptr);
    test::expect_same_tensors(*reference, *source);
  }
  const auto mixed = test::open_or_fail(path("c46_dtypes/ok_mixed_norm_f32"));
  EXPECT_EQ(mixed->find("norm.weight")->dtype, DType::kF32);
  EXPECT_EQ(mixed->find("output.weight")->dtype, DType::kBf16);
}

TEST_F(CheckpointCases, C46TiedEmbeddings) {
  const auto tied = test::open_or_fail(path("c46_dtypes/ok_tied"));
  const auto present = test::open_or_fail(path("c46_dtypes/ok_tied_and_present"));
  ASSERT_NE(tied, nullptr);
  ASSERT_NE(present, nullptr);
  for (const auto* source : {tied.get(), present.get()}) {
    EXPECT_TRUE(source->config().tied_embeddings);
    EXPECT_EQ(source->find("output.weight"), nullptr);
  }
  test::expect_same_tensors(*tied, *present);
}

TEST_F(CheckpointCases, C46DTypesThatAreRefused) {
  const std::map<std::string, std::vector<std::string>> words = {
      {"bad_fp8", {"model.layers.0.mlp.up_proj.weight", "F8_E4M3", "fp8"}},
      {"bad_fp8_silent", {"model.layers.0.mlp.up_proj.weight", "F8_E4M3"}},
      {"bad_int8", {"model.layers.0.mlp.up_proj.weight", "I8"}},
      {"bad_untied_missing", {"lm_head.weight", "missing"}},
      {"bad_shape", {"model.norm.weight", "[33]", "[32]"}}};
  std::size_t refused = 0;
  for (const auto& [name, verdict] : cases("c46_dtypes/bad_")) {
    const std::string message = test::refusal(path(name));
    for (const std::string& word : words.at(name.substr(name.find('/') + 1))) {
      EXPECT_TRUE(contains(message, word)) << message;
    }
    ++refused;
  }
  EXPECT_EQ(refused, words.size());
}

}  // namespace
}  // namespace tg
