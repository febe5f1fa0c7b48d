#include "checkpoint/gguf_source.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/mapped_file.h"
#include "checkpoint/dequantize.h"
#include "checkpoint/file_kind.h"

namespace tg {
namespace {

// One file of a model: its mapping (empty when the bytes are the caller's) and its parsed header,
// which points into the mapping. Moving a MappedFile leaves its bytes where they are.
struct Part {
  MappedFile mapped;
  GgufFile file;
};

// A tensor of the model: which part holds it, and where.
struct Location {
  std::size_t part = 0;
  std::uint64_t offset = 0;  // from the start of that file
  std::uint64_t bytes = 0;
};

class GgufSource final : public TensorSource {
 public:
  GgufSource(ModelConfig config, std::vector<Part> parts, std::vector<TensorInfo> tensors,
             std::unordered_map<std::string, Location> locations)
      : config_(std::move(config)),
        parts_(std::move(parts)),
        tensors_(std::move(tensors)),
        locations_(std::move(locations)) {}

  const ModelConfig& config() const override { return config_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }

  Status read_block(const TensorInfo& tensor, std::int64_t first_row, std::int64_t row_count,
                    std::int64_t first_column, std::int64_t column_count,
                    std::span<float> out) const override {
    const auto found = locations_.find(tensor.name);
    if (found == locations_.end()) {
      return error(ErrorCode::kNotFound, "no tensor '{}' in this file", tensor.name);
    }
    TG_RETURN_IF_ERROR(
        check_block(tensor, first_row, row_count, first_column, column_count, out.size()));
    const BlockSize block = block_size(tensor.dtype);
    const std::int64_t row_bytes = tensor.columns() / block.values * block.bytes;
    const auto stored_bytes = static_cast<std::int64_t>(found->second.bytes);
    if (tensor.rows() * row_bytes != stored_bytes) {
      return error(ErrorCode::kInternal, "tensor '{}' [{}] is stored in {} bytes", tensor.name,
                   fmt::join(tensor.shape, ", "), stored_bytes);
    }
    const auto bytes = rows_of(found->second, row_bytes, first_row, row_count);
    if (column_count == tensor.columns()) {
      dequantize(tensor.dtype, bytes, out);
      return {};
    }
    // The blocks of each row that the columns touch.
    const std::int64_t first_block = first_column / block.values;
    const std::int64_t blocks =
        (first_column + column_count + block.values - 1) / block.values - first_block;
    std::vector<float> values(static_cast<std::size_t>(blocks * block.values));
    for (std::int64_t r = 0; r < row_count; ++r) {
      const auto offset = static_cast<std::size_t>(r * row_bytes + first_block * block.bytes);
      dequantize(tensor.dtype,
                 bytes.subspan(offset, static_cast<std::size_t>(blocks * block.bytes)), values);
      std::copy_n(values.begin() + (first_column - first_block * block.values), column_count,
                  out.begin() + r * column_count);
    }
    return {};
  }

  std::span<const std::byte> stored_blocks(const TensorInfo& tensor, std::int64_t first_row,
                                           std::int64_t row_count) const override {
    const auto found = locations_.find(tensor.name);
    const BlockSize block = block_size(tensor.dtype);
    const std::int64_t row_bytes = tensor.columns() / block.values * block.bytes;
    if (found == locations_.end() || block.values == 1 || first_row < 0 || row_count < 0 ||
        row_count > tensor.rows() - first_row ||
        tensor.rows() * row_bytes != static_cast<std::int64_t>(found->second.bytes)) {
      return {};
    }
    return rows_of(found->second, row_bytes, first_row, row_count);
  }

  std::vector<std::string> files() const override {
    std::vector<std::string> paths;
    for (const Part& part : parts_) {
      if (!part.mapped.path().empty()) paths.push_back(part.mapped.path());
    }
    return paths;
  }

  void release(const TensorInfo& tensor) const override {
    const auto found = locations_.find(tensor.name);
    if (found == locations_.end()) return;
    parts_[found->second.part].mapped.drop(static_cast<std::size_t>(found->second.offset),
                                           static_cast<std::size_t>(found->second.bytes));
  }

