// A GGUF Llama as a TensorSource: small files made here, damaged in every byte, and the real one.
#include "checkpoint/gguf_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/dequantize.h"
#include "checkpoint/gguf_builder.h"

namespace tg {
namespace {

using test::Bytes;
using test::GgufBuilder;
using test::tiny_llama;
using testing::ElementsAre;
using testing::HasSubstr;

Result<ModelConfig> config_of(const GgufBuilder& b) {
  const auto bytes = b.build();
  const auto source = open_gguf_bytes(bytes);
  if (!source) return tl::unexpected(source.error());
  return (*source)->config();
}

Error refused(const GgufBuilder& b) {
  const auto config = config_of(b);
  EXPECT_FALSE(config.has_value());
  return config ? Error{} : config.error();
}

void write_file(const std::string& path, const std::vector<std::byte>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

// A folder of its own for a test, removed at the end.
struct TempFolder {
  std::filesystem::path path;
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "gguf_test.XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name) const { return (path / name).string(); }
};

TEST(GgufSource, ReadsTheTinyModel) {
  const auto bytes = tiny_llama().build();
  const auto source = open_gguf_bytes(bytes);
  ASSERT_TRUE(source) << source.error().text();
  const ModelConfig& c = (*source)->config();
  EXPECT_EQ(c.format, "gguf");
  EXPECT_EQ(c.name, "tiny");
  EXPECT_EQ(c.dim, 8);
  EXPECT_EQ(c.layers, 2);
  EXPECT_EQ(c.heads, 2);
  EXPECT_EQ(c.kv_heads, 1);
  EXPECT_EQ(c.head_dim, 4);
  EXPECT_EQ(c.ffn_dim, 12);
  EXPECT_EQ(c.vocab, 6);
  EXPECT_EQ(c.max_context, 64);
  EXPECT_FLOAT_EQ(static_cast<float>(c.norm_eps), 1e-5F);
  EXPECT_EQ(c.rope_theta, 10000.0);
  EXPECT_EQ(c.rope_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_EQ(c.bos_id, 3);
  EXPECT_THAT(c.stop_ids, ElementsAre(4, 5));

  EXPECT_EQ((*source)->tensors().size(), 20U);
  const TensorInfo* down = (*source)->find("layers.1.feed_forward.w2.weight");
  ASSERT_NE(down, nullptr);
  EXPECT_THAT(down->shape, ElementsAre(8, 12));
  EXPECT_EQ(down->dtype, DType::kF32);
  std::vector<float> rows(24);
  ASSERT_TRUE((*source)->read_rows(*down, 3, 2, rows));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i], static_cast<float>(36 + i) / 8.0F + 1.0F);
  }
  const TensorInfo* norm = (*source)->find("norm.weight");
  ASSERT_NE(norm, nullptr);
  rows.resize(8);
  ASSERT_TRUE((*source)->read_rows(*norm, 0, 1, rows));
  EXPECT_EQ(rows[7], 0.875F);
  (*source)->release(*norm);
  EXPECT_EQ((*source)->find("output.weight"), nullptr);
}

TEST(GgufSource, RefusesRowsOutsideTheTensor) {
  const auto bytes = tiny_llama().build();
  const auto source = open_gguf_bytes(bytes);
  ASSERT_TRUE(source);
  const TensorInfo& embedding = *(*source)->find("tok_embeddings.weight");
  std::vector<float> out(16);
  EXPECT_TRUE((*source)->read_rows(embedding, 4, 2, out));
  EXPECT_TRUE((*source)->read_rows(embedding, 6, 0, std::span(out).first(0)));
  EXPECT_FALSE((*source)->read_rows(embedding, 5, 2, out));
  EXPECT_FALSE((*source)->read_rows(embedding, -1, 2, out));
  EXPECT_FALSE((*source)->read_rows(embedding, 0, -2, out));
  EXPECT_FALSE((*source)->read_rows(embedding, 0, 1, out));
  TensorInfo other = embedding;
  other.shape = {600, 8};  // not what is stored
  EXPECT_FALSE((*source)->read_rows(other, 500, 2, out));
  other.name = "no.such";
  EXPECT_EQ((*source)->read_rows(other, 0, 2, out).error().code, ErrorCode::kNotFound);
}

// A model with rows of 256 values whose w1 is stored as `type`; the others are zeros in Q8_0.
GgufBuilder wide_llama(std::uint32_t type, std::vector<std::byte> w1) {
  GgufBuilder b = tiny_llama();
  b.integer("llama.embedding_length", 256).integer("llama.feed_forward_length", 256);
  b.integer("llama.block_count", 1);
  for (const char* name : {"attn_norm", "ffn_norm"}) {
    b.tensor(std::string("blk.0.") + name + ".weight", {256}, 0, std::vector<std::byte>(1024));
  }
  b.tensor("output_norm.weight", {256}, 0, std::vector<std::byte>(1024));
  const auto zeros = [&](const std::string& name, std::uint64_t rows) {
    b.tensor(name, {256, rows}, 8, std::vector<std::byte>(static_cast<std::size_t>(rows) * 272));
  };
  zeros("token_embd.weight", 6);
  for (const char* name : {"attn_q", "attn_output", "ffn_down", "ffn_up"}) {
    zeros(std::string("blk.0.") + name + ".weight", 256);
  }
  for (const char* name : {"attn_k", "attn_v"}) {
    zeros(std::string("blk.0.") + name + ".weight", 128);
  }
  for (const char* name : {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm",
                           "ffn_gate", "ffn_down", "ffn_up"}) {
    b.remove_tensor(std::string("blk.1.") + name + ".weight");
  }
  return b.tensor("blk.0.ffn_gate.weight", {256, 256}, type, std::move(w1));
}

TEST(GgufSource, ReadsRowsOfEveryType) {
  const std::pair<std::uint32_t, DType> kTypes[] = {
      {0, DType::kF32},  {1, DType::kF16},  {30, DType::kBf16}, {8, DType::kQ8_0},
      {2, DType::kQ4_0}, {3, DType::kQ4_1}, {6, DType::kQ5_0},  {7, DType::kQ5_1},
      {12, DType::kQ4K}, {13, DType::kQ5K}, {14, DType::kQ6K}};
  std::mt19937 random(7);
  for (const auto& [code, dtype] : kTypes) {
    const BlockSize block = block_size(dtype);
    std::vector<std::byte> stored(static_cast<std::size_t>(256 * 256 / block.values * block.bytes));
    for (std::byte& b : stored) b = static_cast<std::byte>(random() & 255U);
    const auto bytes = wide_llama(code, stored).build();
    const auto source = open_gguf_bytes(bytes);
    ASSERT_TRUE(source) << source.error().text();
    const TensorInfo* w1 = (*source)->find("layers.0.feed_forward.w1.weight");
    ASSERT_NE(w1, nullptr);
    EXPECT_EQ(w1->dtype, dtype);
    std::vector<float> whole(256 * 256);
    dequantize(dtype, stored, whole);
    std::vector<float> part(3 * 256);
    ASSERT_TRUE((*source)->read_rows(*w1, 100, 3, part));
    EXPECT_EQ(0, std::memcmp(part.data(), &whole[100 * 256], part.size() * 4)) << name(dtype);
  }
}

TEST(GgufSource, NamesTheTypeItCannotRead) {
  const Error e = refused(wide_llama(10, std::vector<std::byte>(100)));
  EXPECT_EQ(e.code, ErrorCode::kUnsupported);
  EXPECT_THAT(e.message, HasSubstr("'blk.0.ffn_gate.weight' has type Q2_K"));
  EXPECT_THAT(refused(wide_llama(77, {})).message, HasSubstr("type 77"));
}

struct Refusal {
  const char* label;
  std::function<void(GgufBuilder&)> change;
  ErrorCode code;
  std::string words;
};

TEST(GgufSource, RefusesOtherModels) {
  const std::string kQ = "blk.0.attn_q.weight";
  const auto zeros = [](std::size_t n) { return std::vector<std::byte>(n); };
  using B = GgufBuilder&;
  constexpr ErrorCode kBad = ErrorCode::kBadInput;
  constexpr ErrorCode kNo = ErrorCode::kUnsupported;
  const std::vector<Refusal> refusals = {
      {"architecture", [](B b) { b.text("general.architecture", "qwen2"); }, kNo, "'qwen2'"},
      {"no architecture", [](B b) { b.remove("general.architecture"); }, kBad,
       "general.architecture"},
      {"adapter", [](B b) { b.text("general.type", "adapter"); }, kNo, "'adapter'"},
      {"experts", [](B b) { b.integer("llama.expert_count", 8); }, kNo, "8 experts"},
      {"embedding model", [](B b) { b.boolean("llama.attention.causal", false); }, kNo, "causal"},
      {"bias", [&](B b) { b.tensor("blk.0.attn_q.bias", {8}, 0, zeros(32)); }, kNo,
       "biases (tensor 'blk.0.attn_q.bias')"},
      {"unknown", [&](B b) { b.tensor("blk.1.attn_q_norm.weight", {4}, 0, zeros(16)); }, kNo,
       "'blk.1.attn_q_norm.weight'"},
      {"one layer too many", [&](B b) { b.integer("llama.block_count", 1); }, kNo,
       "'blk.1.attn_norm.weight'"},
      {"missing tensor", [&](B b) { b.remove_tensor(kQ); }, ErrorCode::kNotFound,
       "'blk.0.attn_q.weight' is missing"},
      {"shape", [&](B b) { b.tensor(kQ, {8, 4}, 0, zeros(128)); }, kBad,
       "shape [4, 8], the metadata implies [8, 8]"},
      {"transposed", [&](B b) { b.tensor("blk.0.ffn_down.weight", {8, 12}, 0, zeros(384)); }, kBad,
       "shape [12, 8], the metadata implies [8, 12]"},
      {"rank", [&](B b) { b.tensor(kQ, {64}, 0, zeros(256)); }, kBad, "shape [64]"},
      {"no embedding", [](B b) { b.remove_tensor("token_embd.weight"); }, kBad,
       "'token_embd.weight' is missing"},
      {"vocabulary", [](B b) { b.texts("tokenizer.ggml.tokens", {"a"}); }, kBad,
       "1 tokens but the embedding has 6 rows"},
      {"token types", [](B b) { b.integers("tokenizer.ggml.token_type", {1, 2}); }, kBad,
       "6 tokens but 2 token types"},
      {"stop id", [](B b) { b.integer("tokenizer.ggml.eot_token_id", 6); }, kBad,
       "'tokenizer.ggml.eot_token_id' is token 6 of a vocabulary of 6"},
      {"many layers", [](B b) { b.integer("llama.block_count", 1U << 30); }, kBad,
       "1073741824 layers but there are only 20 tensors"},
      {"too many layers", [](B b) { b.integer("llama.block_count", 4000000000U); }, kBad,
       "'llama.block_count' is 4000000000"},
      {"no layers", [](B b) { b.integer("llama.block_count", 0); }, kBad, "is 0"},
      {"missing key", [](B b) { b.remove("llama.embedding_length"); }, kBad,
       "'llama.embedding_length' is missing"},
      {"wrong type", [](B b) { b.text("llama.embedding_length", "8"); }, kBad,
       "'llama.embedding_length' is not an integer but string"},
      {"no ffn", [](B b) { b.remove("llama.feed_forward_length"); }, kBad,
       "'llama.feed_forward_length' is missing"},
      {"no heads", [](B b) { b.remove("llama.attention.head_count"); }, kBad,
       "'llama.attention.head_count' is missing"},
      {"kv by layer", [](B b) { b.integers("llama.attention.head_count_kv", {1, 2}); }, kNo,
       "differs by layer: 1 in layer 0, 2 in layer 1"},
      {"kv empty", [](B b) { b.integers("llama.attention.head_count_kv", {}); }, kBad,
       "'llama.attention.head_count_kv'"},
      {"kv strings", [](B b) { b.texts("llama.attention.head_count_kv", {"1"}); }, kBad,
       "'llama.attention.head_count_kv'"},
      {"kv heads", [](B b) { b.integer("llama.attention.head_count_kv", 3); }, kBad,
       "2 heads cannot share 3"},
      {"heads", [](B b) { b.integer("llama.attention.head_count", 3); }, kBad,
       "embedding length 8 is not a multiple of 3 heads"},
      {"value length", [](B b) { b.integer("llama.attention.value_length", 8); }, kNo,
       "keys of 4 and values of 8"},
      {"rope part", [](B b) { b.integer("llama.rope.dimension_count", 2); }, kNo, "turns 2 of 4"},
      {"rope base", [](B b) { b.real("llama.rope.freq_base", -1.0F); }, kBad, "-1"},
      {"eps", [](B b) { b.remove("llama.attention.layer_norm_rms_epsilon"); }, kBad, "epsilon"},
      {"yarn", [](B b) { b.text("llama.rope.scaling.type", "yarn"); }, kNo, "'yarn'"},
      {"longrope", [&](B b) { b.tensor("rope_factors_long.weight", {2}, 0, zeros(8)); }, kNo,
       "longrope"},
      {"divisors", [&](B b) { b.tensor("rope_freqs.weight", {2}, 0, zeros(8)); }, kBad,
       "has 0 at index 0"},
      {"divisor count", [&](B b) { b.tensor("rope_freqs.weight", {3}, 0, zeros(12)); }, kBad,
       "F32 [3], wanted is F32 [2]"},
      {"two scalings",
       [&](B b) {
         b.real("llama.rope.scaling.factor", 2.0F);
         b.tensor("rope_freqs.weight", {2}, 0, test::as_bytes({1.0F, 8.0F}));
       },
       kNo, "together"},
  };
  for (const Refusal& r : refusals) {
    SCOPED_TRACE(r.label);
    GgufBuilder b = tiny_llama();
    r.change(b);
    const Error e = refused(b);
    EXPECT_EQ(e.code, r.code) << e.message;
    EXPECT_THAT(e.message, HasSubstr(r.words));
    EXPECT_EQ(e.message.find('\n'), std::string::npos);
  }
}

TEST(GgufSource, ReadsRopeScalings) {
  GgufBuilder b = tiny_llama();
  EXPECT_EQ(config_of(b.real("llama.rope.scaling.factor", 4.0F))->rope_scaling.factor, 4.0);
  EXPECT_EQ(config_of(b)->rope_scaling.kind, RopeScaling::Kind::kLinear);  // the default type
  EXPECT_EQ(config_of(b.text("llama.rope.scaling.type", "linear"))->rope_scaling.factor, 4.0);
  EXPECT_EQ(config_of(b.text("llama.rope.scaling.type", "none"))->rope_scaling.kind,
            RopeScaling::Kind::kNone);
  b = tiny_llama();
  EXPECT_EQ(config_of(b.real("llama.rope.scale_linear", 0.0F))->rope_scaling.kind,
            RopeScaling::Kind::kNone);
  EXPECT_EQ(config_of(b.real("llama.rope.scale_linear", 2.0F))->rope_scaling.factor, 2.0);
  b = tiny_llama();
  b.tensor("rope_freqs.weight", {2}, 0, test::as_bytes({1.0F, 8.0F}));
  const auto config = config_of(b);
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_THAT(config->rope_scaling.divisors, ElementsAre(1.0F, 8.0F));
}

TEST(GgufSource, TakesOtherSpellings) {
  GgufBuilder b = tiny_llama();
  b.integers("llama.attention.head_count_kv", {1, 1})
      .integers("llama.feed_forward_length", {12, 12});
  b.remove("general.name").remove("llama.rope.freq_base");
  b.integer("llama.attention.key_length", 4).integer("llama.attention.value_length", 4);
  b.integer("llama.rope.dimension_count", 4).integer("llama.expert_count", 0);
  b.integer("tokenizer.ggml.bos_token_id", 0xffffffffU);  // "no such token"
  b.tensor("output.weight", {8, 6}, 1, std::vector<std::byte>(96));
  const auto config = config_of(b);
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->kv_heads, 1);
  EXPECT_EQ(config->name, "");
  EXPECT_EQ(config->rope_theta, 10000.0);
  EXPECT_EQ(config->bos_id, std::nullopt);
  EXPECT_FALSE(config->tied_embeddings);
}

