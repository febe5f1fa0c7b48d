// What: for the tests: golden files, and the two golden vocabularies in all three forms. The files
//   tokenizer.json and GGUF of Llama 3 are not public data of ours, so they are made here from the
//   ranks: the same vocabulary, the merges that give the same result, Llama 3's options.
// Who owns: tokenizers are made once per program. Thread: one.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/byte_alphabet.h"
#include "text/gguf_vocabulary.h"
#include "text/tokenizer.h"

namespace tg {

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline nlohmann::json read_json(const std::string& path) {
  return nlohmann::json::parse(read_file(path));
}

inline const std::string kGolden = TG_SOURCE_DIR "/tests/golden/";

// Runs of ids written as [[id, count], ...].
inline std::vector<TokenId> expand(const nlohmann::json& runs) {
  std::vector<TokenId> ids;
  for (const auto& run : runs) ids.insert(ids.end(), run[1].get<std::size_t>(), run[0]);
  return ids;
}

using TokenizerPointer = std::shared_ptr<const Tokenizer>;

// Fails the test and returns nullptr on an error.
inline TokenizerPointer must(Result<TokenizerPointer> result) {
  if (!result) {
    ADD_FAILURE() << result.error().text();
    return nullptr;
  }
  return *result;
}

inline std::string llama3_model_path() { return TG_SOURCE_DIR "/models/llama3-tokenizer.model"; }

// All merges of a rank file, in the order that gives tiktoken's result: by rank of what they make,
// then by their sides.
inline std::vector<std::pair<std::string, std::string>> spelled_merges(const Tokenizer& ranks,
                                                                       TokenId count) {
  std::vector<std::pair<std::string, std::string>> merges;
  std::unordered_map<std::string_view, TokenId> ids;
  for (TokenId id = 0; id < count; ++id) ids.emplace(ranks.token_bytes(id), id);
  for (TokenId id = 0; id < count; ++id) {
    const std::string_view bytes = ranks.token_bytes(id);
    std::vector<std::pair<TokenId, TokenId>> cuts;
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      const auto left = ids.find(bytes.substr(0, cut));
      const auto right = ids.find(bytes.substr(cut));
      if (left != ids.end() && right != ids.end()) cuts.emplace_back(left->second, right->second);
    }
    std::sort(cuts.begin(), cuts.end());
    for (const auto& [left, right] : cuts) {
      merges.emplace_back(spelling_of_bytes(ranks.token_bytes(left)),
                          spelling_of_bytes(ranks.token_bytes(right)));
    }
  }
  return merges;
}

inline nlohmann::json llama3_options_json() {
  return nlohmann::json::parse(R"({
    "normalizer": null,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
    "post_processor": {"type": "Sequence", "processors": [
      {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
      {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}]},
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "ignore_merges": true,
              "byte_fallback": false, "continuing_subword_prefix": null}})");
}

// tokenizer.json of a loaded rank file. `pairs`: merges as ["a","b"] and not as "a b".
inline std::string make_tokenizer_json(const Tokenizer& ranks, TokenId count, bool pairs) {
  nlohmann::json file = llama3_options_json();
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = kLlama3Pattern;
  for (TokenId id = 0; id < count; ++id) {
    file["model"]["vocab"][spelling_of_bytes(ranks.token_bytes(id))] = id;
  }
  auto& merges = file["model"]["merges"] = nlohmann::json::array();
  for (auto& [left, right] : spelled_merges(ranks, count)) {
    if (pairs) {
      merges.push_back({left, right});
    } else {
      merges.push_back(left + " " + right);
    }
  }
  for (TokenId id = count; id < ranks.vocab_size(); ++id) {
    file["added_tokens"].push_back(
        {{"id", id}, {"content", ranks.token_bytes(id)}, {"special", true}, {"lstrip", false}});
  }
  return file.dump();
}

inline GgufVocabulary make_gguf_vocabulary(const Tokenizer& ranks, TokenId count) {
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "llama-bpe";
  for (TokenId id = 0; id < ranks.vocab_size(); ++id) {
    const std::string_view bytes = ranks.token_bytes(id);
    vocabulary.tokens.push_back(id < count ? spelling_of_bytes(bytes) : std::string(bytes));
    vocabulary.types.push_back(id < count ? 1 : 3);
  }
  for (auto& [left, right] : spelled_merges(ranks, count)) {
    vocabulary.merges.push_back(left + " " + right);
  }
  vocabulary.bos = count;
  vocabulary.add_bos = true;
  return vocabulary;
}

// The Llama 3 vocabulary out of tokenizer.model; a failure that says what to do when it is absent.
inline TokenizerPointer llama3_tokenizer() {
  static const TokenizerPointer tokenizer = [] {
    std::ifstream file(llama3_model_path());
    if (!file.good()) {
      ADD_FAILURE() << llama3_model_path()
                    << " is absent; tools/fetch_model.sh tokenizer brings it";
      return TokenizerPointer();
    }
    return must(load_tiktoken(llama3_model_path()));
  }();
  return tokenizer;
}

}  // namespace tg
