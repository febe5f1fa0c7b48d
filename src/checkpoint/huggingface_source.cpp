#include "checkpoint/huggingface_source.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/mapped_file.h"
#include "checkpoint/config_readers.h"
#include "checkpoint/file_kind.h"
#include "checkpoint/joined_source.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/safetensors_file.h"

namespace tg {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr std::string_view kHead = "lm_head.weight";

struct NamePair {
  std::string_view meta;
  std::string_view huggingface;
};
constexpr std::array kOuterNames = {
    NamePair{"tok_embeddings.weight", "model.embed_tokens.weight"},
    NamePair{"norm.weight", "model.norm.weight"},
    NamePair{"output.weight", kHead},
};
constexpr std::array kLayerNames = {
    NamePair{"attention_norm.weight", "input_layernorm.weight"},
    NamePair{"attention.wq.weight", "self_attn.q_proj.weight"},
    NamePair{"attention.wk.weight", "self_attn.k_proj.weight"},
    NamePair{"attention.wv.weight", "self_attn.v_proj.weight"},
    NamePair{"attention.wo.weight", "self_attn.o_proj.weight"},
    NamePair{"ffn_norm.weight", "post_attention_layernorm.weight"},
    NamePair{"feed_forward.w1.weight", "mlp.gate_proj.weight"},
    NamePair{"feed_forward.w2.weight", "mlp.down_proj.weight"},
    NamePair{"feed_forward.w3.weight", "mlp.up_proj.weight"},
};

// Old checkpoints store the rope frequencies, which rope_theta gives.
bool is_harmless(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

Result<HuggingFaceConfig> read_configs(const std::string& directory) {
  const std::string path = directory + "/config.json";
  TG_ASSIGN(const MappedFile file, MappedFile::open(path));
  Result<HuggingFaceConfig> config = read_huggingface_config(as_text(file.bytes()));
  if (!config) return at_place(std::move(config).error(), path);

  const std::string generation_path = directory + "/generation_config.json";
  const Result<MappedFile> generation = MappedFile::open(generation_path);
  if (!generation) {
    if (generation.error().code == ErrorCode::kNotFound) return config;
    return tl::unexpected<Error>(generation.error());
  }
  const Status read = read_generation_config(as_text(generation->bytes()), config->config);
  if (!read) return at_place(read.error(), generation_path);
  return config;
}

// Which file holds which tensor, as the index says. Without an index: no tensors, one file.
struct FilePlan {
  std::vector<std::string> files;
  std::map<std::string, std::size_t, std::less<>> file_of;
  bool indexed = false;
};

Result<FilePlan> read_index(const std::string& directory) {
  TG_ASSIGN(const MappedFile file, MappedFile::open(directory + "/" + kIndexFile));
  TG_ASSIGN(const nlohmann::json object, JsonFields::parse_object(as_text(file.bytes())));
  const nlohmann::json* map = JsonFields(object).find("weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    return error(ErrorCode::kBadInput, "no object \"weight_map\" with tensors in it");
  }
  FilePlan plan{.files = {}, .file_of = {}, .indexed = true};
  std::map<std::string, std::size_t> number_of;
  for (const auto& [tensor, value] : map->items()) {
    if (!value.is_string()) {
      return error(ErrorCode::kBadInput, "tensor \"{}\" is not mapped to a file name",
                   printable(tensor));
    }
    const std::string& name = value.get_ref<const std::string&>();
    // The index may name files of its own directory only.
    const bool plain = !name.empty() &&
                       name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos &&
                       name.find("..") == std::string::npos;
    if (!plain) {
      return error(ErrorCode::kBadInput,
                   "tensor \"{}\" is mapped to \"{}\", not to a plain file name", printable(tensor),
                   printable(name));
    }
    const auto [found, is_new] = number_of.emplace(name, plan.files.size());
    if (is_new) plan.files.push_back(name);
    plan.file_of.emplace(tensor, found->second);
  }
  return plan;
}

Result<FilePlan> plan_files(const std::string& directory, const std::vector<std::string>& names,
                            bool has_index) {
  const bool single = std::find(names.begin(), names.end(), kSingleFile) != names.end();
  if (single) return FilePlan{.files = {kSingleFile}, .file_of = {}};
  if (has_index) {
    Result<FilePlan> plan = read_index(directory);
    if (plan || !plan.error().place.empty()) return plan;
    return at_place(std::move(plan).error(), directory + "/" + kIndexFile);
  }
  if (names.size() == 1) return FilePlan{.files = names, .file_of = {}};
  return at_place(Error{ErrorCode::kNotFound,
                        fmt::format("{} .safetensors files but no {} to say which tensor is where",
                                    names.size(), kIndexFile),
                        {}},
                  directory);
}

// Every tensor of the planned files, by its name.
struct SafetensorsFiles {
  std::vector<MappedFile> mapped;
  std::map<std::string, Piece, std::less<>> tensors;
};

Status add_file(const FilePlan& plan, std::size_t number, const HuggingFaceConfig& config,
                SafetensorsFiles& files) {
  const MappedFile& file = files.mapped[number];
  TG_ASSIGN(const std::vector<SafetensorsEntry> entries, parse_safetensors(file.bytes()));
  for (const SafetensorsEntry& entry : entries) {
    const auto planned = plan.file_of.find(entry.name);
    if (plan.indexed && planned == plan.file_of.end()) {
      return error(ErrorCode::kBadInput, "tensor \"{}\" is not in {}", printable(entry.name),
                   kIndexFile);
    }
    if (plan.indexed && planned->second != number) continue;  // a copy that the index does not use
    if (is_harmless(entry.name)) continue;
    Result<StoredTensor> tensor = as_float_tensor(entry);
    if (!tensor) {
      Error e = std::move(tensor).error();
      if (!config.quantization.empty()) {
        e.message += fmt::format(" (quantization_config: \"{}\")", printable(config.quantization));
      }
      return tl::unexpected<Error>(std::move(e));
    }
    files.tensors.emplace(entry.name, Piece{.file = number, .stored = *std::move(tensor)});
  }
  return {};
}

Result<SafetensorsFiles> open_files(const std::string& directory, const FilePlan& plan,
                                    const HuggingFaceConfig& config) {
  SafetensorsFiles files;
  for (std::size_t number = 0; number < plan.files.size(); ++number) {
    const std::string path = directory + "/" + plan.files[number];
    TG_ASSIGN(MappedFile file, MappedFile::open(path));
    files.mapped.push_back(std::move(file));
    const Status added = add_file(plan, number, config, files);
    if (!added) return at_place(added.error(), path);
  }
  return files;
}

Result<std::vector<JoinedTensor>> map_all(SafetensorsFiles& files, const ModelConfig& config) {
  std::vector<JoinedTensor> joined;
  for (const TensorInfo& expected : expected_tensors(config)) {
    const std::string stored_name = huggingface_name(expected.name);
    const auto found = files.tensors.find(stored_name);
    if (found == files.tensors.end()) {
      const std::string_view hint =
          stored_name == kHead ? ", and \"tie_word_embeddings\" is not true" : "";
      return error(ErrorCode::kBadInput, "tensor \"{}\" is missing{}", stored_name, hint);
    }
    std::vector<Piece> pieces;
    pieces.push_back(std::move(found->second));
    files.tensors.erase(found);
    TG_ASSIGN(JoinedTensor tensor,
              join_pieces(expected, Cut::kRows, std::move(pieces), stored_name));
    if (expected.name.ends_with(".wq.weight")) tensor.half_split_heads = config.heads;
    if (expected.name.ends_with(".wk.weight")) tensor.half_split_heads = config.kv_heads;
    joined.push_back(std::move(tensor));
  }
  for (const auto& [name, piece] : files.tensors) {
    if (name == kHead) continue;  // tied: transformers too takes the embedding, whatever is stored
    if (name.ends_with(".bias")) {
      return error(ErrorCode::kUnsupported, "tensor \"{}\": biases are not done", printable(name));
    }
    return error(ErrorCode::kUnsupported,
                 "tensor \"{}\" is no part of a Llama model with {} layers", printable(name),
                 config.layers);
  }
  return joined;
}

}  // namespace

