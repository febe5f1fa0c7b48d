// tokenizer.model of Llama 3: ranks in tiktoken's text format. See tokenizer.h.
#include <array>
#include <charconv>
#include <cstdint>
#include <utility>

#include "text/text_file.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace tg {
namespace {

constexpr std::size_t kSpecialTokens = 256;
// Bounds the work per byte of the file: a token of n bytes has n - 1 possible merges, each looked
// up by its bytes. The longest token of Llama 3 has 128.
constexpr std::size_t kLongestToken = 1024;
constexpr std::size_t kLargestFile = std::size_t{64} << 20;  // Llama 3's has 2 MiB

// The value of a base64 digit; -1 for anything else.
int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

// RFC 4648, with its padding. nullopt for anything else.
std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::size_t padding = 0;
  while (padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++padding;
  }
  std::string bytes;
  std::uint32_t bits = 0;  // those of the digits so far that are not in `bytes` yet
  int count = 0;
  for (const char c : text) {
    const int digit = base64_digit(c);
    if (digit < 0) return std::nullopt;
    bits = (bits << 6) | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes.push_back(static_cast<char>(bits >> count));
      bits &= (1U << count) - 1;
    }
  }
  // What is left over are the zero bits that the padding stands for.
  return bits == 0 ? std::optional(std::move(bytes)) : std::nullopt;
}

struct RankLine {
  std::size_t line;  // from 1, for messages
  std::string bytes;
  std::uint64_t rank;
};

Result<RankLine> parse_line(std::string_view line, std::size_t number) {
  const std::size_t space = line.find(' ');
  std::optional<std::string> bytes = decode_base64(line.substr(0, space));
  const std::string_view digits =
      space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
  std::uint64_t rank = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
  if (!bytes || bytes->empty() || digits.empty() || code != std::errc() ||
      end != digits.data() + digits.size()) {
    return error(ErrorCode::kBadInput, "line {} is not \"base64 rank\" but {}", number,
                 shown_text(line));
  }
  if (bytes->size() > kLongestToken) {
    return error(ErrorCode::kBadInput,
                 "the token of line {} has {} bytes; at most {} are supported", number,
                 bytes->size(), kLongestToken);
  }
  return RankLine{number, *std::move(bytes), rank};
}

Result<std::vector<RankLine>> parse_lines(std::string_view text) {
  if (text.substr(0, 64).find("<unk>") != std::string_view::npos) {
    return error(
        ErrorCode::kUnsupported,
        "this is a SentencePiece model (Llama 2 and older); Llama 3's tokenizer.model is a "
        "text file of \"base64 rank\" lines");
  }
  std::vector<RankLine> lines;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    TG_ASSIGN(RankLine parsed, parse_line(line, number));
    lines.push_back(std::move(parsed));
  }
  if (lines.empty()) return error(ErrorCode::kBadInput, "no ranks: the file is empty");
  return lines;
}

// tokens[rank], each rank once and none missing.
Result<std::vector<TokenTable::Token>> order_by_rank(std::vector<RankLine> lines) {
  std::vector<TokenTable::Token> tokens(lines.size());
  for (RankLine& line : lines) {
    if (line.rank >= tokens.size()) {
      return error(ErrorCode::kBadInput, "line {} has rank {}, but {} ranks must be 0 to {}",
                   line.line, line.rank, tokens.size(), tokens.size() - 1);
    }
    TokenTable::Token& token = tokens[line.rank];
    if (!token.bytes.empty()) {
      return error(ErrorCode::kBadInput, "line {} has rank {}, which an earlier line has",
                   line.line, line.rank);
    }
    token = {std::move(line.bytes), true};
  }
  return tokens;
}

// tiktoken merges the pair whose joined bytes have the lowest rank, so every cut of a token into
// two tokens is a merge of that rank.
Result<std::vector<Merge>> merges_of(const TokenTable& tokens) {
  std::vector<Merge> merges;
  for (TokenId id = 0; id < tokens.size(); ++id) {
    const std::string_view bytes = tokens.bytes(id);
    if (const std::optional<TokenId> same = tokens.id_of(bytes); same != id) {
      return error(ErrorCode::kBadInput, "ranks {} and {} are the same token {}", *same, id,
                   shown_text(bytes));
    }
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      const std::optional<TokenId> left = tokens.id_of(bytes.substr(0, cut));
      if (!left) continue;
      const std::optional<TokenId> right = tokens.id_of(bytes.substr(cut));
      if (right) merges.push_back({*left, *right, id, static_cast<std::uint32_t>(id)});
    }
  }
  return merges;
}

// The texts of Llama 3's special tokens in id order, by Hugging Face's names.
std::vector<std::string> special_texts() {
  std::array<std::string_view, 11> named = {};  // empty: reserved
  named[0] = "begin_of_text";
  named[1] = "end_of_text";
  named[4] = "finetune_right_pad_id";
  named[6] = "start_header_id";
  named[7] = "end_header_id";
  named[8] = "eom_id";
  named[9] = "eot_id";
  named[10] = "python_tag";
  std::vector<std::string> texts;
  int reserved = 0;
  for (std::size_t i = 0; i < kSpecialTokens; ++i) {
    if (i < named.size() && !named[i].empty()) {
      texts.push_back(fmt::format("<|{}|>", named[i]));
    } else {
      texts.push_back(fmt::format("<|reserved_special_token_{}|>", reserved++));
    }
  }
  return texts;
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> parse_tiktoken(std::string_view bytes) {
  TG_ASSIGN(std::vector<RankLine> lines, parse_lines(bytes));
  TokenizerParts parts;
  TG_ASSIGN(parts.tokens, order_by_rank(std::move(lines)));
  TG_ASSIGN(parts.merges, merges_of(TokenTable(parts.tokens)));
  parts.whole_pieces_first = true;
  const auto first_special = static_cast<TokenId>(parts.tokens.size());
  parts.kinds.assign(parts.tokens.size(), TokenKind::kNormal);
  for (std::string& text : special_texts()) {
    parts.tokens.push_back({std::move(text), false});
    parts.kinds.push_back(TokenKind::kSpecial);
  }
  // Meta's own names of two that are reserved ones at Hugging Face. (Meta's numbers of the reserved
  // ones behind them are two lower; those names would contradict each other and mean nothing.)
  parts.aliases = {{"<|step_id|>", first_special + 5}, {"<|image|>", first_special + 11}};
  parts.bos = first_special;
  parts.adds_bos = true;
  TG_RETURN_IF_ERROR(parts.pre_tokenizer.add(kLlama3Pattern));
  return Tokenizer::build(std::move(parts));
}

Result<std::shared_ptr<const Tokenizer>> load_tiktoken(const std::string& path) {
  TG_ASSIGN(const MappedFile file, open_text_file(path, kLargestFile));
  auto tokenizer = parse_tiktoken(text_of(file));
  if (!tokenizer) return at_place(std::move(tokenizer).error(), path);
  return tokenizer;
}

}  // namespace tg
