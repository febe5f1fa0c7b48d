// libFuzzer: any bytes as a GGUF file: the header, the tokenizer, and (when it is a Llama) rows of
// every tensor. Needs no corpus: an input that is no GGUF file is replaced by a small whole model,
// from which the mutations then go out. The model takes some 5,000 bytes, so -max_len must be more.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "../checkpoint/gguf_builder.h"
#include "checkpoint/gguf_source.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned /*seed*/) {
  static const std::vector<std::byte> model = tg::test::tiny_llama().build();
  const bool is_gguf = size >= 4 && std::memcmp(data, "GGUF", 4) == 0;
  if (!is_gguf && model.size() <= max_size) {
    std::memcpy(data, model.data(), model.size());
    size = model.size();
  }
  return LLVMFuzzerMutate(data, size, max_size);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto file = tg::GgufFile::parse(bytes)) (void)tg::gguf_tokenizer(*file);
  const auto source = tg::open_gguf_bytes(bytes);
  if (!source) return 0;
  std::vector<float> rows;
  for (const tg::TensorInfo& tensor : (*source)->tensors()) {
    const std::int64_t first = tensor.rows() / 2;
    const std::int64_t count = std::min<std::int64_t>(tensor.rows() - first, 8);
    rows.resize(static_cast<std::size_t>(count * tensor.columns()));
    if (!(*source)->read_rows(tensor, first, count, rows)) __builtin_trap();
    (*source)->release(tensor);
  }
  return 0;
}
