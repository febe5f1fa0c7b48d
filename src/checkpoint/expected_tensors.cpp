#include <fmt/format.h>

#include "checkpoint/tensor_source.h"

namespace tg {

std::vector<TensorInfo> expected_tensors(const ModelConfig& config) {
  const std::int64_t dim = config.dim;
  const std::int64_t query_rows = config.heads * config.head_dim;
  const std::int64_t kv_rows = config.kv_heads * config.head_dim;
  std::vector<TensorInfo> tensors;
  const auto add = [&](std::string name, std::vector<std::int64_t> shape) {
    tensors.push_back({.name = std::move(name), .shape = std::move(shape)});
  };
  add("tok_embeddings.weight", {config.vocab, dim});
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = fmt::format("layers.{}.", layer);
    add(prefix + "attention_norm.weight", {dim});
    add(prefix + "attention.wq.weight", {query_rows, dim});
    add(prefix + "attention.wk.weight", {kv_rows, dim});
    add(prefix + "attention.wv.weight", {kv_rows, dim});
    add(prefix + "attention.wo.weight", {dim, query_rows});
    add(prefix + "ffn_norm.weight", {dim});
    add(prefix + "feed_forward.w1.weight", {config.ffn_dim, dim});
    add(prefix + "feed_forward.w2.weight", {dim, config.ffn_dim});
    add(prefix + "feed_forward.w3.weight", {config.ffn_dim, dim});
  }
  add("norm.weight", {dim});
  if (!config.tied_embeddings) add("output.weight", {config.vocab, dim});
  return tensors;
}

}  // namespace tg
