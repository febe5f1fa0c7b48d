// Hugging Face's tokenizer.json of a byte-level BPE model. See tokenizer.h.
//   Calls nothing of the JSON library that throws: every value's kind is looked at before it is
//   used. "truncation" and "padding" are about batches, not about text, and are not read.
#include <nlohmann/json.hpp>
#include <utility>

#include "text/byte_alphabet.h"
#include "text/text_file.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include "text/vocabulary_parts.h"

namespace tg {
namespace {

using nlohmann::json;

constexpr std::size_t kLargestTokenizer = std::size_t{128} << 20;  // Llama 3's has 9 to 17 MiB
constexpr int kDeepestSequence = 4;

// The value of a key; null when the key is absent or `object` is not an object.
const json& at(const json& object, const char* key) {
  static const json kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

// A string's text; "" for anything else.
std::string_view member_text(const json& object, const char* key) {
  const json& value = at(object, key);
  return value.is_string() ? std::string_view(value.get_ref<const std::string&>())
                           : std::string_view();
}

bool is_true(const json& object, const char* key) {
  const json& value = at(object, key);
  return value.is_boolean() && value.get<bool>();
}

template <typename... Args>
auto unsupported(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorCode::kUnsupported, format, std::forward<Args>(args)...);
}

template <typename... Args>
auto bad(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorCode::kBadInput, format, std::forward<Args>(args)...);
}

Result<json> parse_object(std::string_view text) {
  json value = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded() || !value.is_object()) {
    return bad("not a JSON object; it starts with {}", shown_text(text.substr(0, 60)));
  }
  return value;
}

Result<TokenId> token_id(const json& value, std::string_view token) {
  // Ids are below 2^20, so a number of any other JSON kind cannot be one.
  if (!value.is_number_unsigned() ||
      value.get<std::uint64_t>() >= static_cast<std::uint64_t>(kMostTokens)) {
    return bad("the token {} has the id {}; ids are whole numbers below {}", shown_text(token),
               value.is_primitive() ? value.dump(-1, ' ', true, json::error_handler_t::replace)
                                    : value.type_name(),
               kMostTokens);
  }
  return static_cast<TokenId>(value.get<std::uint64_t>());
}

// Grows the table to hold `id` and says whether its row is still free.
bool make_room(TokenizerParts& parts, TokenId id) {
  const auto row = static_cast<std::size_t>(id);
  if (row >= parts.tokens.size()) {
    parts.tokens.resize(row + 1);
    parts.kinds.resize(row + 1, TokenKind::kNormal);
  }
  return parts.tokens[row].bytes.empty();
}

// Options of model.type BPE that change the result and that byte-level models do not use.
Status check_model(const json& model) {
  if (member_text(model, "type") != "BPE") {
    return unsupported("model.type is {}; only \"BPE\" is supported",
                       shown_text(member_text(model, "type")));
  }
  const json& dropout = at(model, "dropout");
  if (!dropout.is_null() && !(dropout.is_number() && dropout.get<double>() == 0)) {
    return unsupported("model.dropout is set; merging would be random");
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!member_text(model, affix).empty()) {
      return unsupported("model.{} is {}", affix, shown_text(member_text(model, affix)));
    }
  }
  if (is_true(model, "fuse_unk")) return unsupported("model.fuse_unk is not supported");
  if (is_true(model, "byte_fallback")) {
    return unsupported("model.byte_fallback (a converted SentencePiece vocabulary)");
  }
  return {};
}

Status read_vocabulary(const json& model, TokenizerParts& parts, SpellingIds& ids) {
  const json& vocab = at(model, "vocab");
  if (!vocab.is_object()) return bad("model.vocab is not an object");
  for (const auto& [spelled, value] : vocab.items()) {
    TG_ASSIGN(const TokenId id, token_id(value, spelled));
    if (spelled.empty()) return bad("model.vocab has an empty token, id {}", id);
    if (!make_room(parts, id)) {
      return bad("model.vocab gives the id {} to {} and to another token", id, shown_text(spelled));
    }
    parts.tokens[static_cast<std::size_t>(id)] = token_of_spelling(spelled);
    ids.emplace(spelled, id);
  }
  return {};
}

Status read_merges(const json& model, const SpellingIds& ids, TokenizerParts& parts) {
  const json& merges = at(model, "merges");
  if (!merges.is_array()) return bad("model.merges is not a list");
  parts.merges.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const json& merge = merges[rank];
    std::pair<std::string_view, std::string_view> sides;
    if (merge.is_string()) {
      TG_ASSIGN(sides, cut_merge(merge.get_ref<const std::string&>(), rank));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      sides = {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
    } else {
      return bad("merge {} is neither \"left right\" nor [\"left\", \"right\"]", rank);
    }
    TG_ASSIGN(const Merge resolved, resolve_merge(sides.first, sides.second, rank, ids));
    parts.merges.push_back(resolved);
  }
  return {};
}

