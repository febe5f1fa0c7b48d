// The vocabulary of a GGUF file as a tokenizer. See tokenizer.h.
#include <array>
#include <utility>

#include "text/byte_alphabet.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include "text/vocabulary_parts.h"

namespace tg {
namespace {

// A pre-tokenizer by llama.cpp's name for it.
struct NamedPreTokenizer {
  std::string_view name;
  std::array<std::string_view, 2> patterns;  // the second may be empty: none
  bool whole_pieces_first;  // "ignore_merges", which is not in the file but tied to the name
};

constexpr NamedPreTokenizer kKnown[] = {
    {"llama-bpe", {kLlama3Pattern}, true}, {"llama3", {kLlama3Pattern}, true},
    {"llama-v3", {kLlama3Pattern}, true},  {"smollm", {kSingleDigitsPattern, kGpt2Pattern}, false},
    {"gpt-2", {kGpt2Pattern}, false},      {"gpt2", {kGpt2Pattern}, false},
    {"qwen2", {kQwen2Pattern}, false},
};

Result<NamedPreTokenizer> find_pre_tokenizer(std::string_view name) {
  std::string names;
  for (const NamedPreTokenizer& known : kKnown) {
    if (known.name == name) return known;
    names += names.empty() ? "" : ", ";
    names += known.name;
  }
  if (name.empty() || name == "default") {
    return error(
        ErrorCode::kUnsupported,
        "the file does not name its pre-tokenizer (tokenizer.ggml.pre), so how its text is "
        "split is unknown; convert the model again with a newer converter");
  }
  return error(ErrorCode::kUnsupported, "the pre-tokenizer {} is not one of {}", shown_text(name),
               names);
}

TokenKind kind_of(std::int32_t type) {
  switch (type) {
    case 2:  // the "unknown" token: no text becomes it, but its own name may be parsed
    case 3:  // control
      return TokenKind::kSpecial;
    case 4:
      return TokenKind::kAdded;
    default:
      return TokenKind::kNormal;
  }
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> make_gguf_tokenizer(const GgufVocabulary& vocabulary) {
  if (vocabulary.model != "gpt2") {
    return error(ErrorCode::kUnsupported,
                 "the tokenizer model is {}; only byte-level BPE (\"gpt2\") is supported",
                 shown_text(vocabulary.model));
  }
  TG_ASSIGN(const NamedPreTokenizer pre, find_pre_tokenizer(vocabulary.pre));
  const auto count = static_cast<std::int64_t>(vocabulary.tokens.size());
  if (count > kMostTokens) {
    return error(ErrorCode::kUnsupported, "{} tokens; at most {} are supported", count,
                 kMostTokens);
  }
  if (!vocabulary.types.empty() && vocabulary.types.size() != vocabulary.tokens.size()) {
    return error(ErrorCode::kBadInput, "{} tokens but {} token types", count,
                 vocabulary.types.size());
  }
  if (vocabulary.bos && (*vocabulary.bos < 0 || *vocabulary.bos >= count)) {
    return error(ErrorCode::kBadInput, "BOS is token {}, but there are {} tokens", *vocabulary.bos,
                 count);
  }
  TokenizerParts parts;
  SpellingIds ids;
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const std::string& spelled = vocabulary.tokens[i];
    const TokenKind kind =
        vocabulary.types.empty() ? TokenKind::kNormal : kind_of(vocabulary.types[i]);
    parts.kinds.push_back(kind);
    // Control and user-defined tokens are stored as the text itself, not in the byte alphabet.
    parts.tokens.push_back(kind == TokenKind::kNormal ? token_of_spelling(spelled)
                                                      : TokenTable::Token{spelled, false});
    // Merging may only make what decodes to the bytes that were merged.
    if (kind == TokenKind::kNormal ||
        (kind == TokenKind::kAdded && bytes_of_spelling(spelled) == spelled)) {
      ids.emplace(spelled, static_cast<TokenId>(i));
    }
  }
  for (std::size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    TG_ASSIGN(const auto sides, cut_merge(vocabulary.merges[rank], rank));
    TG_ASSIGN(const Merge merge, resolve_merge(sides.first, sides.second, rank, ids));
    parts.merges.push_back(merge);
  }
  for (const std::string_view pattern : pre.patterns) {
    if (!pattern.empty()) TG_RETURN_IF_ERROR(parts.pre_tokenizer.add(pattern));
  }
  parts.whole_pieces_first = pre.whole_pieces_first;
  parts.bos = vocabulary.bos;
  parts.adds_bos = vocabulary.add_bos;
  return Tokenizer::build(std::move(parts));
}

}  // namespace tg
