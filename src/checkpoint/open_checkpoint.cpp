#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "checkpoint/file_kind.h"
#include "checkpoint/gguf_source.h"
#include "checkpoint/huggingface_source.h"
#include "checkpoint/meta_source.h"
#include "checkpoint/open_original.h"
#include "checkpoint/pth_file.h"
#include "checkpoint/safetensors_file.h"
#include "checkpoint/tensor_source.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> error_at(ErrorCode code, std::string_view place, std::string message) {
  return at_place(Error{code, std::move(message), {}}, place);
}

// The regular files of a directory, sorted by kind.
struct Listing {
  std::vector<std::string> shards;       // consolidated.NN.pth
  std::vector<std::string> repacked;     // layers_A-B.pth
  std::vector<std::string> safetensors;  // *.safetensors
  std::vector<std::string> gguf;         // *.gguf
  bool has_config = false;
  bool has_index = false;
  std::vector<std::string> all;
};

Result<Listing> list_directory(const std::string& path) {
  Listing listing;
  std::error_code failure;
  fs::directory_iterator it(path, failure);
  for (; !failure && it != fs::directory_iterator(); it.increment(failure)) {
    std::error_code ignored;  // a dangling link is no file
    if (it->is_regular_file(ignored)) listing.all.push_back(it->path().filename().string());
  }
  if (failure) {
    return error_at(ErrorCode::kIo, path, "cannot list the directory: " + failure.message());
  }
  std::sort(listing.all.begin(), listing.all.end());
  for (const std::string& name : listing.all) {
    if (shard_number(name)) listing.shards.push_back(name);
    if (layer_range(name)) listing.repacked.push_back(name);
    if (name.ends_with(".safetensors")) listing.safetensors.push_back(name);
    if (name.ends_with(".gguf")) listing.gguf.push_back(name);
    if (name == "config.json") listing.has_config = true;
    if (name == "model.safetensors.index.json") listing.has_index = true;
  }
  return listing;
}

// A large model may be split into NAME-00001-of-0000N.gguf files, which open_gguf joins from any
// one.
bool are_parts_of_one(const std::vector<std::string>& gguf) {
  constexpr std::size_t kSuffix = std::string_view("-00001-of-00009.gguf").size();
  for (const std::string& name : gguf) {
    if (name.size() <= kSuffix || name.size() != gguf.front().size()) return false;
    const std::size_t dash = name.size() - kSuffix;
    const bool same_model = name.compare(0, dash + 1, gguf.front(), 0, dash + 1) == 0;
    if (!same_model || name.compare(dash + 6, 4, "-of-") != 0) return false;
  }
  return true;
}

// What was looked for and what is there instead; the first few names are enough to see the mistake.
tl::unexpected<Error> nothing_found(const std::string& path, const Listing& listing) {
  constexpr std::size_t kShown = 6;
  std::string seen;
  for (std::size_t i = 0; i < std::min(kShown, listing.all.size()); ++i) {
    seen += (i == 0 ? ": " : ", ") + printable(listing.all[i]);
  }
  if (listing.all.size() > kShown) seen += ", ...";
  return error_at(
      ErrorCode::kNotFound, path,
      fmt::format("no checkpoint here; looked for layers_A-B.pth or consolidated.NN.pth with "
                  "params.json, config.json with .safetensors files, or one .gguf file; the "
                  "directory has {} files{}",
                  listing.all.size(), seen));
}

Result<std::unique_ptr<TensorSource>> open_directory(const std::string& path,
                                                     const OpenOptions& options,
                                                     bool skip_repacked) {
  TG_ASSIGN(Listing listing, list_directory(path));
  if (skip_repacked) listing.repacked.clear();
  // Repacked files may lie beside the shards they were made from; they are then the ones to read.
  if (!listing.repacked.empty()) return open_repacked(path, listing.repacked, options);
  if (!listing.shards.empty()) return open_meta(path, listing.shards, options);
  const bool safetensors = !listing.safetensors.empty() || listing.has_index;
  if (listing.has_config && safetensors) {
    return open_huggingface(path, listing.safetensors, listing.has_index);
  }
  if (safetensors) {
    return error_at(ErrorCode::kNotFound, path + "/config.json",
                    "no such file, though there are .safetensors files");
  }
  if (listing.gguf.size() > 1 && !are_parts_of_one(listing.gguf)) {
    return error_at(
        ErrorCode::kBadArgument, path,
        fmt::format("{} .gguf files, among them {} and {}; name the one to open",
                    listing.gguf.size(), printable(listing.gguf[0]), printable(listing.gguf[1])));
  }
  if (!listing.gguf.empty()) return open_gguf(path + "/" + listing.gguf[0], options);
  return nothing_found(path, listing);
}

Result<std::unique_ptr<TensorSource>> open_file(const std::string& path,
                                                const OpenOptions& options) {
  if (path.ends_with(".gguf")) return open_gguf(path, options);
  TG_ASSIGN(const MappedFile file, MappedFile::open(path));
  if (as_text(file.bytes()).starts_with("GGUF")) return open_gguf(path, options);
  // A part of a checkpoint: damage is worth naming before the way to call it right.
  if (path.ends_with(".safetensors")) {
    const auto entries = parse_safetensors(file.bytes());
    if (!entries) return at_place(entries.error(), path);
  } else if (path.ends_with(".pth")) {
    const auto tensors = parse_pth(file.bytes(), options.verify);
    if (!tensors) return at_place(tensors.error(), path);
  } else {
    return error_at(ErrorCode::kBadInput, path,
                    "not a checkpoint that this program reads: " + looks_like(file.bytes()));
  }
  return error_at(ErrorCode::kBadArgument, path,
                  "weights without a config; give the directory that holds the whole checkpoint");
}

Result<std::unique_ptr<TensorSource>> open_path(const std::string& path, const OpenOptions& options,
                                                bool skip_repacked) {
  std::error_code failure;
  const fs::file_status status = fs::status(path, failure);
  if (!fs::exists(status)) {
    return error_at(failure && status.type() != fs::file_type::not_found ? ErrorCode::kIo
                                                                         : ErrorCode::kNotFound,
                    path, "no such file or directory");
  }
  return fs::is_directory(status) ? open_directory(path, options, skip_repacked)
                                  : open_file(path, options);
}

}  // namespace

Result<std::unique_ptr<TensorSource>> open_checkpoint(const std::string& path,
                                                      const OpenOptions& options) {
  return open_path(path, options, /*skip_repacked=*/false);
}

Result<std::unique_ptr<TensorSource>> open_original(const std::string& path,
                                                    const OpenOptions& options) {
  return open_path(path, options, /*skip_repacked=*/true);
}

}  // namespace tg
