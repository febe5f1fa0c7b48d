#include "checkpoint/gguf_writer.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "checkpoint/config_writers.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_source.h"
#include "checkpoint/output_file.h"
#include "checkpoint/quantize.h"
#include "checkpoint/repack_progress.h"

namespace tg {
namespace {

constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kGgufAlignment = 32;  // what a file without general.alignment has
constexpr std::string_view kRopeName = "rope_freqs.weight";

// What one member of the team makes at a time, and how much is written at once.
constexpr std::int64_t kPieceValues = std::int64_t{1} << 16;
constexpr std::int64_t kWriteValues = std::int64_t{1} << 21;

std::uint64_t gguf_aligned(std::uint64_t offset) {
  return (offset + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment;
}

template <typename T>
void put(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void put_text(std::string& out, std::string_view text) {
  put<std::uint64_t>(out, text.size());
  out += text;
}

// The metadata entries, counted.
class Metadata {
 public:
  void text(std::string_view key, std::string_view value) {
    start(key, GgufType::kString);
    put_text(bytes_, value);
  }
  void number(std::string_view key, std::int64_t value) {
    start(key, GgufType::kUint32);
    put(bytes_, static_cast<std::uint32_t>(value));
  }
  void fraction(std::string_view key, double value) {
    start(key, GgufType::kFloat32);  // llama.cpp reads no other width
    put(bytes_, static_cast<float>(value));
  }
  void texts(std::string_view key, const std::vector<std::string>& values) {
    start_list(key, GgufType::kString, values.size());
    for (const std::string& value : values) put_text(bytes_, value);
  }
  void numbers(std::string_view key, const std::vector<std::int32_t>& values) {
    start_list(key, GgufType::kInt32, values.size());
    for (const std::int32_t value : values) put(bytes_, value);
  }
  std::uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void start(std::string_view key, GgufType type) {
    ++count_;
    put_text(bytes_, key);
    put(bytes_, static_cast<std::uint32_t>(type));
  }

  void start_list(std::string_view key, GgufType element, std::size_t size) {
    start(key, GgufType::kArray);
    put(bytes_, static_cast<std::uint32_t>(element));
    put<std::uint64_t>(bytes_, size);
  }

  std::uint64_t count_ = 0;
  std::string bytes_;
};

// llama.cpp's names for what most of a file is (general.file_type).
std::int64_t file_type(DType matrices) {
  switch (matrices) {
    case DType::kQ4_0:
      return 2;
    case DType::kQ8_0:
      return 7;
    case DType::kQ4K:
      return 14;
    case DType::kQ6K:
      return 18;
    case DType::kBf16:
      return 32;
    default:
      return 0;
  }
}

void add_tokenizer(const GgufTokenizerData* tokenizer, Metadata& metadata) {
  if (tokenizer == nullptr) {
    // With this word llama.cpp takes the number of tokens from llama.vocab_size and has no texts.
    metadata.text("tokenizer.ggml.model", "no_vocab");
    return;
  }
  metadata.text("tokenizer.ggml.model", tokenizer->model);
  metadata.text("tokenizer.ggml.pre", tokenizer->pre);
  metadata.texts("tokenizer.ggml.tokens", tokenizer->tokens);
  metadata.numbers("tokenizer.ggml.token_type", tokenizer->types);
  metadata.texts("tokenizer.ggml.merges", tokenizer->merges);
}

Status add_special_tokens(const ModelConfig& config, Metadata& metadata) {
  if (config.bos_id) metadata.number("tokenizer.ggml.bos_token_id", *config.bos_id);
  constexpr std::string_view kStopKeys[] = {
      "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eom_token_id", "tokenizer.ggml.eot_token_id"};
  if (config.stop_ids.size() > std::size(kStopKeys)) {
    return error(ErrorCode::kUnsupported, "a GGUF file has keys for {} stop ids, not for {}",
                 std::size(kStopKeys), config.stop_ids.size());
  }
  for (std::size_t i = 0; i < config.stop_ids.size(); ++i) {
    metadata.number(kStopKeys[i], config.stop_ids[i]);
  }
  return {};
}

Result<Metadata> describe(const ModelConfig& config, DType matrices,
                          const GgufTokenizerData* tokenizer) {
  Metadata m;
  m.text("general.architecture", "llama");
  m.text("general.type", "model");
  if (!config.name.empty()) m.text("general.name", config.name);
  m.number("general.file_type", file_type(matrices));
  m.number("general.quantization_version", 2);
  m.number("llama.vocab_size", config.vocab);
  m.number("llama.context_length", config.max_context);
  m.number("llama.embedding_length", config.dim);
  m.number("llama.block_count", config.layers);
  m.number("llama.feed_forward_length", config.ffn_dim);
  m.number("llama.attention.head_count", config.heads);
  m.number("llama.attention.head_count_kv", config.kv_heads);
  m.number("llama.attention.key_length", config.head_dim);
  m.number("llama.attention.value_length", config.head_dim);
  m.fraction("llama.attention.layer_norm_rms_epsilon", config.norm_eps);
  m.number("llama.rope.dimension_count", config.head_dim);
  m.fraction("llama.rope.freq_base", config.rope_theta);
  if (config.rope_scaling.kind == RopeScaling::Kind::kLinear) {
    m.text("llama.rope.scaling.type", "linear");
    m.fraction("llama.rope.scaling.factor", config.rope_scaling.factor);
  }
  add_tokenizer(tokenizer, m);
  TG_RETURN_IF_ERROR(add_special_tokens(config, m));
  return m;
}

// One line of the tensor directory; `offset` counts from the first tensor.
void put_tensor(std::string& out, std::string_view name, const std::vector<std::int64_t>& shape,
                DType dtype, std::uint64_t offset) {
  put_text(out, name);
  put<std::uint32_t>(out, static_cast<std::uint32_t>(shape.size()));
  for (std::size_t i = shape.size(); i-- > 0;) {  // innermost first
    put<std::uint64_t>(out, static_cast<std::uint64_t>(shape[i]));
  }
  put(out, gguf_type_code(dtype));
  put(out, offset);
}

Result<PlannedGgufTensor> plan_tensor(const TensorInfo& source, DType matrices) {
  PlannedGgufTensor t;
  t.source = source;
  t.dtype = source.shape.size() == 2 ? matrices : DType::kF32;
  const BlockSize block = block_size(t.dtype);
  if (source.columns() % block.values != 0) {
    return error(ErrorCode::kUnsupported,
                 "tensor '{}' has rows of {} values; {} needs multiples of {}", source.name,
                 source.columns(), name(t.dtype), block.values);
  }
  t.bytes =
      static_cast<std::uint64_t>(source.rows() * (source.columns() / block.values) * block.bytes);
  return t;
}

// Makes the stored form of rows [first, first + count) in `out`, cut up between the members.
class RowMaker {
 public:
  RowMaker(const TensorSource& source, ThreadTeam& team)
      : source_(source), team_(team), scratch_(static_cast<std::size_t>(team.size())) {}

  Status make(const PlannedGgufTensor& tensor, std::int64_t first, std::int64_t count,
              std::span<std::byte> out) {
    const std::int64_t columns = tensor.source.columns();
    const BlockSize block = block_size(tensor.dtype);
    const auto row_bytes = static_cast<std::size_t>(columns / block.values * block.bytes);
    std::vector<Status> results(scratch_.size());
    const auto piece = [&](int member, std::int64_t begin, std::int64_t end) {
      std::vector<float>& values = scratch_[static_cast<std::size_t>(member)];
      Status& result = results[static_cast<std::size_t>(member)];
      if (!result) return;
      values.resize(static_cast<std::size_t>((end - begin) * columns));
      result = source_.read_rows(tensor.source, first + begin, end - begin, values);
      if (!result) return;
      quantize(tensor.dtype, values,
               out.subspan(static_cast<std::size_t>(begin) * row_bytes,
                           static_cast<std::size_t>(end - begin) * row_bytes));
    };
    team_.for_pieces_by_member(count, std::max<std::int64_t>(1, kPieceValues / columns), piece);
    for (Status& result : results) TG_RETURN_IF_ERROR(std::move(result));
    return {};
  }

 private:
  const TensorSource& source_;
  ThreadTeam& team_;
  std::vector<std::vector<float>> scratch_;
};

Status write_tensor(const PlannedGgufTensor& tensor, RowMaker& maker, RepackProgress& progress,
                    OutputFile& out) {
  const std::int64_t rows = tensor.source.rows();
  const std::size_t row_bytes =
      static_cast<std::size_t>(tensor.bytes) / static_cast<std::size_t>(rows);
  const std::int64_t step = std::max<std::int64_t>(1, kWriteValues / tensor.source.columns());
  std::vector<std::byte> bytes;
  for (std::int64_t row = 0; row < rows; row += step) {
    const std::int64_t count = std::min(step, rows - row);
    bytes.resize(static_cast<std::size_t>(count) * row_bytes);
    TG_RETURN_IF_ERROR(maker.make(tensor, row, count, bytes));
    TG_RETURN_IF_ERROR(out.append(bytes));
    TG_RETURN_IF_ERROR(progress.add(bytes.size()));
  }
  return {};
}

Status pad_to(std::uint64_t size, OutputFile& out) {
  return out.append(std::string(static_cast<std::size_t>(size - out.size()), '\0'));
}

Status write_all(const TensorSource& source, const GgufPlan& plan, ThreadTeam& team,
                 const RepackHooks& hooks, OutputFile& out) {
  TG_RETURN_IF_ERROR(out.append(plan.header));
  RepackProgress progress(hooks, plan.bytes - plan.header.size());
  RowMaker maker(source, team);
  for (const PlannedGgufTensor& tensor : plan.tensors) {
    TG_RETURN_IF_ERROR(pad_to(tensor.offset, out));
    TG_RETURN_IF_ERROR(write_tensor(tensor, maker, progress, out));
    source.release(tensor.source);
  }
  return pad_to(plan.bytes, out);
}

}  // namespace

Result<GgufPlan> plan_gguf(const TensorSource& source, DType matrices,
                           const GgufTokenizerData* tokenizer) {
  if (!can_quantize(matrices)) {
    return error(ErrorCode::kBadArgument,
                 "matrices cannot be written as {}, only as F32, BF16, Q8_0, Q4_0, Q4_K or Q6_K",
                 name(matrices));
  }
  const ModelConfig& config = source.config();
  if (tokenizer != nullptr && static_cast<std::int64_t>(tokenizer->tokens.size()) != config.vocab) {
    return error(ErrorCode::kBadArgument, "a tokenizer of {} tokens for a model of {}",
                 tokenizer->tokens.size(), config.vocab);
  }
  TG_ASSIGN(const Metadata metadata, describe(config, matrices, tokenizer));
  const std::vector<float> divisors = rope_divisors(config);

  GgufPlan plan;
  std::string directory;
  std::uint64_t at = 0;  // from the first tensor
  if (!divisors.empty()) {
    put_tensor(directory, kRopeName, {static_cast<std::int64_t>(divisors.size())}, DType::kF32, 0);
    at = divisors.size() * sizeof(float);
  }
  for (const TensorInfo& info : source.tensors()) {
    TG_ASSIGN(PlannedGgufTensor t, plan_tensor(info, matrices));
    t.offset = gguf_aligned(at);
    at = t.offset + t.bytes;
    put_tensor(directory, gguf_name(info.name), info.shape, t.dtype, t.offset);
    plan.tensors.push_back(std::move(t));
  }

  plan.header = "GGUF";
  put(plan.header, kVersion);
  put<std::uint64_t>(plan.header, plan.tensors.size() + (divisors.empty() ? 0 : 1));
  put(plan.header, metadata.count());
  plan.header += metadata.bytes() + directory;
  plan.header.resize(static_cast<std::size_t>(gguf_aligned(plan.header.size())), '\0');
  const std::uint64_t data = plan.header.size();
  for (const float divisor : divisors) put(plan.header, divisor);
  for (PlannedGgufTensor& t : plan.tensors) t.offset += data;
  plan.bytes = data + gguf_aligned(at);
  return plan;
}

Status write_gguf(const TensorSource& source, const GgufPlan& plan, ThreadTeam& team,
                  const std::string& path, const RepackHooks& hooks) {
  const std::string part = OutputFile::temporary_name(path);
  TG_RETURN_IF_ERROR(check_free_space(path, plan.bytes, std::span(&part, 1)));
  TG_ASSIGN(OutputFile out, OutputFile::create(path));
  const Status written = write_all(source, plan, team, hooks, out);
  if (written) return out.commit();
  Error e = written.error();
  if (e.place.empty()) e.place = path;
  return tl::unexpected<Error>(std::move(e));
}

}  // namespace tg
