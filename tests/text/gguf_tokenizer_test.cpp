// Vocabularies of GGUF files: SmolLM2's against its golden ids, kinds of tokens, refusals.
#include <gmock/gmock.h>

#include "checkpoint/gguf_source.h"
#include "text/stream_decoder.h"
#include "tokenizer_forms.h"

namespace tg {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

Result<GgufVocabulary> read_vocabulary(const std::string& path) {
  TG_ASSIGN(GgufTokenizerData data, read_gguf_tokenizer(path));
  return GgufVocabulary{
      data.model, data.pre,    std::move(data.tokens), std::move(data.types), data.merges,
      data.bos,   data.add_bos};
}

// All 256 bytes and "ab", and a control and a user-defined token behind them.
GgufVocabulary small_vocabulary() {
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "gpt-2";
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.push_back(spelling_of_bytes(std::string(1, static_cast<char>(byte))));
  }
  vocabulary.tokens.insert(vocabulary.tokens.end(), {"ab", "<|end|>", "<tool \xC3\xA9>"});
  vocabulary.types.assign(257, 1);
  vocabulary.types.insert(vocabulary.types.end(), {3, 4});
  vocabulary.merges = {"a b"};
  return vocabulary;
}

std::string refusal(const GgufVocabulary& vocabulary) {
  const auto tokenizer = make_gguf_tokenizer(vocabulary);
  return tokenizer ? "accepted" : tokenizer.error().text();
}

TEST(GgufTokenizer, SmolLm2GivesTheGoldenIds) {
  const std::string path = TG_SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  auto vocabulary = read_vocabulary(path);
  ASSERT_TRUE(vocabulary) << vocabulary.error().text() << "; tools/fetch_model.sh brings it";
  EXPECT_EQ(vocabulary->pre, "smollm");
  const TokenizerPointer tokenizer = must(make_gguf_tokenizer(*vocabulary));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocab_size(), 49152);
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->find_special("<|im_end|>"), 2);
  EXPECT_TRUE(tokenizer->is_special(2));
  EXPECT_THAT(tokenizer->default_stop_ids(), ElementsAre());

  const json golden = read_json(kGolden + "smollm2.json");
  const std::string text = read_file(kGolden + "public_domain.txt");
  const auto text_ids = golden.at("text_ids").get<std::vector<TokenId>>();
  EXPECT_EQ(tokenizer->encode(text, SpecialTokens::kAsText), text_ids);
  EXPECT_EQ(tokenizer->encode_prompt(text, SpecialTokens::kAsText), text_ids);
  EXPECT_EQ(tokenizer->decode(text_ids, true), text);
  // A vocabulary without some bytes: they are left out, the rest is as ever.
  EXPECT_THAT(tokenizer->encode("\x04\xFF", SpecialTokens::kAsText), ElementsAre());
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\x04z\xFF", SpecialTokens::kAsText), true), "az");

  ASSERT_EQ(golden.at("prompts").size(), 20U);
  for (const json& prompt : golden.at("prompts")) {
    const auto rendered = prompt.at("rendered").get<std::string>();
    EXPECT_EQ(tokenizer->encode(rendered, SpecialTokens::kParse),
              prompt.at("prompt_ids").get<std::vector<TokenId>>());
    for (const char* dtype : {"float32", "bfloat16"}) {
      const auto ids = prompt.at(dtype).at("ids").get<std::vector<TokenId>>();
      EXPECT_EQ(tokenizer->decode(ids, true), prompt.at(dtype).at("text").get<std::string>());
      StreamDecoder stream(*tokenizer, true);
      std::string streamed;
      for (const TokenId id : ids) streamed += stream.push(id);
      EXPECT_EQ(streamed + stream.flush(), tokenizer->decode(ids, true));
    }
  }
}

