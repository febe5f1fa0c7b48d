// What: writes small GGUF files in memory for the tests, good ones and (by raw()) malformed ones.
// Who owns: the test. Thread: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/gguf_file.h"

namespace tg::test {

class Bytes {
 public:
  template <typename T>
  Bytes& number(T value) {
    const auto* p = reinterpret_cast<const std::byte*>(&value);
    data.insert(data.end(), p, p + sizeof(T));
    return *this;
  }
  Bytes& raw(std::string_view text) {
    const auto* p = reinterpret_cast<const std::byte*>(text.data());
    data.insert(data.end(), p, p + text.size());
    return *this;
  }
  Bytes& text(std::string_view value) {
    return number(static_cast<std::uint64_t>(value.size())).raw(value);
  }
  Bytes& type(GgufType value) { return number(static_cast<std::uint32_t>(value)); }
  Bytes& append(const Bytes& other) {
    data.insert(data.end(), other.data.begin(), other.data.end());
    return *this;
  }

  std::vector<std::byte> data;
};

class GgufBuilder {
 public:
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;  // what the tensors are laid out by

  // A key with whatever bytes follow it: type code and value.
  GgufBuilder& key(std::string name, Bytes value) {
    for (auto& [have, old] : metadata_) {
      if (have == name) {
        old = std::move(value);
        return *this;
      }
    }
    return again(std::move(name), std::move(value));
  }
  // Adds a key even when there is one of that name.
  GgufBuilder& again(std::string name, Bytes value) {
    metadata_.emplace_back(std::move(name), std::move(value));
    return *this;
  }
  GgufBuilder& remove(std::string_view name) {
    std::erase_if(metadata_, [&](const auto& entry) { return entry.first == name; });
    return *this;
  }
  GgufBuilder& integer(std::string name, std::uint32_t value) {
    return key(std::move(name), Bytes().type(GgufType::kUint32).number(value));
  }
  GgufBuilder& real(std::string name, float value) {
    return key(std::move(name), Bytes().type(GgufType::kFloat32).number(value));
  }
  GgufBuilder& boolean(std::string name, bool value) {
    return key(std::move(name),
               Bytes().type(GgufType::kBool).number(static_cast<std::uint8_t>(value)));
  }
  GgufBuilder& text(std::string name, std::string_view value) {
    return key(std::move(name), Bytes().type(GgufType::kString).text(value));
  }
  GgufBuilder& integers(std::string name, const std::vector<std::int32_t>& values) {
    Bytes b;
    b.type(GgufType::kArray).type(GgufType::kInt32).number(std::uint64_t{values.size()});
    for (const std::int32_t value : values) b.number(value);
    return key(std::move(name), std::move(b));
  }
  GgufBuilder& texts(std::string name, const std::vector<std::string>& values) {
    Bytes b;
    b.type(GgufType::kArray).type(GgufType::kString).number(std::uint64_t{values.size()});
    for (const std::string& value : values) b.text(value);
    return key(std::move(name), std::move(b));
  }

  // `dimensions` innermost first, as stored; replaces a tensor of that name.
  GgufBuilder& tensor(std::string name, std::vector<std::uint64_t> dimensions, std::uint32_t type,
                      std::vector<std::byte> data) {
    for (Tensor& t : tensors_) {
      if (t.name == name) {
        t = {std::move(name), std::move(dimensions), type, std::move(data)};
        return *this;
      }
    }
    tensors_.push_back({std::move(name), std::move(dimensions), type, std::move(data)});
    return *this;
  }
  GgufBuilder& remove_tensor(std::string_view name) {
    std::erase_if(tensors_, [&](const Tensor& t) { return t.name == name; });
    return *this;
  }

  // The file. It ends with the last tensor's last byte, so that every shorter file is cut off.
  std::vector<std::byte> build() const {
    Bytes out;
    out.raw("GGUF").number(version).number(std::uint64_t{tensors_.size()});
    out.number(std::uint64_t{metadata_.size()});
    for (const auto& [name, value] : metadata_) out.text(name).append(value);
    std::uint64_t offset = 0;
    for (const Tensor& t : tensors_) {
      out.text(t.name).number(static_cast<std::uint32_t>(t.dimensions.size()));
      for (const std::uint64_t n : t.dimensions) out.number(n);
      out.number(t.type).number(offset);
      offset = padded(offset + t.data.size());
    }
    for (const Tensor& t : tensors_) {
      out.data.resize(padded(out.data.size()));
      out.data.insert(out.data.end(), t.data.begin(), t.data.end());
    }
    return out.data;
  }

 private:
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> dimensions;
    std::uint32_t type;
    std::vector<std::byte> data;
  };

  std::size_t padded(std::uint64_t n) const {
    return static_cast<std::size_t>((n + alignment - 1) / alignment * alignment);
  }

  std::vector<std::pair<std::string, Bytes>> metadata_;
  std::vector<Tensor> tensors_;
};

inline std::vector<std::byte> as_bytes(const std::vector<float>& values) {
  std::vector<std::byte> out(values.size() * sizeof(float));
  if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

// A complete little Llama with F32 weights: dim 8, 2 layers, 2 heads of 4, 1 kv head, ffn 12,
// vocabulary 6, tied embeddings, and a byte-level tokenizer. Value i of a tensor is i / 8 +
// `layer`.
inline GgufBuilder tiny_llama() {
  GgufBuilder b;
  b.text("general.architecture", "llama").text("general.name", "tiny");
  b.integer("llama.block_count", 2).integer("llama.embedding_length", 8);
  b.integer("llama.context_length", 64).integer("llama.feed_forward_length", 12);
  b.integer("llama.attention.head_count", 2).integer("llama.attention.head_count_kv", 1);
  b.real("llama.attention.layer_norm_rms_epsilon", 1e-5F).real("llama.rope.freq_base", 10000.0F);
  b.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "smollm");
  b.texts("tokenizer.ggml.tokens", {"a", "b", "ab", "<|begin|>", "<|end|>", "<|im_end|>"});
  b.integers("tokenizer.ggml.token_type", {1, 1, 1, 3, 3, 3});
  b.texts("tokenizer.ggml.merges", {"a b"});
  b.integer("tokenizer.ggml.bos_token_id", 3).integer("tokenizer.ggml.eos_token_id", 4);
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> dimensions, int layer) {
    std::uint64_t count = 1;
    for (const std::uint64_t n : dimensions) count *= n;
    std::vector<float> values;
    for (std::uint64_t i = 0; i < count; ++i) {
      values.push_back(static_cast<float>(i) / 8.0F + static_cast<float>(layer));
    }
    b.tensor(name, std::move(dimensions), 0, as_bytes(values));
  };
  add("token_embd.weight", {8, 6}, 0);
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    add(prefix + "attn_norm.weight", {8}, layer);
    add(prefix + "attn_q.weight", {8, 8}, layer);
    add(prefix + "attn_k.weight", {8, 4}, layer);
    add(prefix + "attn_v.weight", {8, 4}, layer);
    add(prefix + "attn_output.weight", {8, 8}, layer);
    add(prefix + "ffn_norm.weight", {8}, layer);
    add(prefix + "ffn_gate.weight", {8, 12}, layer);
    add(prefix + "ffn_down.weight", {12, 8}, layer);
    add(prefix + "ffn_up.weight", {8, 12}, layer);
  }
  add("output_norm.weight", {8}, 0);
  return b;
}

}  // namespace tg::test