TEST(GgufSource, CollectsStopIds) {
  GgufBuilder b = tiny_llama();
  b.texts("tokenizer.ggml.tokens",
          {"<|eom_id|>", "<|eot_id|>", "<|end_of_text|>", "<|im_end|>", "a", "b"});
  b.integers("tokenizer.ggml.token_type", {3, 3, 3, 1, 1, 1});  // <|im_end|> as plain text: no
  b.integer("tokenizer.ggml.eos_token_id", 1).integer("tokenizer.ggml.eom_token_id", 5);
  const auto config = config_of(b);
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_THAT(config->stop_ids, ElementsAre(1, 5, 0, 2));
}

TEST(GgufSource, ReadsASplitModelFromAnyOfItsFiles) {
  const TempFolder folder;
  const auto part = [](std::uint16_t number) {
    GgufBuilder b = number == 0 ? tiny_llama() : GgufBuilder();
    b.key("split.no", Bytes().type(GgufType::kUint16).number(number));
    b.key("split.count", Bytes().type(GgufType::kUint16).number(std::uint16_t{2}));
    b.key("split.tensors.count", Bytes().type(GgufType::kInt32).number(std::int32_t{20}));
    return b;
  };
  const auto moved = test::as_bytes(std::vector<float>(64, 0.5F));
  GgufBuilder first = part(0);
  write_file(folder.file("m-00001-of-00002.gguf"),
             first.remove_tensor("blk.1.attn_q.weight").build());
  GgufBuilder second = part(1);
  write_file(folder.file("m-00002-of-00002.gguf"),
             second.tensor("blk.1.attn_q.weight", {8, 8}, 0, moved).build());
  for (const char* given : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    const auto source = open_gguf(folder.file(given));
    ASSERT_TRUE(source) << source.error().text();
    std::vector<float> row(8);
    const TensorInfo& q = *(*source)->find("layers.1.attention.wq.weight");
    ASSERT_TRUE((*source)->read_rows(q, 7, 1, row));
    EXPECT_THAT(row, testing::Each(0.5F));
    (*source)->release(q);
    ASSERT_TRUE(
        (*source)->read_rows(q, 7, 1, row));  // a released tensor is read again from the file
    EXPECT_THAT(row, testing::Each(0.5F));
    EXPECT_EQ(read_gguf_tokenizer(folder.file(given))->tokens.size(), 6U);
  }
  const std::string path = folder.file("m-00001-of-00002.gguf");

  second.tensor("blk.0.attn_q.weight", {8, 8}, 0, moved);
  write_file(folder.file("m-00002-of-00002.gguf"), second.build());
  EXPECT_THAT(open_gguf(path).error().text(), HasSubstr("hold 21 tensors, the first says 20"));
  first.remove("split.tensors.count");
  write_file(path, first.build());
  EXPECT_THAT(open_gguf(path).error().text(),
              HasSubstr("'blk.0.attn_q.weight' is in files 1 and 2"));
  write_file(folder.file("m-00002-of-00002.gguf"), first.build());
  EXPECT_THAT(open_gguf(path).error().text(),
              HasSubstr("m-00002-of-00002.gguf: the file does not say that it is number 2 of 2"));
  std::filesystem::remove(folder.file("m-00002-of-00002.gguf"));
  EXPECT_EQ(open_gguf(path).error().code, ErrorCode::kNotFound);
  EXPECT_THAT(open_gguf(path).error().text(), HasSubstr("m-00002-of-00002.gguf"));
  write_file(folder.file("renamed.gguf"), first.build());
  EXPECT_THAT(open_gguf(folder.file("renamed.gguf")).error().text(),
              HasSubstr("ends with '-00001-of-00002.gguf'"));
}