 private:
  std::span<const std::byte> rows_of(const Location& location, std::int64_t row_bytes,
                                     std::int64_t first_row, std::int64_t row_count) const {
    return parts_[location.part].file.bytes().subspan(
        static_cast<std::size_t>(location.offset) + static_cast<std::size_t>(first_row * row_bytes),
        static_cast<std::size_t>(row_count * row_bytes));
  }

  ModelConfig config_;
  std::vector<Part> parts_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, Location> locations_;
};

// A tensor that no Llama of ours has changes what the model computes (or it is not that model).
tl::unexpected<Error> unknown_tensor(std::string_view tensor_name) {
  if (tensor_name.ends_with(".bias")) {
    return error(ErrorCode::kUnsupported, "a model with biases (tensor '{}')",
                 printable(tensor_name));
  }
  return error(ErrorCode::kUnsupported, "tensor '{}' is not one of a plain Llama model's",
               printable(tensor_name));
}

// Finds the expected tensor among the parts, and checks its type and shape.
Status fill_tensor(std::span<const Part> parts, TensorInfo& expected, Location& location) {
  const std::string stored_name = gguf_name(expected.name);
  const GgufTensor* tensor = nullptr;
  for (std::size_t i = 0; i < parts.size() && tensor == nullptr; ++i) {
    tensor = parts[i].file.find_tensor(stored_name);
    location.part = i;
  }
  if (tensor == nullptr) return error(ErrorCode::kNotFound, "tensor '{}' is missing", stored_name);
  const std::vector<std::int64_t> shape(tensor->dimensions.rbegin(), tensor->dimensions.rend());
  if (shape != expected.shape) {
    return error(ErrorCode::kBadInput, "tensor '{}' has shape [{}], the metadata implies [{}]",
                 stored_name, fmt::join(shape, ", "), fmt::join(expected.shape, ", "));
  }
  if (!tensor->dtype) {
    return error(ErrorCode::kUnsupported,
                 "tensor '{}' has type {}; read are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, "
                 "Q4_K, Q5_K and Q6_K",
                 stored_name, tensor->type_name());
  }
  expected.dtype = *tensor->dtype;
  location.offset = tensor->offset;
  location.bytes = tensor->bytes;
  return {};
}

Result<std::unique_ptr<TensorSource>> make_source(std::vector<Part> parts) {
  TG_ASSIGN(ModelConfig config, gguf_config(parts.front().file));
  std::size_t stored_tensors = 0;
  std::unordered_map<std::string_view, std::size_t> part_of;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    stored_tensors += parts[i].file.tensors().size();
    for (const GgufTensor& tensor : parts[i].file.tensors()) {
      const auto [other, fresh] = part_of.emplace(tensor.name, i);
      if (!fresh) {
        return error(ErrorCode::kBadInput, "tensor '{}' is in files {} and {} of the model",
                     printable(tensor.name), other->second + 1, i + 1);
      }
    }
  }
  // Before the list of expected tensors is made, which a false layer count would make endless.
  if (config.layers > static_cast<std::int64_t>(stored_tensors)) {
    return error(ErrorCode::kBadInput, "the metadata says {} layers but there are only {} tensors",
                 config.layers, stored_tensors);
  }

