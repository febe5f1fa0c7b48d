// What: the tokenizer's part of a GGUF file's metadata, as plain data: the text layer does not read
//   checkpoints, so whoever does fills this in.
// Who owns: plain value. Thread: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/token_id.h"

namespace tg {

struct GgufVocabulary {
  std::string model;                // tokenizer.ggml.model: "gpt2" is byte-level BPE
  std::string pre;                  // tokenizer.ggml.pre: "llama-bpe", "smollm", ...
  std::vector<std::string> tokens;  // by id, in the printable byte alphabet
  // Of each token: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte. May be empty:
  // all are normal.
  std::vector<std::int32_t> types;
  std::vector<std::string> merges;  // "left right", best first
  std::optional<TokenId> bos;
  bool add_bos = false;
};

}  // namespace tg
