// What: tokens to text one at a time, for streams: only whole characters go out, a broken one goes
//   out as U+FFFD as soon as it can never become valid, and nothing is lost at the end. All that
//   was pushed and flushed, joined, is Tokenizer::decode() of the same ids.
// Who owns: one per answer; refers to the tokenizer. Thread: one at a time.
#pragma once

#include <string>

#include "base/token_id.h"
#include "text/tokenizer.h"

namespace tg {

class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The text that may go out after this token: valid UTF-8, often empty.
  std::string push(TokenId id);

  // What the end of the answer adds: U+FFFD when it ends inside a character. The decoder is then
  // as new.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string held_;  // the first 1 to 3 bytes of a character, or empty
};

}  // namespace tg