TEST(GgufSource, ErrorsBeginWithThePath) {
  const TempFolder folder;
  const std::string path = folder.file("bad.gguf");
  EXPECT_EQ(open_gguf(path).error().code, ErrorCode::kNotFound);
  write_file(path, {});
  EXPECT_THAT(open_gguf(path).error().text(), testing::StartsWith(path + ": not a GGUF file"));
  GgufBuilder b = tiny_llama();
  write_file(path, b.text("general.architecture", "gemma").build());
  EXPECT_THAT(open_gguf(path).error().text(), testing::StartsWith(path + ": a model of"));
  EXPECT_FALSE(open_gguf(folder.path.string()));
}

TEST(GgufTokenizer, ReadsAllParts) {
  GgufBuilder b = tiny_llama();
  b.text("tokenizer.chat_template", "{{ messages }}").boolean("tokenizer.ggml.add_bos_token", true);
  const auto bytes = b.build();
  const auto data = gguf_tokenizer(*GgufFile::parse(bytes));
  ASSERT_TRUE(data) << data.error().text();
  EXPECT_EQ(data->model, "gpt2");
  EXPECT_EQ(data->pre, "smollm");
  EXPECT_THAT(data->tokens, ElementsAre("a", "b", "ab", "<|begin|>", "<|end|>", "<|im_end|>"));
  EXPECT_THAT(data->types, ElementsAre(1, 1, 1, 3, 3, 3));
  EXPECT_THAT(data->merges, ElementsAre("a b"));
  EXPECT_EQ(data->bos, 3);
  EXPECT_EQ(data->eos, 4);
  EXPECT_TRUE(data->add_bos);
  EXPECT_EQ(data->chat_template, "{{ messages }}");
}

