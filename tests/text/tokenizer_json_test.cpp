// tokenizer.json: both spellings of merges, options, BOS, and files that are not what they should
// be.
#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>

#include "tokenizer_forms.h"

namespace tg {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// All 256 bytes, "ab" = 256, " a" = 257, one special token 258 and one added token 259; GPT-2's
// pattern; no BOS.
json small_file() {
  json file = json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 258, "content": "<|bos|>", "special": true, "normalized": false, "lstrip": false,
       "rstrip": false, "single_word": false},
      {"id": 259, "content": "<call>", "special": false, "normalized": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "merges": ["a b", "\u0120 a"]}})");
  for (int byte = 0; byte < 256; ++byte) {
    file["model"]["vocab"][spelling_of_bytes(std::string(1, static_cast<char>(byte)))] = byte;
  }
  file["model"]["vocab"]["ab"] = 256;
  file["model"]["vocab"]["\u0120a"] = 257;
  return file;
}

json with(const std::function<void(json&)>& change) {
  json file = small_file();
  change(file);
  return file;
}

std::string refusal(std::string_view text, std::string_view config = {}) {
  const auto tokenizer = parse_tokenizer_json(text, config);
  return tokenizer ? "accepted" : tokenizer.error().text();
}

std::string refusal(const std::function<void(json&)>& change) {
  return refusal(with(change).dump());
}

json split_step(std::string_view regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}};
}

json byte_level(bool use_regex) { return {{"type", "ByteLevel"}, {"use_regex", use_regex}}; }

void set_steps(json& file, const json& steps) {
  file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
}

TEST(TokenizerJson, SpecialAndAddedTokens) {
  const TokenizerPointer tokenizer = must(parse_tokenizer_json(small_file().dump()));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocab_size(), 260);
  EXPECT_THAT(tokenizer->encode("ab a<call><|bos|>", SpecialTokens::kParse),
              ElementsAre(256, 257, 259, 258));
  EXPECT_THAT(tokenizer->encode("<call><|", SpecialTokens::kAsText), ElementsAre(259, '<', '|'));
  EXPECT_TRUE(tokenizer->is_special(258));
  EXPECT_FALSE(tokenizer->is_special(259));
  EXPECT_EQ(tokenizer->bos_id(), std::nullopt);
  EXPECT_THAT(tokenizer->encode_prompt("ab", SpecialTokens::kParse), ElementsAre(256));
}

TEST(TokenizerJson, BothSpellingsOfMerges) {
  const json pairs = with([](json& file) {
    file["model"]["merges"] = json::array({json::array({"a", "b"}), json::array({"\u0120", "a"})});
  });
  const TokenizerPointer tokenizer = must(parse_tokenizer_json(pairs.dump()));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(tokenizer->encode("ab a", SpecialTokens::kAsText), ElementsAre(256, 257));
}

TEST(TokenizerJson, PreTokenizers) {
  const std::pair<json, std::vector<TokenId>> rows[] = {
      {byte_level(true), {'1', '1', 257, 'b'}},
      {json::array({byte_level(false)}), {'1', '1', 257, 'b'}},
      {json::array({split_step("a"), byte_level(false)}), {'1', '1', ' ', 'a', 'b'}},
      {json::array({split_step("a|b"), split_step("1"), byte_level(true)}),
       {'1', '1', ' ', 'a', 'b'}},
      {json::array({{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)}),
       {'1', '1', 257, 'b'}},
      {json::array({json::parse(R"({"type": "Sequence", "pretokenizers": []})"), byte_level(true)}),
       {'1', '1', 257, 'b'}},
  };
  for (const auto& [steps, wanted] : rows) {
    const json file = with([&](json& f) {
      f["model"]["merges"] = {"\u0120 a", "a b"};
      if (steps.is_array()) {
        set_steps(f, steps);
      } else {
        f["pre_tokenizer"] = steps;
      }
    });
    const TokenizerPointer tokenizer = must(parse_tokenizer_json(file.dump()));
    ASSERT_NE(tokenizer, nullptr) << steps;
    EXPECT_EQ(tokenizer->encode("11 ab", SpecialTokens::kAsText), wanted) << steps;
  }
  // Runs of digits against single ones.
  for (const bool single : {false, true}) {
    const json file = with([&](json& f) {
      f["model"]["vocab"]["11"] = 260;
      f["model"]["merges"] = {"1 1"};
      set_steps(
          f, json::array({{{"type", "Digits"}, {"individual_digits", single}}, byte_level(false)}));
    });
    const TokenizerPointer tokenizer = must(parse_tokenizer_json(file.dump()));
    ASSERT_NE(tokenizer, nullptr);
    EXPECT_EQ(tokenizer->encode("11", SpecialTokens::kAsText),
              single ? (std::vector<TokenId>{'1', '1'}) : (std::vector<TokenId>{260}));
  }
}