Status read_added_token(const json& added, const SpellingIds& ids, TokenizerParts& parts) {
  const std::string_view content = member_text(added, "content");
  if (content.empty()) return bad("an added token has no \"content\"");
  TG_ASSIGN(const TokenId id, token_id(at(added, "id"), content));
  for (const char* option : {"single_word", "lstrip", "rstrip"}) {
    if (is_true(added, option)) {
      return unsupported("the added token {} has {}", shown_text(content), option);
    }
  }
  const auto in_vocabulary = ids.find(content);
  const bool free = make_room(parts, id);
  if (in_vocabulary == ids.end() ? !free : in_vocabulary->second != id) {
    return bad("the added token {} has the id {}, which does not fit the other tokens",
               shown_text(content), id);
  }
  TokenTable::Token& token = parts.tokens[static_cast<std::size_t>(id)];
  if (!free && token.bytes != content) {
    return unsupported("the added token {} is at the same time the spelling of other bytes",
                       shown_text(content));
  }
  // What is in the vocabulary too can still be made by merging.
  token.bytes = content;
  parts.kinds[static_cast<std::size_t>(id)] =
      is_true(added, "special") ? TokenKind::kSpecial : TokenKind::kAdded;
  return {};
}

Status read_added_tokens(const json& file, const SpellingIds& ids, TokenizerParts& parts) {
  const json& added = at(file, "added_tokens");
  if (added.is_null()) return {};
  if (!added.is_array()) return bad("added_tokens is not a list");
  for (const json& token : added) TG_RETURN_IF_ERROR(read_added_token(token, ids, parts));
  return {};
}

// A normalizer that changes nothing: none, or a sequence of none.
Status check_normalizer(const json& normalizer) {
  if (normalizer.is_null()) return {};
  const json& parts = at(normalizer, "normalizers");
  if (member_text(normalizer, "type") == "Sequence" && parts.is_array() && parts.empty()) return {};
  return unsupported("the normalizer {} is not supported",
                     shown_text(member_text(normalizer, "type")));
}

Status check_decoder(const json& decoder) {
  if (decoder.is_null() || member_text(decoder, "type") == "ByteLevel") return {};
  return unsupported("the decoder {} is not supported; byte-level BPE has \"ByteLevel\"",
                     shown_text(member_text(decoder, "type")));
}

// Adds the patterns of one pre-tokenizer, and sets `bytes` when it was the last: the step that
// turns pieces into bytes, behind which nothing can be split any more.
Status read_pre_tokenizer(const json& step, int depth, PreTokenizer& patterns, bool& bytes) {
  const std::string_view type = member_text(step, "type");
  if (bytes) return unsupported("the pre-tokenizer {} behind ByteLevel", shown_text(type));
  if (type == "Sequence" && depth < kDeepestSequence) {
    const json& steps = at(step, "pretokenizers");
    if (!steps.is_array()) return bad("a Sequence of pre-tokenizers without a list of them");
    for (const json& inner : steps) {
      TG_RETURN_IF_ERROR(read_pre_tokenizer(inner, depth + 1, patterns, bytes));
    }
    return {};
  }
  if (type == "Split") {
    const json& regex = at(at(step, "pattern"), "Regex");
    if (!regex.is_string()) return unsupported("a Split without a pattern of kind \"Regex\"");
    if (member_text(step, "behavior") != "Isolated" || is_true(step, "invert")) {
      return unsupported("a Split with the behavior {}{}; only \"Isolated\" is supported",
                         shown_text(member_text(step, "behavior")),
                         is_true(step, "invert") ? ", inverted" : "");
    }
    return patterns.add(regex.get_ref<const std::string&>());
  }
  if (type == "Digits") {
    return patterns.add(is_true(step, "individual_digits") ? kSingleDigitsPattern
                                                           : kDigitRunsPattern);
  }
  if (type == "ByteLevel") {
    bytes = true;
    if (is_true(step, "add_prefix_space")) {
      return unsupported("a ByteLevel pre-tokenizer with add_prefix_space");
    }
    const json& use_regex = at(step, "use_regex");  // absent in old files: true
    if (use_regex.is_boolean() && !use_regex.get<bool>()) return {};
    return patterns.add(kGpt2Pattern);
  }
  return unsupported("the pre-tokenizer {} is not supported", shown_text(type));
}