  std::vector<TensorInfo> tensors = expected_tensors(config);
  std::unordered_map<std::string, Location> locations;
  for (TensorInfo& expected : tensors) {
    Location location;
    TG_RETURN_IF_ERROR(fill_tensor(parts, expected, location));
    part_of.erase(gguf_name(expected.name));
    locations.emplace(expected.name, location);
  }
  part_of.erase("rope_freqs.weight");  // already in config.rope_scaling
  for (const Part& part : parts) {  // in the order of the files, so the message is always the same
    for (const GgufTensor& tensor : part.file.tensors()) {
      if (part_of.contains(tensor.name)) return unknown_tensor(tensor.name);
    }
  }
  return std::make_unique<GgufSource>(std::move(config), std::move(parts), std::move(tensors),
                                      std::move(locations));
}

Result<Part> open_part(const std::string& path) {
  Part part;
  TG_ASSIGN(part.mapped, MappedFile::open(path));
  auto file = GgufFile::parse(part.mapped.bytes());
  if (!file) return at_place(std::move(file).error(), path);
  part.file = *std::move(file);
  return part;
}

// The file at `path`, or all files of the split model that it is one of, in order.
Result<std::vector<Part>> open_parts(const std::string& path) {
  std::vector<Part> parts;
  TG_ASSIGN(Part first, open_part(path));
  auto count = first.file.integer("split.count");
  if (!count) return at_place(std::move(count).error(), path);
  const std::int64_t files = count->value_or(1);
  if (files <= 1) {
    parts.push_back(std::move(first));
    return parts;
  }
  const std::int64_t number = first.file.integer("split.no").value_or(0).value_or(0) + 1;
  const std::string suffix = fmt::format("-{:05}-of-{:05}.gguf", number, files);
  if (!path.ends_with(suffix)) {
    return at_place(
        Error{ErrorCode::kBadInput,
              fmt::format("file {} of {} of a split model must have a name that ends with '{}'",
                          number, files, suffix),
              {}},
        path);
  }
  const std::string prefix = path.substr(0, path.size() - suffix.size());
  std::size_t tensors = 0;
  for (std::int64_t i = 1; i <= files; ++i) {
    const std::string part_path = fmt::format("{}-{:05}-of-{:05}.gguf", prefix, i, files);
    TG_ASSIGN(Part part, open_part(part_path));
    if (part.file.integer("split.no").value_or(-1).value_or(-1) != i - 1 ||
        part.file.integer("split.count").value_or(-1).value_or(-1) != files) {
      return at_place(
          Error{ErrorCode::kBadInput,
                fmt::format("the file does not say that it is number {} of {} of a split model", i,
                            files),
                {}},
          part_path);
    }
    tensors += part.file.tensors().size();
    parts.push_back(std::move(part));
  }
  const auto total = parts.front().file.integer("split.tensors.count").value_or(std::nullopt);
  if (total && *total != static_cast<std::int64_t>(tensors)) {
    return at_place(
        Error{ErrorCode::kBadInput,
              fmt::format("the {} files of the model hold {} tensors, the first says {}", files,
                          tensors, *total),
              {}},
        path);
  }
  return parts;
}

}  // namespace

std::string gguf_name(std::string_view meta_name) {
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"tok_embeddings.weight", "token_embd.weight"},
      {"norm.weight", "output_norm.weight"},
      {"output.weight", "output.weight"},
      {"attention.wq.weight", "attn_q.weight"},
      {"attention.wk.weight", "attn_k.weight"},
      {"attention.wv.weight", "attn_v.weight"},
      {"attention.wo.weight", "attn_output.weight"},
      {"attention_norm.weight", "attn_norm.weight"},
      {"feed_forward.w1.weight", "ffn_gate.weight"},
      {"feed_forward.w2.weight", "ffn_down.weight"},
      {"feed_forward.w3.weight", "ffn_up.weight"},
      {"ffn_norm.weight", "ffn_norm.weight"},
  };
  std::string prefix;
  std::string_view rest = meta_name;
  if (rest.starts_with("layers.")) {
    rest.remove_prefix(7);
    const std::size_t dot = rest.find('.');
    if (dot == std::string_view::npos) return {};
    prefix = fmt::format("blk.{}.", rest.substr(0, dot));
    rest.remove_prefix(dot + 1);
  }
  for (const auto& [meta, gguf] : kNames) {
    if (rest == meta) return prefix + std::string(gguf);
  }
  return {};
}

Result<std::unique_ptr<TensorSource>> open_gguf(const std::string& path, const OpenOptions&) {
  TG_ASSIGN(std::vector<Part> parts, open_parts(path));
  auto source = make_source(std::move(parts));
  if (!source) return at_place(std::move(source).error(), path);
  return source;
}

Result<std::unique_ptr<TensorSource>> open_gguf_bytes(std::span<const std::byte> bytes) {
  std::vector<Part> parts(1);
  TG_ASSIGN(parts[0].file, GgufFile::parse(bytes));
  return make_source(std::move(parts));
}

Result<GgufTokenizerData> read_gguf_tokenizer(const std::string& path) {
  TG_ASSIGN(const std::vector<Part> parts, open_parts(path));
  auto data = gguf_tokenizer(parts.front().file);
  if (!data) return at_place(std::move(data).error(), path);
  return data;
}

}  // namespace tg