TEST(GgufTokenizer, KindsOfTokens) {
  const TokenizerPointer tokenizer = must(make_gguf_tokenizer(small_vocabulary()));
  ASSERT_NE(tokenizer, nullptr);
  const std::string text = "ab<|end|><tool \xC3\xA9>";
  // Control tokens are parsed when asked for, user-defined ones always.
  EXPECT_THAT(tokenizer->encode(text, SpecialTokens::kParse), ElementsAre(256, 257, 258));
  const std::vector<TokenId> plain = tokenizer->encode(text, SpecialTokens::kAsText);
  EXPECT_THAT(plain, testing::SizeIs(1 + 7 + 1));
  EXPECT_EQ(plain.back(), 258);
  EXPECT_EQ(tokenizer->token_bytes(258), "<tool \xC3\xA9>");
  EXPECT_TRUE(tokenizer->is_special(257));
  EXPECT_FALSE(tokenizer->is_special(258));
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{256, 257, 258}, true), "ab<tool \xC3\xA9>");
  EXPECT_EQ(tokenizer->bos_id(), std::nullopt);
}

TEST(GgufTokenizer, PreTokenizersSplitAsNamed) {
  GgufVocabulary vocabulary = small_vocabulary();
  vocabulary.tokens.insert(vocabulary.tokens.end(), {"12", "34", "1234"});  // 259, 260, 261
  vocabulary.types.insert(vocabulary.types.end(), {1, 1, 1});
  vocabulary.merges = {"1 2", "3 4", "12 34"};
  const std::pair<const char*, std::vector<TokenId>> rows[] = {
      {"gpt-2", {' ', 261}},                  // one run of digits
      {"smollm", {' ', '1', '2', '3', '4'}},  // single digits
      {"qwen2", {' ', '1', '2', '3', '4'}},   // single digits
      {"llama-bpe", {' ', 259, '3', '4'}},    // three digits, then one
  };
  for (const auto& [pre, wanted] : rows) {
    vocabulary.pre = pre;
    const TokenizerPointer tokenizer = must(make_gguf_tokenizer(vocabulary));
    ASSERT_NE(tokenizer, nullptr);
    EXPECT_EQ(tokenizer->encode(" 1234", SpecialTokens::kAsText), wanted) << pre;
  }
}

TEST(GgufTokenizer, RefusesWhatItDoesNotKnow) {
  GgufVocabulary vocabulary = small_vocabulary();
  vocabulary.model = "llama";
  EXPECT_THAT(refusal(vocabulary), HasSubstr("\"llama\""));
  for (const char* pre : {"", "default"}) {
    vocabulary = small_vocabulary();
    vocabulary.pre = pre;
    EXPECT_THAT(refusal(vocabulary), HasSubstr("does not name its pre-tokenizer"));
  }
  vocabulary.pre = "tekken";
  EXPECT_THAT(refusal(vocabulary), HasSubstr("\"tekken\""));
}

TEST(GgufTokenizer, RefusesContradictions) {
  GgufVocabulary vocabulary = small_vocabulary();
  vocabulary.types.pop_back();
  EXPECT_THAT(refusal(vocabulary), HasSubstr("259 tokens but 258 token types"));

  vocabulary = small_vocabulary();
  vocabulary.bos = 259;
  EXPECT_THAT(refusal(vocabulary), HasSubstr("BOS is token 259"));
  vocabulary.bos = -1;
  EXPECT_THAT(refusal(vocabulary), HasSubstr("BOS is token -1"));

  vocabulary = small_vocabulary();
  vocabulary.merges.push_back("b a");
  EXPECT_THAT(refusal(vocabulary), HasSubstr("merge 1 joins \"b\" and \"a\", but \"ba\""));
  for (const char* merge : {"", " ", "ab", "a b c", " b", "a "}) {
    vocabulary.merges = {merge};
    EXPECT_THAT(refusal(vocabulary), HasSubstr("merge 0 is ")) << merge;
  }

  vocabulary = small_vocabulary();
  vocabulary.tokens[258] = vocabulary.tokens[257];
  EXPECT_THAT(refusal(vocabulary), HasSubstr("257 and 258 have the same text \"<|end|>\""));

  vocabulary = {};
  vocabulary.model = "gpt2";
  vocabulary.pre = "gpt-2";
  EXPECT_THAT(refusal(vocabulary), HasSubstr("none of the 0 tokens is a single byte"));
}

}  // namespace
}  // namespace tg
