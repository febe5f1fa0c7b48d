#include "cli/weights_cache_option.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

#include "cli/memory.h"
#include "cli/progress_bar.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

double passed_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Result<LlamaWeights> read_weights(const WeightsAsk& ask, ThreadTeam& team,
                                  const std::string& what) {
  ProgressBar bar(what);
  return load_weights(ask.source, ask.plan, ask.block, team, ask.wish, ask.order,
                      [&bar](std::int64_t done, std::int64_t total) { bar.show(done, total); });
}

void write_weights(const std::string& path, const std::string& key, LlamaWeights& weights,
                   ThreadTeam& team) {
  const auto begin = std::chrono::steady_clock::now();
  std::error_code failure;
  fs::create_directories(fs::path(path).parent_path(), failure);
  if (failure) {
    spdlog::warn("--weights-cache: {} cannot be made: {}", fs::path(path).parent_path().string(),
                 failure.message());
    return;
  }
  Result<std::uint64_t> size = 0;
  {
    ProgressBar bar("Writing the weights cache");
    size = write_cached_weights(
        path, key, weights, team, [&bar](std::uint64_t done, std::uint64_t total) {
          bar.show(static_cast<std::int64_t>(done), static_cast<std::int64_t>(total));
        });
  }
  if (!size) {
    spdlog::warn("--weights-cache: not written, so the next start is as slow: {}",
                 size.error().text());
    return;
  }
  spdlog::info("weights cache: wrote {} ({}) in {:.1f} s; the next start maps it", path,
               bytes_text(static_cast<std::int64_t>(*size)), passed_since(begin));
}

}  // namespace

Result<std::string> weights_cache_folder(const std::string& option,
                                         const Environment& environment) {
  const auto value = [&environment](const char* name) {
    const char* text = environment(name);
    return std::string(text == nullptr ? "" : text);
  };
  std::string wished = option.empty() ? value("LLAMA_TG_CACHE") : option;
  if (wished.empty() || wished == "off") return std::string();
  if (wished != "auto") return wished;
  if (const std::string cache = value("XDG_CACHE_HOME"); !cache.empty()) {
    return cache + "/llama-tg";
  }
  if (const std::string home = value("HOME"); !home.empty()) return home + "/.cache/llama-tg";
  return error(ErrorCode::kBadArgument,
               "--weights-cache auto: neither XDG_CACHE_HOME nor HOME is set; name a folder");
}

std::string weights_cache_path(const std::string& folder, const std::string& model,
                               const WeightsAsk& ask) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(model, ignored).lexically_normal();
  std::string name =
      whole.has_filename() ? whole.filename().string() : whole.parent_path().filename().string();
  std::replace_if(
      name.begin(), name.end(),
      [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '-';
      },
      '_');
  const DeviceBlock& b = ask.block;
  const MeshShape& mesh = ask.plan.mesh();
  std::string part;
  if (b.rows() < mesh.rows || b.cols() < mesh.cols) {
    part = fmt::format("-r{}-{}-c{}-{}", b.row_begin, b.row_end, b.col_begin, b.col_end);
  }
  const std::string place = fmt::format("{}\n{}", whole.string(), ask.source.config().layers);
  return fmt::format("{}/{}-{}-{}-{}-{}{}-{:08x}.weights", folder, name.substr(0, 100),
                     tg::name(ask.wish), ask.kernels,
                     ask.order == WeightOrder::kRows ? "rows" : "pairs", text(mesh), part,
                     checksum(std::as_bytes(std::span(place))));
}

Result<LlamaWeights> load_or_map_weights(const std::string& folder, const std::string& model,
                                         const WeightsAsk& ask, ThreadTeam& team,
                                         const std::string& what) {
  if (folder.empty()) return read_weights(ask, team, what);
  const Result<std::string> key = weights_cache_key(ask);
  if (!key) {
    spdlog::info("weights cache: {}", key.error().text());
    return read_weights(ask, team, what);
  }
  const std::string path = weights_cache_path(folder, model, ask);
  const auto begin = std::chrono::steady_clock::now();
  Result<LlamaWeights> mapped = map_cached_weights(path, *key, ask, team);
  if (mapped) {
    spdlog::info("weights cache: mapped {} in {:.2f} s", path, passed_since(begin));
    return mapped;
  }
  if (mapped.error().code != ErrorCode::kNotFound) {
    spdlog::info("weights cache: not used, since {}", mapped.error().text());
  }
  TG_ASSIGN(LlamaWeights weights, read_weights(ask, team, what));
  // The checkpoint was opened before its identity was looked at: another may have its name by now.
  const Result<std::string> after = weights_cache_key(ask);
  if (!after || *after != *key) {
    spdlog::warn("weights cache: not written, since the checkpoint changed while it was read");
    return weights;
  }
  write_weights(path, *key, weights, team);
  return weights;
}

Result<std::string> weights_cache_state(const std::string& folder, const std::string& model,
                                        const WeightsAsk& ask, ThreadTeam& team, bool verify) {
  const std::string path = weights_cache_path(folder, model, ask);
  const Result<std::string> key = weights_cache_key(ask);
  if (!key && verify) return tl::unexpected(key.error());
  if (!key) return "none: " + key.error().text();
  const Result<CacheFile> cache = CacheFile::open(path, *key);
  if (!cache && verify) return tl::unexpected(cache.error());
  if (!cache && cache.error().code == ErrorCode::kNotFound) {
    return fmt::format("{}: not there yet, the next start writes it", path);
  }
  if (!cache) return "not used by a start: " + cache.error().text();
  std::string there = fmt::format(
      "{}, {}", path, bytes_text(static_cast<std::int64_t>(cache->file().bytes().size())));
  if (!verify) return there;
  ProgressBar bar("Verifying the weights cache");
  const Status whole = cache->verify(team, [&bar](std::uint64_t done, std::uint64_t total) {
    bar.show(static_cast<std::int64_t>(done), static_cast<std::int64_t>(total));
  });
  if (!whole) {
    return error(ErrorCode::kBadInput, "{}; delete the file, and the next start makes it anew",
                 whole.error().text());
  }
  return there + ", every byte verified";
}

}  // namespace tg