// What a post-processor does with one text: nothing, or BOS in front. Returns the text of BOS.
Result<std::string> bos_of_template(const json& single) {
  if (!single.is_array()) return bad("a TemplateProcessing without a list \"single\"");
  std::string bos;
  bool text_seen = false;
  for (const json& piece : single) {
    if (piece.is_object() && piece.contains("Sequence")) {
      text_seen = true;
    } else if (piece.is_object() && piece.contains("SpecialToken")) {
      if (text_seen || !bos.empty()) {
        return unsupported("a TemplateProcessing that adds more than one token in front");
      }
      bos = member_text(at(piece, "SpecialToken"), "id");
    }
  }
  return bos;
}

Result<std::string> bos_of_post_processor(const json& processor, int depth) {
  const std::string_view type = member_text(processor, "type");
  if (processor.is_null() || type == "ByteLevel") return std::string();
  if (type == "TemplateProcessing") return bos_of_template(at(processor, "single"));
  const json& steps = at(processor, "processors");
  if (type != "Sequence" || !steps.is_array() || depth == kDeepestSequence) {
    return unsupported("the post-processor {} is not supported", shown_text(type));
  }
  std::string bos;
  for (const json& step : steps) {
    TG_ASSIGN(std::string found, bos_of_post_processor(step, depth + 1));
    if (!found.empty()) bos = std::move(found);
  }
  return bos;
}

// The post-processor first, then what tokenizer_config.json says on top of it.
Status read_bos(const json& file, std::string_view config_text, TokenizerParts& parts) {
  TG_ASSIGN(std::string bos, bos_of_post_processor(at(file, "post_processor"), 0));
  parts.adds_bos = !bos.empty();
  if (!config_text.empty()) {
    auto config = parse_object(config_text);
    if (!config) return at_place(std::move(config).error(), "tokenizer_config.json");
    const json& named = at(*config, "bos_token");  // a string, or an object with its options
    const std::string_view text =
        named.is_object() ? member_text(named, "content") : member_text(*config, "bos_token");
    if (bos.empty()) bos = text;
    const json& add = at(*config, "add_bos_token");
    if (add.is_boolean()) parts.adds_bos = add.get<bool>();
  }
  if (bos.empty()) {
    if (parts.adds_bos) return bad("add_bos_token is true, but no file names the BOS token");
    return {};
  }
  for (std::size_t i = 0; i < parts.tokens.size(); ++i) {
    if (parts.kinds[i] != TokenKind::kNormal && parts.tokens[i].bytes == bos) {
      parts.bos = static_cast<TokenId>(i);
      return {};
    }
  }
  return bad("the BOS token {} is not among the added tokens", shown_text(bos));
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> parse_tokenizer_json(std::string_view text,
                                                              std::string_view config) {
  TG_ASSIGN(const json file, parse_object(text));
  const json& model = at(file, "model");
  TG_RETURN_IF_ERROR(check_model(model));
  TG_RETURN_IF_ERROR(check_normalizer(at(file, "normalizer")));
  TG_RETURN_IF_ERROR(check_decoder(at(file, "decoder")));

  TokenizerParts parts;
  bool ends_in_bytes = false;
  TG_RETURN_IF_ERROR(
      read_pre_tokenizer(at(file, "pre_tokenizer"), 0, parts.pre_tokenizer, ends_in_bytes));
  if (!ends_in_bytes) {
    return unsupported("the pre-tokenizer has no ByteLevel; only byte-level BPE is supported");
  }
  SpellingIds ids;
  TG_RETURN_IF_ERROR(read_vocabulary(model, parts, ids));
  TG_RETURN_IF_ERROR(read_merges(model, ids, parts));
  TG_RETURN_IF_ERROR(read_added_tokens(file, ids, parts));
  parts.whole_pieces_first = is_true(model, "ignore_merges");
  if (const auto unknown = ids.find(member_text(model, "unk_token")); unknown != ids.end()) {
    parts.unknown = unknown->second;
  }
  TG_RETURN_IF_ERROR(read_bos(file, config, parts));
  return Tokenizer::build(std::move(parts));
}

Result<std::shared_ptr<const Tokenizer>> load_tokenizer_json(const std::string& path) {
  TG_ASSIGN(const MappedFile file, open_text_file(path, kLargestTokenizer));
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  auto config = open_text_file(folder + "tokenizer_config.json", kLargestTokenizer);
  if (!config && config.error().code != ErrorCode::kNotFound) {
    return tl::unexpected<Error>(std::move(config).error());
  }
  auto tokenizer =
      parse_tokenizer_json(text_of(file), config ? text_of(*config) : std::string_view());
  if (!tokenizer) return at_place(std::move(tokenizer).error(), path);
  return tokenizer;
}

}  // namespace tg
