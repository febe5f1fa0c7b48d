// Byte-pair encoding against the definition written down, and its cost on the worst texts.
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <random>

#include "tokenizer_forms.h"

namespace tg {
namespace {

using testing::ElementsAre;

// The definition: again and again the pair of lowest rank, the leftmost of equals.
std::vector<TokenId> merge_by_definition(
    std::vector<TokenId> ids, const std::map<std::pair<TokenId, TokenId>, Merge>& merges) {
  for (;;) {
    std::size_t best = ids.size();
    const Merge* best_merge = nullptr;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto merge = merges.find({ids[i], ids[i + 1]});
      if (merge == merges.end()) continue;
      if (best_merge == nullptr || merge->second.rank < best_merge->rank) {
        best = i;
        best_merge = &merge->second;
      }
    }
    if (best_merge == nullptr) return ids;
    ids[best] = best_merge->merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

std::vector<TokenTable::Token> all_bytes() {
  std::vector<TokenTable::Token> tokens;
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back({std::string(1, static_cast<char>(byte)), true});
  }
  return tokens;
}

TEST(BytePairEncoder, AgreesWithTheDefinition) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    // Random merges over three letters; equal bytes get equal tokens, and ranks may tie.
    std::vector<TokenTable::Token> tokens = all_bytes();
    std::vector<TokenId> known = {'a', 'b', 'c'};
    std::vector<Merge> merges;
    std::map<std::pair<TokenId, TokenId>, Merge> by_pair;
    for (int i = 0; i < 12; ++i) {
      const TokenId left = known[random() % known.size()];
      const TokenId right = known[random() % known.size()];
      const std::string bytes = tokens[static_cast<std::size_t>(left)].bytes +
                                tokens[static_cast<std::size_t>(right)].bytes;
      const auto same = std::find_if(tokens.begin(), tokens.end(),
                                     [&](const auto& token) { return token.bytes == bytes; });
      const auto merged = static_cast<TokenId>(same - tokens.begin());
      if (same == tokens.end()) {
        tokens.push_back({bytes, true});
        known.push_back(merged);
      }
      const Merge merge{left, right, merged, static_cast<std::uint32_t>(random() % 8)};
      merges.push_back(merge);
      const auto [at, added] = by_pair.emplace(std::pair(left, right), merge);
      if (!added && merge.rank < at->second.rank) at->second = merge;
    }
    const TokenTable table(tokens);
    const auto encoder = BytePairEncoder::build(table, merges, false, std::nullopt);
    ASSERT_TRUE(encoder);
    BytePairEncoder::Scratch scratch;
    for (int text = 0; text < 20; ++text) {
      std::string piece(random() % 60, 'a');
      for (char& c : piece) c = static_cast<char>('a' + random() % 3);
      std::vector<TokenId> ids;
      encoder->append(piece, table, scratch, ids);
      EXPECT_EQ(ids, merge_by_definition({piece.begin(), piece.end()}, by_pair)) << piece;
    }
  }
}

TEST(BytePairEncoder, WholePiecesFirstOnlyWhenAsked) {
  std::vector<TokenTable::Token> tokens = all_bytes();
  tokens.push_back({"abc", true});   // 256: no merge makes it
  tokens.push_back({"xyz", false});  // 257: not to be found in text
  const TokenTable table(tokens);
  BytePairEncoder::Scratch scratch;
  for (const bool whole : {false, true}) {
    const auto encoder = BytePairEncoder::build(table, {}, whole, std::nullopt);
    ASSERT_TRUE(encoder);
    std::vector<TokenId> ids;
    encoder->append("abc", table, scratch, ids);
    encoder->append("xyz", table, scratch, ids);
    encoder->append("", table, scratch, ids);
    if (whole) {
      EXPECT_THAT(ids, ElementsAre(256, 'x', 'y', 'z'));
    } else {
      EXPECT_THAT(ids, ElementsAre('a', 'b', 'c', 'x', 'y', 'z'));
    }
  }
}

TEST(BytePairEncoder, BytesThatTheVocabularyLacks) {
  std::vector<TokenTable::Token> tokens = {
      {"a", true}, {"b", true}, {"ab", true}, {"<unk>", false}};
  const TokenTable table(tokens);
  const std::vector<Merge> merges = {{0, 1, 2, 0}};
  BytePairEncoder::Scratch scratch;
  std::vector<TokenId> ids;
  BytePairEncoder::build(table, merges, false, std::nullopt)->append("xaxb", table, scratch, ids);
  EXPECT_THAT(ids, ElementsAre(2));
  ids.clear();
  BytePairEncoder::build(table, merges, false, 3)->append("xaxb", table, scratch, ids);
  EXPECT_THAT(ids, ElementsAre(3, 0, 3, 1));
  EXPECT_FALSE(BytePairEncoder::build(TokenTable(), {}, false, std::nullopt));
}

// "A million equal letters encode in about a second": measured 0.3 s; the limit leaves room for a
// busy machine and for sanitizers.
TEST(BytePairEncoder, AMillionOfAnythingIsFast) {
  const TokenizerPointer tokenizer = llama3_tokenizer();
  ASSERT_NE(tokenizer, nullptr);
  for (const char* unit : {"a", " ", "\n", "!", "1", "\xFF", "\xE4\xB8\xAD", "ab", "<|"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const std::vector<TokenId> ids = tokenizer->encode(text, SpecialTokens::kParse);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    EXPECT_LT(took.count(), 15.0) << unit;
    std::string bytes;
    for (const TokenId id : ids) bytes += tokenizer->token_bytes(id);
    EXPECT_EQ(bytes == text, true) << unit;
  }
}

}  // namespace
}  // namespace tg
