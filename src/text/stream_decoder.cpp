#include "text/stream_decoder.h"

#include "text/utf8.h"

namespace tg {

std::string StreamDecoder::push(TokenId id) {
  if (skip_special_ && tokenizer_->is_special(id)) return {};
  held_ += tokenizer_->token_bytes(id);
  std::string text;
  held_.erase(0, append_replacing_invalid(held_, text));
  return text;
}

std::string StreamDecoder::flush() {
  std::string text(held_.empty() ? std::string_view() : kReplacementCharacter);
  held_.clear();
  return text;
}

}  // namespace tg
