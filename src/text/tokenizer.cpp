#include "text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace tg {

struct Tokenizer::Work {
  SplitWork splitting;
  std::vector<std::string_view> pieces;
  BytePairEncoder::Scratch merging;
};

Result<std::shared_ptr<const Tokenizer>> Tokenizer::build(TokenizerParts parts) {
  TG_CHECK(parts.kinds.size() == parts.tokens.size());
  std::vector<SpecialFinder::Entry> parsed = std::move(parts.aliases);
  std::vector<SpecialFinder::Entry> always_parsed;
  for (std::size_t i = 0; i < parts.tokens.size(); ++i) {
    if (parts.kinds[i] == TokenKind::kNormal || parts.tokens[i].bytes.empty()) continue;
    parsed.push_back({parts.tokens[i].bytes, static_cast<TokenId>(i)});
    if (parts.kinds[i] == TokenKind::kAdded) always_parsed.push_back(parsed.back());
  }
  std::sort(parsed.begin(), parsed.end(),
            [](const auto& a, const auto& b) { return a.text < b.text; });
  const auto twin = std::adjacent_find(
      parsed.begin(), parsed.end(), [](const auto& a, const auto& b) { return a.text == b.text; });
  if (twin != parsed.end()) {
    return error(ErrorCode::kBadInput, "the special tokens {} and {} have the same text {}",
                 twin->id, (twin + 1)->id, shown_text(twin->text));
  }

  Tokenizer tokenizer;
  tokenizer.tokens_ = TokenTable(std::move(parts.tokens));
  TG_ASSIGN(tokenizer.encoder_, BytePairEncoder::build(tokenizer.tokens_, parts.merges,
                                                       parts.whole_pieces_first, parts.unknown));
  tokenizer.kinds_ = std::move(parts.kinds);
  tokenizer.parsed_ = SpecialFinder(std::move(parsed));
  tokenizer.always_parsed_ = SpecialFinder(std::move(always_parsed));
  tokenizer.pre_tokenizer_ = std::move(parts.pre_tokenizer);
  tokenizer.bos_ = parts.bos;
  tokenizer.adds_bos_ = parts.adds_bos && parts.bos.has_value();
  return std::make_shared<const Tokenizer>(std::move(tokenizer));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, SpecialTokens mode) const {
  const SpecialFinder& finder = mode == SpecialTokens::kParse ? parsed_ : always_parsed_;
  std::vector<TokenId> ids;
  Work work{pre_tokenizer_.work_for(text.size()), {}, {}};
  std::size_t at = 0;
  while (at < text.size()) {
    const std::optional<SpecialFinder::Found> found = finder.find(text, at);
    append_text(text.substr(at, (found ? found->begin : text.size()) - at), work, ids);
    if (!found) break;
    ids.push_back(found->id);
    at = found->begin + found->length;
  }
  return ids;
}

// Valid stretches are split by the pattern. What lies between them is not characters, so no pattern
// applies: each such stretch is one piece, merged as bytes.
void Tokenizer::append_text(std::string_view text, Work& work, std::vector<TokenId>& ids) const {
  while (!text.empty()) {
    const std::size_t valid = valid_utf8_prefix(text);
    pre_tokenizer_.split(text.substr(0, valid), work.splitting, work.pieces);
    for (const std::string_view piece : work.pieces) {
      encoder_.append(piece, tokens_, work.merging, ids);
    }
    text.remove_prefix(valid);
    std::size_t invalid = 0;
    while (invalid < text.size()) {
      const Utf8Step step = utf8_step(text.substr(invalid));
      if (step.kind == Utf8Step::Kind::kCharacter) break;
      invalid += step.length;
    }
    if (invalid > 0) encoder_.append(text.substr(0, invalid), tokens_, work.merging, ids);
    text.remove_prefix(invalid);
  }
}

std::vector<TokenId> Tokenizer::encode_prompt(std::string_view text, SpecialTokens mode) const {
  if (!adds_bos_) return encode(text, mode);
  const std::string_view bos_text = token_bytes(*bos_);
  if (!bos_text.empty() && text.starts_with(bos_text)) text.remove_prefix(bos_text.size());
  std::vector<TokenId> ids = encode(text, mode);
  ids.insert(ids.begin(), *bos_);
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (!skip_special || !is_special(id)) bytes += token_bytes(id);
  }
  std::string text;
  text.reserve(bytes.size());
  if (append_replacing_invalid(bytes, text) < bytes.size()) text += kReplacementCharacter;
  return text;
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && id < vocab_size() &&
         kinds_[static_cast<std::size_t>(id)] == TokenKind::kSpecial;
}

std::vector<TokenId> Tokenizer::default_stop_ids() const {
  std::vector<TokenId> ids;
  for (const std::string_view name : {"<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"}) {
    if (const std::optional<TokenId> id = find_special(name)) ids.push_back(*id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace tg
