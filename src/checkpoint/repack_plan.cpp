#include "checkpoint/repack_plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include "checkpoint/huggingface_source.h"
#include "checkpoint/pickle_writer.h"

namespace tg {
namespace {

constexpr std::string_view kHeadName = "output.weight";
constexpr std::string_view kEmbeddingName = "tok_embeddings.weight";

// 0 for a tensor of no layer: those go into the first file.
std::int64_t layer_of(std::string_view name) {
  constexpr std::string_view kLayers = "layers.";
  std::int64_t layer = 0;
  if (name.starts_with(kLayers)) {
    std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
  }
  return layer;
}

PlannedTensor plan_tensor(const TensorInfo& source, std::string_view meta_name, RepackForm form,
                          const ModelConfig& config) {
  PlannedTensor t;
  t.name = form == RepackForm::kRepacked ? std::string(meta_name) : huggingface_name(meta_name);
  t.source = source;
  t.dtype = block_size(source.dtype).values == 1 ? source.dtype : DType::kBf16;
  t.bytes =
      static_cast<std::uint64_t>(source.rows() * source.columns() * block_size(t.dtype).bytes);
  if (form == RepackForm::kSafetensors) {
    if (meta_name.ends_with(".wq.weight")) t.half_split_heads = config.heads;
    if (meta_name.ends_with(".wk.weight")) t.half_split_heads = config.kv_heads;
  }
  return t;
}

std::vector<std::int64_t> row_major_strides(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

void lay_out_pth(PlannedFile& file) {
  std::vector<PickledTensor> pickled;
  for (const PlannedTensor& t : file.tensors) {
    PickledTensor p;
    p.name = t.name;
    p.dtype = t.dtype;
    p.shape = t.source.shape;
    p.strides = row_major_strides(p.shape);
    p.storage_key = fmt::format("{}", pickled.size());
    p.storage_bytes = static_cast<std::int64_t>(t.bytes);
    pickled.push_back(std::move(p));
  }
  file.pickle = pickle_tensors(pickled);

  const std::string stem = file.name.substr(0, file.name.rfind('.'));
  const auto add = [&](std::string_view name, std::uint64_t size) {
    ZipRecord record;
    record.name = fmt::format("{}/{}", stem, name);
    record.size = size;
    file.records.push_back(std::move(record));
  };
  add("data.pkl", file.pickle.size());
  add("byteorder", kPthByteOrder.size());
  TG_CHECK(file.records.size() == kPthRecordsBefore);
  for (std::size_t i = 0; i < file.tensors.size(); ++i) {
    add("data/" + pickled[i].storage_key, file.tensors[i].bytes);
  }
  add("version", kPthVersion.size());
  place_zip_records(file.records);
  for (std::size_t i = 0; i < file.tensors.size(); ++i) {
    file.tensors[i].offset = file.records[kPthRecordsBefore + i].data_offset;
  }
  const ZipRecord& last = file.records.back();
  file.bytes = last.data_offset + last.size + zip_directory_bytes(file.records).size();
}

void lay_out_safetensors(PlannedFile& file) {
  // Wide values first, so that every tensor lies at a multiple of its value's size.
  std::sort(file.tensors.begin(), file.tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(-block_size(a.dtype).bytes, std::string_view(a.name)) <
           std::pair(-block_size(b.dtype).bytes, std::string_view(b.name));
  });
  std::string json = R"({"__metadata__":{"format":"pt"})";
  std::uint64_t at = 0;
  for (PlannedTensor& t : file.tensors) {
    json += fmt::format(R"(,"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", t.name,
                        name(t.dtype), fmt::join(t.source.shape, ","), at, at + t.bytes);
    t.offset = at;
    at += t.bytes;
  }
  json += '}';
  json.append((8 - json.size() % 8) % 8, ' ');
  for (int i = 0; i < 8; ++i) {
    file.header += static_cast<char>((std::uint64_t{json.size()} >> (8 * i)) & 0xff);
  }
  file.header += json;
  for (PlannedTensor& t : file.tensors) t.offset += file.header.size();
  file.bytes = file.header.size() + at;
}

std::string index_text(const RepackPlan& plan) {
  std::map<std::string, std::string> file_of;
  for (const PlannedFile& file : plan.files) {
    for (const PlannedTensor& t : file.tensors) file_of.emplace(t.name, file.name);
  }
  std::string text =
      fmt::format("{{\n  \"metadata\": {{\n    \"total_size\": {}\n  }},\n  \"weight_map\": {{",
                  plan.tensor_bytes());
  const char* before = "\n";
  for (const auto& [tensor, file] : file_of) {
    text += fmt::format("{}    \"{}\": \"{}\"", before, tensor, file);
    before = ",\n";
  }
  return text + "\n  }\n}\n";
}

}  // namespace

std::uint64_t PlannedFile::tensor_bytes() const {
  std::uint64_t sum = 0;
  for (const PlannedTensor& t : tensors) sum += t.bytes;
  return sum;
}

std::uint64_t RepackPlan::bytes() const {
  std::uint64_t sum = 0;
  for (const PlannedFile& file : files) sum += file.bytes;
  return sum;
}

std::uint64_t RepackPlan::tensor_bytes() const {
  std::uint64_t sum = 0;
  for (const PlannedFile& file : files) sum += file.tensor_bytes();
  return sum;
}

const PlannedFile* RepackPlan::find(std::string_view file_name) const {
  for (const PlannedFile& file : files) {
    if (file.name == file_name) return &file;
  }
  return nullptr;
}

Result<RepackPlan> plan_repack(const ModelConfig& config, std::span<const TensorInfo> tensors,
                               RepackForm form, std::int64_t chunk) {
  if (chunk < 1) {
    return error(ErrorCode::kBadArgument, "the chunk size is {} layers; 1 or more are needed",
                 chunk);
  }
  RepackPlan plan;
  plan.form = form;
  const std::int64_t count = (config.layers - 1) / chunk + 1;
  for (std::int64_t i = 0; i < count; ++i) {
    // Not (i + 1) * chunk, which overflows for a chunk near the largest number.
    const std::int64_t last = i + 1 == count ? config.layers - 1 : (i + 1) * chunk - 1;
    PlannedFile file;
    file.name = form == RepackForm::kRepacked
                    ? fmt::format("layers_{}-{}.pth", i * chunk, last)
                    : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, count);
    plan.files.push_back(std::move(file));
  }
  const TensorInfo* embedding = nullptr;
  for (const TensorInfo& t : tensors) {
    if (t.name == kEmbeddingName) embedding = &t;
    PlannedFile& file = plan.files[static_cast<std::size_t>(layer_of(t.name) / chunk)];
    file.tensors.push_back(plan_tensor(t, t.name, form, config));
  }
  TG_CHECK(embedding != nullptr);
  if (config.tied_embeddings && form == RepackForm::kRepacked) {
    plan.files.front().tensors.push_back(plan_tensor(*embedding, kHeadName, form, config));
  }
  for (PlannedFile& file : plan.files) {
    form == RepackForm::kRepacked ? lay_out_pth(file) : lay_out_safetensors(file);
  }
  if (form == RepackForm::kSafetensors) plan.index = index_text(plan);
  return plan;
}

}  // namespace tg
