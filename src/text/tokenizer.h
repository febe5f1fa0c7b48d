// What: text to token ids and back, for byte-level BPE vocabularies: Llama 3's tokenizer.model,
//   Hugging Face's tokenizer.json and the vocabulary inside a GGUF file.
//
//   Special tokens in a text stay text unless the caller asks for them, so that a user cannot end
//   his own turn by writing <|eot_id|>. Bytes that are not UTF-8 are encoded too, as bytes:
//   decode() gives U+FFFD for them, and token_bytes() the bytes themselves. What is
//   lost is only a byte that the vocabulary has no token for (see BytePairEncoder::build); Llama 3
//   has one for each.
// Who owns: shared; fixed after loading. Thread: everything is const and may run on any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token_id.h"
#include "text/byte_pair_encoder.h"
#include "text/gguf_vocabulary.h"
#include "text/pre_tokenizer.h"
#include "text/special_finder.h"
#include "text/token_table.h"

namespace tg {

enum class SpecialTokens {
  kAsText,  // the text of a special token is ordinary text
  kParse,   // it becomes the token; the longest one wins
};

enum class TokenKind : std::uint8_t {
  kNormal,   // made by merging
  kSpecial,  // control token: parsed only when asked for, left out of text when asked for
  kAdded,    // "added but not special", "user defined": always parsed
};

// What a loader knows; checked and indexed by Tokenizer::build().
struct TokenizerParts {
  std::vector<TokenTable::Token> tokens;      // by id
  std::vector<TokenKind> kinds;               // of each token
  std::vector<SpecialFinder::Entry> aliases;  // further texts of special tokens
  std::vector<Merge> merges;
  bool whole_pieces_first = false;  // "ignore_merges"
  std::optional<TokenId> unknown;   // for bytes that the vocabulary lacks
  PreTokenizer pre_tokenizer;
  std::optional<TokenId> bos;
  bool adds_bos = false;  // not without bos
};

class Tokenizer {
 public:
  // kBadInput when two special tokens have one text; the errors of BytePairEncoder::build.
  static Result<std::shared_ptr<const Tokenizer>> build(TokenizerParts parts);

  // The tokens of the text, without BOS. A million equal letters take about a second.
  // A text on which a split pattern from a file needs more work than is allowed for its length (see
  // split_pattern.h; the known patterns cannot) is merged as one piece from there on: other tokens,
  // but still tokens of this text.
  std::vector<TokenId> encode(std::string_view text, SpecialTokens mode) const;

  // A prompt as the model wants it: BOS and the tokens of the text. A text that already begins with
  // the text of BOS gets no second one, whatever the mode.
  std::vector<TokenId> encode_prompt(std::string_view text, SpecialTokens mode) const;

  // The raw bytes of a token, and the text of a special one. Empty for an id that does not exist.
  // Lives as long as the tokenizer.
  std::string_view token_bytes(TokenId id) const { return tokens_.bytes(id); }

  // The bytes of all ids in a row, as UTF-8: U+FFFD for each maximal invalid part (see utf8.h).
  std::string decode(std::span<const TokenId> ids, bool skip_special) const;

  bool is_special(TokenId id) const;
  // The id of a special or added token by its text; of tokenizer.model both names of a token.
  std::optional<TokenId> find_special(std::string_view text) const { return parsed_.id_of(text); }

  // The first special or added token's text at or after `from`.
  std::optional<SpecialFinder::Found> find_special_in(std::string_view text,
                                                      std::size_t from) const {
    return parsed_.find(text, from);
  }

  // One more than the highest id.
  std::int64_t vocab_size() const { return tokens_.size(); }
  std::optional<TokenId> bos_id() const { return bos_; }
  // Whether a prompt for this model starts with BOS.
  bool adds_bos() const { return adds_bos_; }

  // Those of <|end_of_text|>, <|eom_id|> and <|eot_id|> that exist, ascending: what ends an answer
  // of a checkpoint that has no generation_config.json.
  std::vector<TokenId> default_stop_ids() const;

 private:
  Tokenizer() = default;
  struct Work;

  void append_text(std::string_view text, Work& work, std::vector<TokenId>& ids) const;

  TokenTable tokens_;
  std::vector<TokenKind> kinds_;
  SpecialFinder parsed_;         // special and added tokens
  SpecialFinder always_parsed_;  // added tokens
  PreTokenizer pre_tokenizer_;
  BytePairEncoder encoder_;
  std::optional<TokenId> bos_;
  bool adds_bos_ = false;
};

// tokenizer.model as Meta publishes it with Llama 3: one "base64 rank" a line, then the 256 special
// tokens of Llama 3 behind the last rank. Their texts are Hugging Face's names; Meta's <|step_id|>
// and <|image|> are understood too. kBadInput for anything else; kUnsupported for a SentencePiece
// model (Llama 2), which has the same file name.
Result<std::shared_ptr<const Tokenizer>> load_tiktoken(const std::string& path);
Result<std::shared_ptr<const Tokenizer>> parse_tiktoken(std::string_view bytes);

// tokenizer.json of a byte-level BPE model. What is not understood is refused by name
// (kUnsupported). BOS is what the post-processor puts in front; a tokenizer_config.json in the same
// folder may name BOS ("bos_token") and overrule whether it is added ("add_bos_token").
Result<std::shared_ptr<const Tokenizer>> load_tokenizer_json(const std::string& path);
// `config` is the text of tokenizer_config.json, empty when there is none.
Result<std::shared_ptr<const Tokenizer>> parse_tokenizer_json(std::string_view json,
                                                              std::string_view config = {});

// The vocabulary of a GGUF file. SentencePiece vocabularies and unknown pre-tokenizers are
// kUnsupported by name; so is a file that names none ("default"), because nobody knows then how the
// model's text was split, and a wrong guess only shows as bad answers.
Result<std::shared_ptr<const Tokenizer>> make_gguf_tokenizer(const GgufVocabulary& vocabulary);

}  // namespace tg
