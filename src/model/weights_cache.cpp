#include "model/weights_cache.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_identity.h"

namespace tg {
namespace {

// Bytes of the file that a thread brings in at a time.
constexpr std::int64_t kPiece = std::int64_t{32} << 20;

// Bytes of a block of GGUF that is packed as it is; 0 for the formats that have none.
constexpr std::int64_t stored_block_bytes(WeightFormat f) {
  switch (f) {
    case WeightFormat::kInt8:
      return kQ8Bytes;
    case WeightFormat::kInt4:
      return kQ4Bytes;
    case WeightFormat::kQ4K:
      return kQ4KBytes;
    case WeightFormat::kQ6K:
      return kQ6KBytes;
    case WeightFormat::kBf16:
    case WeightFormat::kBfp8:
    case WeightFormat::kBfp4:
      return 0;
  }
  return 0;
}

// What packing makes, in each format, of values and of stored blocks that differ in every place,
// with a panel that is not full and nothing at a round number: another order or another rounding
// gives another sum.
Result<std::string> packing_text(WeightOrder order) {
  constexpr std::int64_t kRows = kPanelWidth + 8;
  constexpr std::int64_t kColumns = 2 * kKBlockWeights;
  std::vector<float> values(static_cast<std::size_t>(kRows * kColumns));
  std::vector<std::byte> blocks(values.size() * 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i * 7919 % 4099) / 1021.0F - 2.0F;
    blocks[2 * i] = static_cast<std::byte>(i * 131 % 251);
    blocks[2 * i + 1] = static_cast<std::byte>(i * 173 % 241);
  }
  std::string text = "packing";
  for (std::size_t i = 0; i < kWeightFormats; ++i) {
    const auto format = static_cast<WeightFormat>(i);
    if (format > WeightFormat::kInt4 && order == WeightOrder::kPairs) {
      // Block float is rounded and held as bf16; the others are dequantised like any tensor.
      if (!is_bfp(format)) continue;
      std::vector<float> rounded = values;
      round_to_bfp(rounded, magnitude_bits(format));
      text += fmt::format(" {:08x}", checksum(std::as_bytes(std::span(rounded))));
      continue;
    }
    TG_ASSIGN(PackedMatrix matrix, PackedMatrix::allocate(kRows, kColumns, format, order));
    const auto add = [&] {
      text += fmt::format(" {:08x}", checksum({matrix.view().data, matrix.bytes()}));
    };
    if (!is_k_format(format)) {
      matrix.set_rows(0, kRows, values);
      add();
    }
    if (const std::int64_t bytes = stored_block_bytes(format); bytes > 0) {
      const std::int64_t in_block = is_k_format(format) ? kKBlockWeights : kGroup;
      matrix.set_blocks(0, kRows, blocks.data(), kColumns / in_block * bytes);
      add();
    }
  }
  return text + "\n";
}

std::span<const std::byte> bytes_of(const PackedMatrix& matrix) {
  return {matrix.view().data, matrix.bytes()};
}

}  // namespace

Result<std::string> weights_cache_key(const WeightsAsk& ask) {
  const ModelConfig& c = ask.source.config();
  const std::vector<std::string> files = ask.source.files();
  if (files.empty()) {
    return error(ErrorCode::kUnsupported, "these weights come from no file, so none is kept");
  }
  TG_ASSIGN(const std::string identity, checkpoint_identity(files));
  TG_ASSIGN(const std::string packing, packing_text(ask.order));
  std::string text = "packed weights of Llama3 TG\n" + identity + packing;
  text += fmt::format(
      "read as {}: {} layers, hidden {}, feed-forward {}, heads {}/{} of {}, vocabulary {}{}\n",
      c.format, c.layers, c.dim, c.ffn_dim, c.heads, c.kv_heads, c.head_dim, c.vocab,
      c.tied_embeddings ? ", tied" : "");
  text += fmt::format("mesh {}, rows {}..{}, columns {}..{}\nkernels {}\nwished {}\n",
                      tg::text(ask.plan.mesh()), ask.block.row_begin, ask.block.row_end,
                      ask.block.col_begin, ask.block.col_end, ask.kernels, name(ask.wish));
  const WeightFormats formats = weight_formats(ask.source, ask.wish, ask.plan, ask.order);
  text += fmt::format("embedding {}, output {}\n", name(formats.embedding), name(formats.output));
  for (const LayerFormats& f : formats.layers) {
    text += fmt::format("{} {} {} {} {} {}\n", name(f.wqkv), name(f.wv), name(f.wo), name(f.w1),
                        name(f.w3), name(f.w2));
  }
  return text;
}

Result<LlamaWeights> map_cached_weights(const std::string& path, std::string_view key,
                                        const WeightsAsk& ask, ThreadTeam& team) {
  TG_ASSIGN(CacheFile opened, CacheFile::open(path, key));
  const auto cache = std::make_shared<const CacheFile>(std::move(opened));
  cache->file().expect_use();
  TG_ASSIGN(LlamaWeights weights,
            outline_weights(ask.source, ask.plan, ask.block, ask.wish, ask.order));
  const std::vector<PackedMatrix*> matrices = weights.matrices();
  const std::vector<std::vector<float>*> norms = weights.norms();
  const auto wrong = [&path](const std::string& what) {
    return at_place(Error{ErrorCode::kBadInput, what, {}}, path);
  };
  if (cache->sections() != matrices.size() + norms.size()) {
    return wrong(fmt::format("{} sections for {} matrices and {} norms", cache->sections(),
                             matrices.size(), norms.size()));
  }
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const std::span<const std::byte> section = cache->section(i);
    if (section.size() != matrices[i]->bytes()) {
      return wrong(fmt::format("section {} has {} bytes, the matrix needs {}", i, section.size(),
                               matrices[i]->bytes()));
    }
    PackedView view = matrices[i]->view();
    view.data = section.data();
    *matrices[i] = PackedMatrix::over(view);
  }
  // Norms are a few KiB each, and small vectors are what the layers take: they are copied.
  for (std::size_t i = 0; i < norms.size(); ++i) {
    const std::span<const std::byte> section = cache->section(matrices.size() + i);
    if (section.size() != norms[i]->size() * sizeof(float)) {
      return wrong(fmt::format("section {} has {} bytes, the norm needs {}", matrices.size() + i,
                               section.size(), norms[i]->size() * sizeof(float)));
    }
    std::memcpy(norms[i]->data(), section.data(), section.size());
  }
  const auto bytes = static_cast<std::int64_t>(cache->file().bytes().size());
  team.for_pieces(bytes, kPiece, [&cache](std::int64_t begin, std::int64_t end) {
    cache->file().populate(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  });
  weights.mapped = cache;
  return weights;
}

Result<std::uint64_t> write_cached_weights(const std::string& path, std::string_view key,
                                           LlamaWeights& weights, ThreadTeam& team,
                                           const CacheProgress& progress) {
  std::vector<std::span<const std::byte>> sections;
  for (const PackedMatrix* matrix : weights.matrices()) sections.push_back(bytes_of(*matrix));
  for (const std::vector<float>* norm : weights.norms()) {
    sections.push_back(std::as_bytes(std::span(*norm)));
  }
  return write_cache_file(path, key, sections, team, progress);
}

}  // namespace tg