json template_of(const json& single) {
  return {{"type", "TemplateProcessing"}, {"single", single}};
}

TEST(TokenizerJson, BosComesFromTemplateOrConfig) {
  const json bos_piece = {{"SpecialToken", {{"id", "<|bos|>"}, {"type_id", 0}}}};
  const json text_piece = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  struct Row {
    json post_processor;
    std::string config;
    bool has_bos;
    bool adds;
  };
  const Row rows[] = {
      {nullptr, "", false, false},
      {byte_level(true), "", false, false},
      {template_of(json::array({text_piece})), "", false, false},
      {template_of(json::array({bos_piece, text_piece})), "", true, true},
      {template_of(json::array({bos_piece, text_piece})), "{}", true, true},
      {template_of(json::array({bos_piece, text_piece})), R"({"add_bos_token": false})", true,
       false},
      {nullptr, R"({"bos_token": "<|bos|>"})", true, false},
      {nullptr, R"({"bos_token": {"content": "<|bos|>"}, "add_bos_token": true})", true, true},
      {nullptr, R"({"bos_token": null, "add_bos_token": false})", false, false},
  };
  for (const Row& row : rows) {
    const json file = with([&](json& f) { f["post_processor"] = row.post_processor; });
    const TokenizerPointer tokenizer = must(parse_tokenizer_json(file.dump(), row.config));
    ASSERT_NE(tokenizer, nullptr) << row.config;
    EXPECT_EQ(tokenizer->bos_id().has_value(), row.has_bos) << row.config;
    EXPECT_EQ(tokenizer->adds_bos(), row.adds) << row.config;
    EXPECT_EQ(tokenizer->encode_prompt("ab", SpecialTokens::kAsText).size(), row.adds ? 2U : 1U);
  }
  const std::string plain = small_file().dump();
  EXPECT_THAT(refusal(plain, R"({"bos_token": "<s>"})"), HasSubstr("\"<s>\" is not among"));
  EXPECT_THAT(refusal(plain, R"({"add_bos_token": true})"), HasSubstr("no file names the BOS"));
  EXPECT_THAT(refusal(plain, "[]"), StartsWith("tokenizer_config.json: not a JSON object"));
  for (const json& single :
       {json::array({text_piece, bos_piece}), json::array({bos_piece, bos_piece, text_piece})}) {
    EXPECT_THAT(refusal([&](json& f) { f["post_processor"] = template_of(single); }),
                HasSubstr("more than one token in front"));
  }
}