TEST(GgufTokenizer, DecidesWhetherABosIsAdded) {
  const auto adds = [](const GgufBuilder& b) {
    const auto bytes = b.build();
    return gguf_tokenizer(*GgufFile::parse(bytes))->add_bos;
  };
  GgufBuilder b = tiny_llama();
  EXPECT_FALSE(adds(b));
  EXPECT_FALSE(adds(b.remove("tokenizer.ggml.pre")));
  EXPECT_TRUE(adds(b.text("tokenizer.ggml.pre", "llama-bpe")));
  EXPECT_FALSE(adds(b.boolean("tokenizer.ggml.add_bos_token", false)));
  b.boolean("tokenizer.ggml.add_bos_token", true);
  EXPECT_FALSE(adds(b.remove("tokenizer.ggml.bos_token_id")));
  b = tiny_llama();
  EXPECT_TRUE(adds(b.text("tokenizer.ggml.model", "llama")));
}

TEST(GgufTokenizer, RefusesWhatIsNotThereOrDamaged) {
  const auto message = [](const GgufBuilder& b) {
    const auto bytes = b.build();
    const auto data = gguf_tokenizer(*GgufFile::parse(bytes));
    return data ? std::string() : data.error().message;
  };
  GgufBuilder b = tiny_llama();
  EXPECT_THAT(message(b.remove("tokenizer.ggml.tokens")), HasSubstr("has no tokenizer"));
  b = tiny_llama();
  EXPECT_THAT(message(b.remove("tokenizer.ggml.model")), HasSubstr("has no tokenizer"));
  b = tiny_llama();
  EXPECT_THAT(message(b.integers("tokenizer.ggml.merges", {1})),
              HasSubstr("tokenizer.ggml.merges"));
  b = tiny_llama();
  EXPECT_EQ(message(b.remove("tokenizer.ggml.token_type")), "");
}