std::string huggingface_name(std::string_view meta_name) {
  for (const NamePair& pair : kOuterNames) {
    if (meta_name == pair.meta) return std::string(pair.huggingface);
  }
  constexpr std::string_view kLayers = "layers.";
  TG_CHECK(meta_name.starts_with(kLayers));
  const std::size_t dot = meta_name.find('.', kLayers.size());
  TG_CHECK(dot != std::string_view::npos);
  const std::string_view rest = meta_name.substr(dot + 1);
  for (const NamePair& pair : kLayerNames) {
    if (rest == pair.meta) {
      return fmt::format("model.{}.{}", meta_name.substr(0, dot), pair.huggingface);
    }
  }
  const bool is_expected = false;
  TG_CHECK(is_expected);
  return {};
}

Result<std::unique_ptr<TensorSource>> open_huggingface(
    const std::string& directory, const std::vector<std::string>& safetensors_names,
    bool has_index) {
  TG_ASSIGN(HuggingFaceConfig config, read_configs(directory));
  TG_ASSIGN(const FilePlan plan, plan_files(directory, safetensors_names, has_index));
  TG_ASSIGN(SafetensorsFiles files, open_files(directory, plan, config));
  if (!config.quantization.empty()) {
    return at_place(Error{ErrorCode::kUnsupported,
                          fmt::format("quantization_config: method \"{}\" is not done",
                                      printable(config.quantization)),
                          {}},
                    directory + "/config.json");
  }
  Result<std::vector<JoinedTensor>> joined = map_all(files, config.config);
  if (!joined) return at_place(std::move(joined).error(), directory);
  return std::make_unique<JoinedSource>(std::move(config.config), std::move(files.mapped),
                                        *std::move(joined));
}

}  // namespace tg