TEST(TokenizerJson, RefusesByNameWhatItDoesNotUnderstand) {
  const std::pair<std::function<void(json&)>, const char*> rows[] = {
      {[](json& f) { f["model"]["type"] = "Unigram"; }, "\"Unigram\""},
      {[](json& f) { f["model"]["type"] = 7; }, "model.type"},
      {[](json& f) { f["model"] = 7; }, "model.type"},
      {[](json& f) { f["model"]["dropout"] = 0.1; }, "model.dropout"},
      {[](json& f) { f["model"]["byte_fallback"] = true; }, "model.byte_fallback"},
      {[](json& f) { f["model"]["fuse_unk"] = true; }, "model.fuse_unk"},
      {[](json& f) { f["model"]["end_of_word_suffix"] = "</w>"; }, "\"</w>\""},
      {[](json& f) { f["model"]["continuing_subword_prefix"] = "##"; }, "\"##\""},
      {[](json& f) { f["normalizer"] = {{"type", "NFC"}}; }, "normalizer \"NFC\""},
      {[](json& f) {
         f["normalizer"] = json::parse(R"({"type": "Sequence", "normalizers": [{"type": "NFC"}]})");
       },
       "normalizer"},
      {[](json& f) { f["decoder"] = {{"type", "Metaspace"}}; }, "decoder \"Metaspace\""},
      {[](json& f) { f["pre_tokenizer"] = nullptr; }, "pre-tokenizer"},
      {[](json& f) { f["pre_tokenizer"] = {{"type", "Metaspace"}}; }, "\"Metaspace\""},
      {[](json& f) { f["pre_tokenizer"]["add_prefix_space"] = true; }, "add_prefix_space"},
      {[](json& f) { set_steps(f, json::array({split_step("a")})); }, "no ByteLevel"},
      {[](json& f) { set_steps(f, json::array({byte_level(true), split_step("a")})); },
       "behind ByteLevel"},
      {[](json& f) {
         set_steps(f, json::array({{{"type", "Split"}, {"pattern", {{"String", "a"}}}},
                                   byte_level(false)}));
       },
       "\"Regex\""},
      {[](json& f) {
         json step = split_step("a");
         step["behavior"] = "Removed";
         set_steps(f, json::array({step, byte_level(false)}));
       },
       "\"Removed\""},
      {[](json& f) {
         json step = split_step("a");
         step["invert"] = true;
         set_steps(f, json::array({step, byte_level(false)}));
       },
       "inverted"},
      {[](json& f) { set_steps(f, json::array({split_step("("), byte_level(false)})); },
       "pattern \"(\""},
      {[](json& f) { set_steps(f, json::array({split_step("(a+)+b"), byte_level(false)})); },
       "steps"},
      {[](json& f) { set_steps(f, json::array_t(17, split_step("a"))); }, "more than 16"},
      {[](json& f) { f["post_processor"] = {{"type", "RobertaProcessing"}}; }, "Roberta"},
      {[](json& f) { f["added_tokens"][1]["lstrip"] = true; }, "\"<call>\" has lstrip"},
      {[](json& f) { f["added_tokens"][1]["single_word"] = true; }, "single_word"},
  };
  for (const auto& [change, wanted] : rows) {
    EXPECT_THAT(refusal(change), AllOf(HasSubstr(wanted), Not("accepted"), Not(HasSubstr("\n"))));
  }
}

TEST(TokenizerJson, RefusesContradictions) {
  const std::pair<std::function<void(json&)>, const char*> rows[] = {
      {[](json& f) { f["model"].erase("vocab"); }, "model.vocab"},
      {[](json& f) { f["model"]["vocab"] = json::object(); }, "merge 0 joins"},
      {[](json& f) { f["model"]["vocab"]["x1"] = 256; }, "gives the id 256 to"},
      {[](json& f) { f["model"]["vocab"][""] = 300; }, "empty token"},
      {[](json& f) { f["model"]["vocab"]["x1"] = -1; }, "has the id -1"},
      {[](json& f) { f["model"]["vocab"]["x1"] = 1.5; }, "has the id 1.5"},
      {[](json& f) { f["model"]["vocab"]["x1"] = "7"; }, "has the id \"7\""},
      {[](json& f) { f["model"]["vocab"]["x1"] = json::array(); }, "has the id array"},
      {[](json& f) { f["model"]["vocab"]["x1"] = 1U << 20; }, "has the id 1048576"},
      {[](json& f) { f["model"]["vocab"]["x1"] = ~std::uint64_t{0}; }, "18446744073709551615"},
      {[](json& f) { f["added_tokens"][0]["id"] = 1U << 31; }, "\"<|bos|>\" has the id 2147483648"},
      {[](json& f) { f["added_tokens"][0].erase("id"); }, "\"<|bos|>\" has the id null"},
      {[](json& f) { f["added_tokens"][0].erase("content"); }, "no \"content\""},
      {[](json& f) { f["added_tokens"][0] = 7; }, "no \"content\""},
      {[](json& f) { f["added_tokens"] = 7; }, "not a list"},
      {[](json& f) { f["added_tokens"][0]["id"] = 5; }, "does not fit"},
      {[](json& f) { f["added_tokens"][0]["id"] = 259; }, "does not fit"},
      {[](json& f) { f["added_tokens"][0]["content"] = "ab"; }, "does not fit"},
      {[](json& f) { f["added_tokens"][0]["content"] = "<call>"; }, "have the same text"},
      {[](json& f) { f["added_tokens"][0] = {{"id", 257}, {"content", "\u0120a"}}; },
       "spelling of other bytes"},
      {[](json& f) { f["model"]["merges"] = "a b"; }, "model.merges is not a list"},
      {[](json& f) { f["model"]["merges"][1] = "a  b"; }, "merge 1 is \"a  b\""},
      {[](json& f) { f["model"]["merges"][1] = "ab"; }, "merge 1 is \"ab\""},
      {[](json& f) { f["model"]["merges"][1] = "b zz"; }, "\"zz\" is not in the vocabulary"},
      {[](json& f) { f["model"]["merges"][1] = "b a"; }, "\"ba\" is not in the vocabulary"},
      {[](json& f) { f["model"]["merges"][1] = json::array({"a"}); }, "merge 1 is neither"},
      {[](json& f) { f["model"]["merges"][1] = json::array({"a", 7}); }, "merge 1 is neither"},
      {[](json& f) { f["model"]["merges"][1] = json::array({"", "a"}); },
       "\"\" is not in the vocabulary"},
  };
  for (const auto& [change, wanted] : rows) {
    const std::string message = refusal(change);
    EXPECT_THAT(message, AllOf(HasSubstr(wanted), Not("accepted"), Not(HasSubstr("\n"))));
  }
}

