#include "checkpoint/meta_source.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <utility>

#include "base/mapped_file.h"
#include "checkpoint/config_readers.h"
#include "checkpoint/file_kind.h"
#include "checkpoint/joined_source.h"
#include "checkpoint/pth_file.h"

namespace tg {
namespace {

constexpr std::string_view kEmbedding = "tok_embeddings.weight";

// Decimal digits only, all of `text`.
std::optional<std::int64_t> natural(std::string_view text) {
  std::int64_t value = 0;
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (!digits || failure != std::errc{}) return std::nullopt;
  return value;
}

std::optional<std::string_view> between(std::string_view text, std::string_view before,
                                        std::string_view after) {
  if (!text.starts_with(before) || !text.ends_with(after) ||
      text.size() < before.size() + after.size()) {
    return std::nullopt;
  }
  return text.substr(before.size(), text.size() - before.size() - after.size());
}

// All files of a directory, mapped, and where each tensor has its pieces, in the files' order.
struct PthFiles {
  std::vector<MappedFile> mapped;
  std::map<std::string, std::vector<Piece>, std::less<>> pieces;
};

Result<PthFiles> open_files(const std::string& directory, const std::vector<std::string>& names,
                            const OpenOptions& options) {
  PthFiles files;
  for (const std::string& file_name : names) {
    const std::string path = fmt::format("{}/{}", directory, file_name);
    TG_ASSIGN(MappedFile file, MappedFile::open(path));
    Result<std::vector<StoredTensor>> tensors = parse_pth(file.bytes(), options.verify);
    if (!tensors) return at_place(std::move(tensors).error(), path);
    for (StoredTensor& tensor : *tensors) {
      std::vector<Piece>& pieces = files.pieces[tensor.name];
      pieces.push_back({.file = files.mapped.size(), .stored = std::move(tensor)});
    }
    // A check reads everything once; without this the whole checkpoint would stay mapped in.
    if (options.verify) file.drop(0, file.bytes().size());
    files.mapped.push_back(std::move(file));
  }
  return files;
}

Result<ModelConfig> read_params(const std::string& directory, std::string_view format) {
  const std::string path = directory + "/params.json";
  TG_ASSIGN(const MappedFile file, MappedFile::open(path));
  Result<ModelConfig> config = read_meta_params(as_text(file.bytes()));
  if (!config) return at_place(std::move(config).error(), path);
  config->format = format;
  return config;
}

bool is_norm(std::string_view name) { return name.ends_with("norm.weight"); }

// Meta's model-parallel layers: wo and w2 multiply the cut activations, so they are cut by columns;
// all others make cut activations and are cut by rows.
Cut cut_of(std::string_view name, std::int64_t stored_columns, const ModelConfig& config) {
  if (name.ends_with(".wo.weight") || name.ends_with(".w2.weight")) return Cut::kColumns;
  if (name == kEmbedding && stored_columns != config.dim) return Cut::kColumns;  // Llama 2
  return Cut::kRows;
}

// A params.json without vocab_size leaves it to the embedding's shape.
Status fill_vocab(const PthFiles& files, ModelConfig& config) {
  if (config.vocab != 0) return {};
  const auto found = files.pieces.find(kEmbedding);
  if (found == files.pieces.end()) {
    return error(ErrorCode::kBadInput, "tensor \"{}\" is missing", kEmbedding);
  }
  const std::vector<std::int64_t>& shape = found->second.front().stored.shape;
  if (shape.size() != 2) {
    return error(ErrorCode::kBadInput, "tensor \"{}\" has shape {}, not two dimensions", kEmbedding,
                 shape_text(shape));
  }
  const auto pieces = static_cast<std::int64_t>(found->second.size());
  const bool by_rows = cut_of(kEmbedding, shape[1], config) == Cut::kRows;
  if (__builtin_mul_overflow(shape[0], by_rows ? pieces : 1, &config.vocab)) {
    return error(ErrorCode::kBadInput, "tensor \"{}\" has shape {}", kEmbedding, shape_text(shape));
  }
  return check_config(config);
}

// Takes every tensor that the config implies out of `files`; what is left must be known to be of no
// use. `pieces_per_tensor` is the number of shards.
Result<std::vector<JoinedTensor>> join_all(PthFiles& files, const ModelConfig& config,
                                           std::size_t pieces_per_tensor) {
  std::vector<JoinedTensor> joined;
  for (const TensorInfo& expected : expected_tensors(config)) {
    const auto found = files.pieces.find(expected.name);
    if (found == files.pieces.end()) {
      return error(ErrorCode::kBadInput, "tensor \"{}\" is missing", expected.name);
    }
    std::vector<Piece> pieces = std::move(found->second);
    files.pieces.erase(found);
    if (pieces.size() != pieces_per_tensor) {
      return error(ErrorCode::kBadInput, "tensor \"{}\" is in {} files, not in {}", expected.name,
                   pieces.size(), pieces_per_tensor);
    }
    if (is_norm(expected.name)) pieces.resize(1);
    const std::vector<std::int64_t>& shape = pieces.front().stored.shape;
    const Cut cut = cut_of(expected.name, shape.empty() ? 0 : shape.back(), config);
    TG_ASSIGN(JoinedTensor tensor, join_pieces(expected, cut, std::move(pieces), expected.name));
    joined.push_back(std::move(tensor));
  }
  for (const auto& [name, pieces] : files.pieces) {
    if (name == "rope.freqs") continue;  // Llama 2 stores what rope_theta says
    return error(ErrorCode::kUnsupported,
                 "tensor \"{}\" is no part of a Llama model with {} layers", printable(name),
                 config.layers);
  }
  return joined;
}

Result<std::unique_ptr<TensorSource>> open_named(const std::string& directory,
                                                 const std::vector<std::string>& file_names,
                                                 std::size_t pieces_per_tensor, ModelConfig config,
                                                 const OpenOptions& options) {
  TG_ASSIGN(PthFiles files, open_files(directory, file_names, options));
  if (const Status filled = fill_vocab(files, config); !filled) {
    return at_place(filled.error(), directory);
  }
  Result<std::vector<JoinedTensor>> joined = join_all(files, config, pieces_per_tensor);
  if (!joined) return at_place(std::move(joined).error(), directory);
  return std::make_unique<JoinedSource>(std::move(config), std::move(files.mapped),
                                        *std::move(joined));
}

}  // namespace

std::optional<std::int64_t> shard_number(std::string_view file_name) {
  const std::optional<std::string_view> number = between(file_name, "consolidated.", ".pth");
  return number ? natural(*number) : std::nullopt;
}

std::optional<LayerRange> layer_range(std::string_view file_name) {
  const std::optional<std::string_view> range = between(file_name, "layers_", ".pth");
  if (!range) return std::nullopt;
  const std::size_t dash = range->find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::optional<std::int64_t> first = natural(range->substr(0, dash));
  const std::optional<std::int64_t> last = natural(range->substr(dash + 1));
  if (!first || !last) return std::nullopt;
  return LayerRange{*first, *last};
}

Result<std::unique_ptr<TensorSource>> open_meta(const std::string& directory,
                                                const std::vector<std::string>& file_names,
                                                const OpenOptions& options) {
  std::map<std::int64_t, std::string> by_number;  // a text sort would put 10 before 2
  for (const std::string& name : file_names) {
    const std::optional<std::int64_t> number = shard_number(name);
    TG_CHECK(number.has_value());
    const auto [other, is_new] = by_number.emplace(*number, name);
    if (!is_new) {
      return at_place(
          Error{ErrorCode::kBadInput,
                fmt::format("\"{}\" and \"{}\" are both shard {}", other->second, name, *number),
                {}},
          directory);
    }
  }
  std::vector<std::string> ordered;
  for (const auto& [number, name] : by_number) {
    const auto wanted = static_cast<std::int64_t>(ordered.size());
    if (number != wanted) {
      return at_place(Error{ErrorCode::kBadInput,
                            fmt::format("shard consolidated.{:02}.pth is missing, though \"{}\" "
                                        "is there",
                                        wanted, name),
                            {}},
                      directory);
    }
    ordered.push_back(name);
  }
  TG_ASSIGN(ModelConfig config, read_params(directory, "meta"));
  return open_named(directory, ordered, ordered.size(), std::move(config), options);
}

Result<std::unique_ptr<TensorSource>> open_repacked(const std::string& directory,
                                                    const std::vector<std::string>& file_names,
                                                    const OpenOptions& options) {
  TG_ASSIGN(ModelConfig config, read_params(directory, "repacked"));
  std::vector<std::pair<LayerRange, std::string>> files;
  for (const std::string& name : file_names) {
    const std::optional<LayerRange> range = layer_range(name);
    TG_CHECK(range.has_value());
    files.emplace_back(*range, name);
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.first, a.first.last) < std::pair(b.first.first, b.first.last);
  });
  std::vector<std::string> ordered;
  std::int64_t next = 0;
  for (const auto& [range, name] : files) {
    if (range.first != next || range.last < range.first || range.last >= config.layers) {
      return at_place(
          Error{ErrorCode::kBadInput,
                fmt::format("\"{}\" should start at layer {} and end before layer {} (params.json)",
                            name, next, config.layers),
                {}},
          directory);
    }
    next = range.last + 1;
    ordered.push_back(name);
  }
  if (next != config.layers) {
    return at_place(Error{ErrorCode::kBadInput,
                          fmt::format("the files hold layers 0 to {}, params.json says {} layers",
                                      next - 1, config.layers),
                          {}},
                    directory);
  }
  return open_named(directory, ordered, 1, std::move(config), options);
}

}  // namespace tg