// Reads all that an opened file offers.
void read_everything(const std::vector<std::byte>& bytes) {
  const auto file = GgufFile::parse(bytes);
  if (file) (void)gguf_tokenizer(*file);
  const auto source = open_gguf_bytes(bytes);
  if (!source) return;
  for (const TensorInfo& t : (*source)->tensors()) {
    std::vector<float> out(static_cast<std::size_t>(t.rows() * t.columns()));
    EXPECT_TRUE((*source)->read_rows(t, 0, t.rows(), out));
  }
}

// Under the address and undefined-behaviour sanitizers this is the real test.
TEST(GgufSource, AnyChangedByteGivesAModelOrAnError) {
  const auto whole = tiny_llama().build();
  std::mt19937 random(11);
  auto bytes = whole;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    // The weights (about 60 % of the file) may be anything; a few positions there are enough.
    if (i > 2500 && i % 97 != 0) continue;
    for (const std::uint_fast32_t value : {0UL, 1UL, 0x7fUL, 0x80UL, 0xffUL, random() & 255UL}) {
      bytes[i] = static_cast<std::byte>(value);
      read_everything(bytes);
    }
    bytes[i] = whole[i];
  }
}

// The model of the demo, which `make test` fetches (tools/fetch_model.sh), against the gguf
// package.
TEST(GgufSource, ReadsTheRealModel) {
  const std::string path = TG_SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  const auto source = open_gguf(path);
  ASSERT_TRUE(source) << source.error().text() << "; run tools/fetch_model.sh";
  const ModelConfig& c = (*source)->config();
  EXPECT_EQ(c.name, "Smollm2 135M 8k Lc100K Mix1 Ep2");
  EXPECT_EQ(c.dim, 576);
  EXPECT_EQ(c.layers, 30);
  EXPECT_EQ(c.heads, 9);
  EXPECT_EQ(c.kv_heads, 3);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.ffn_dim, 1536);
  EXPECT_EQ(c.vocab, 49152);
  EXPECT_EQ(c.rope_theta, 100000.0);
  EXPECT_EQ(c.max_context, 8192);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_EQ(c.parameters(), 134515008);
  EXPECT_EQ(c.bos_id, 1);
  EXPECT_THAT(c.stop_ids, ElementsAre(2));

  std::ifstream golden(TG_SOURCE_DIR "/tests/golden/gguf_smollm2.json");
  const auto sums = nlohmann::json::parse(golden).at("checksums");
  EXPECT_EQ(sums.size(), (*source)->tensors().size());
  const std::pair<const char*, const char*> kSome[] = {
      {"tok_embeddings.weight", "token_embd.weight"},
      {"norm.weight", "output_norm.weight"},
      {"layers.0.attention.wq.weight", "blk.0.attn_q.weight"},
      {"layers.0.attention.wk.weight", "blk.0.attn_k.weight"},
      {"layers.7.attention.wv.weight", "blk.7.attn_v.weight"},
      {"layers.7.attention.wo.weight", "blk.7.attn_output.weight"},
      {"layers.15.attention_norm.weight", "blk.15.attn_norm.weight"},
      {"layers.15.ffn_norm.weight", "blk.15.ffn_norm.weight"},
      {"layers.29.feed_forward.w1.weight", "blk.29.ffn_gate.weight"},
      {"layers.29.feed_forward.w2.weight", "blk.29.ffn_down.weight"},
      {"layers.29.feed_forward.w3.weight", "blk.29.ffn_up.weight"}};
  for (const auto& [meta, gguf] : kSome) {
    const TensorInfo* tensor = (*source)->find(meta);
    ASSERT_NE(tensor, nullptr) << meta;
    std::vector<float> values(static_cast<std::size_t>(tensor->rows() * tensor->columns()));
    ASSERT_TRUE((*source)->read_rows(*tensor, 0, tensor->rows(), values));
    (*source)->release(*tensor);
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      sum += (i + 1) * std::uint64_t{std::bit_cast<std::uint32_t>(values[i])};
    }
    EXPECT_EQ(fmt::format("{:016x}", sum), sums.at(gguf).get<std::string>()) << meta;
  }
}

TEST(GgufTokenizer, ReadsTheRealModels) {
  const auto data = read_gguf_tokenizer(TG_SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf");
  ASSERT_TRUE(data) << data.error().text() << "; run tools/fetch_model.sh";
  EXPECT_EQ(data->model, "gpt2");
  EXPECT_EQ(data->pre, "smollm");
  EXPECT_EQ(data->tokens.size(), 49152U);
  EXPECT_EQ(data->tokens[1], "<|im_start|>");
  EXPECT_EQ(data->types[1], static_cast<std::int32_t>(GgufTokenType::kControl));
  EXPECT_EQ(data->merges.size(), 48900U);
  EXPECT_EQ(data->bos, 1);
  EXPECT_EQ(data->eos, 2);
  EXPECT_FALSE(data->add_bos);
  EXPECT_THAT(data->chat_template, testing::StartsWith("{% for message in messages %}"));
}

}  // namespace
}  // namespace tg