TEST(TokenizerJson, RefusesWhatIsNotJson) {
  const std::string good = small_file().dump();
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("<!DOCTYPE html>\n<html>"), good + "x",
        good.substr(0, good.size() / 2), std::string("{\"a\": \"\xFF\"}"), std::string("\0", 1),
        std::string("version https://git-lfs.example/spec/v1\noid sha256:0\n")}) {
    EXPECT_THAT(refusal(text), AllOf(HasSubstr("not a JSON object"), Not(HasSubstr("\n"))));
  }
  // Deep nesting must not use up the stack.
  for (const char* opening : {"[", "{\"a\":"}) {
    std::string deep = "{\"model\": ";
    for (int i = 0; i < 500'000; ++i) deep += opening;
    EXPECT_THAT(refusal(deep), HasSubstr("not a JSON object"));
  }
  std::string deep = "{\"model\": " + std::string(500'000, '[') + std::string(500'000, ']') + "}";
  EXPECT_THAT(refusal(deep), HasSubstr("model.type"));
  json nested = byte_level(true);
  for (int i = 0; i < 6; ++i)
    nested = {{"type", "Sequence"}, {"pretokenizers", json::array({nested})}};
  EXPECT_THAT(refusal([&](json& f) { f["pre_tokenizer"] = nested; }), HasSubstr("\"Sequence\""));
}

TEST(TokenizerJson, NamesTheFileAndReadsItsNeighbour) {
  std::string folder = std::string(TG_BINARY_DIR) + "/tokenizer-json-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/tokenizer.json";
  const std::string config = folder + "/tokenizer_config.json";
  const auto message = [&] {
    const auto tokenizer = load_tokenizer_json(path);
    return tokenizer ? "accepted" : tokenizer.error().text();
  };
  EXPECT_THAT(message(), HasSubstr(path));
  std::ofstream(path) << "{";
  EXPECT_THAT(message(), StartsWith(path + ": not a JSON object"));
  std::ofstream(path) << small_file().dump();
  EXPECT_EQ(message(), "accepted");
  std::ofstream(config) << R"({"bos_token": "<|bos|>", "add_bos_token": true})";
  EXPECT_TRUE(must(load_tokenizer_json(path))->adds_bos());
  std::ofstream(config) << "x";
  EXPECT_THAT(message(), HasSubstr("tokenizer_config.json: not a JSON object"));
  ::unlink(path.c_str());
  ::unlink(config.c_str());
  ::rmdir(folder.c_str());
}

TEST(TokenizerJson, HolesInTheIdsAreNoTokens) {
  const json file = with([](json& f) { f["model"]["vocab"]["abc"] = 1000; });
  const TokenizerPointer tokenizer = must(parse_tokenizer_json(file.dump()));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocab_size(), 1001);
  EXPECT_EQ(tokenizer->token_bytes(999), "");
  EXPECT_EQ(tokenizer->token_bytes(1000), "abc");
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{999, 1000}, false), "abc");
}

}  // namespace
}  // namespace tg
