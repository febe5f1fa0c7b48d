// libFuzzer target: any text as tokenizer.json; what is accepted encodes and decodes.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace {

// True when the tokenizer has a token for each byte, so that encoding can lose nothing.
bool has_all_bytes(const tg::Tokenizer& tokenizer) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    const auto ids = tokenizer.encode(text, tg::SpecialTokens::kAsText);
    if (ids.size() != 1 || tokenizer.token_bytes(ids[0]) != text) return false;
  }
  return true;
}

void encode_and_decode(const tg::Tokenizer& tokenizer, std::string_view text, bool lossless) {
  for (const auto mode : {tg::SpecialTokens::kAsText, tg::SpecialTokens::kParse}) {
    const auto ids = tokenizer.encode(text, mode);
    std::string bytes;
    tg::StreamDecoder stream(tokenizer);
    std::string streamed;
    for (const tg::TokenId id : ids) {
      TG_CHECK(id >= 0 && id < tokenizer.vocab_size());
      bytes += tokenizer.token_bytes(id);
      streamed += stream.push(id);
    }
    TG_CHECK(streamed + stream.flush() == tokenizer.decode(ids, false));
    TG_CHECK(!lossless || bytes == text);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = tg::parse_tokenizer_json(text, text);
  const auto without_config = tg::parse_tokenizer_json(text);
  for (const auto& made : {tokenizer, without_config}) {
    if (!made) {
      TG_CHECK(made.error().text().find('\n') == std::string::npos);
      continue;
    }
    const bool lossless = has_all_bytes(**made);
    encode_and_decode(**made, "Hello, w\xC3\xB6rld! 1234  <|eot_id|>\r\n\xE4\xB8\xAD\xFF\xF0\x9F",
                      lossless);
    encode_and_decode(**made, text.substr(0, 2000), lossless);
    static_cast<void>((*made)->encode_prompt(text.substr(0, 100), tg::SpecialTokens::kParse));
    static_cast<void>((*made)->default_stop_ids());
  }
  static_cast<void>(tg::parse_tiktoken(text).has_value());
  return 0;
}
