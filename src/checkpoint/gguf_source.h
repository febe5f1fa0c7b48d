// What: a GGUF file of the "llama" architecture as a TensorSource, and the tokenizer it carries.
//   GGUF's llama tensors already have Meta's row order (q and k rows pair neighbours), so rows are
//   read as they lie. A model split into NAME-00001-of-0000N.gguf files is read as one, from the
//   path of any of them.
// Who owns: the caller owns the source; the source owns its mapped files. Thread: const from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/tensor_source.h"

namespace tg {

// Opens the file and checks that it is a plain dense Llama whose tensors have the shapes its
// metadata implies. Another architecture, experts, biases, an unknown tensor, tensor type or rope
// scaling is kUnsupported and named; what contradicts itself is kBadInput. `options` has nothing
// for GGUF.
Result<std::unique_ptr<TensorSource>> open_gguf(const std::string& path,
                                                const OpenOptions& options = {});

// The same for a whole, unsplit file in memory; `bytes` must outlive the source.
Result<std::unique_ptr<TensorSource>> open_gguf_bytes(std::span<const std::byte> bytes);

// "blk.3.attn_q.weight" for "layers.3.attention.wq.weight"; empty for a name that GGUF does not
// have.
std::string gguf_name(std::string_view meta_name);

// What the metadata says of the model, before any check against its tensors. (Public for the
// tests.)
Result<ModelConfig> gguf_config(const GgufFile& file);

// Token types as stored.
enum class GgufTokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct GgufTokenizerData {
  std::string model;  // "gpt2" for byte-level BPE, "llama" for SentencePiece, ...
  std::string pre;  // name of the pre-tokenizer: "llama-bpe", "smollm", ...; "default" when absent
  std::vector<std::string> tokens;  // by id; byte-level BPE has them in its printable byte alphabet
  std::vector<std::int32_t> types;  // GgufTokenType of each token; kNormal when the file has none
  std::vector<std::string> merges;  // "left right", best first; empty for SentencePiece
  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> eos;
  // tokenizer.ggml.add_bos_token; without it as llama.cpp decides: true for SentencePiece ("llama")
  // and WordPiece ("bert") models and for BPE with the Llama 3, tekken or chameleon pre-tokenizer,
  // else false. Always false when there is no bos.
  bool add_bos = false;
  std::string chat_template;  // Jinja; empty when the file has none
};

// Reads only the tokenizer, from a file of any architecture. kNotFound when the file has none.
Result<GgufTokenizerData> read_gguf_tokenizer(const std::string& path);
Result<GgufTokenizerData> gguf_tokenizer(const GgufFile& file);

}  // namespace tg
